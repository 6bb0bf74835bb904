from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.errors import SinkError, StopGroupError
from coinstream.messages import Level1
from coinstream.settings import BrokerSettings
from coinstream.sinks import open_sink, run_sink
from tests.conftest import TopicFactory
from tests.support import unique, wait_until

NOW = datetime(2026, 1, 2, tzinfo=UTC)
FROM_START = GroupOptions(offset_reset="earliest")


def test_every_message_is_a_line_once_also_over_two_runs(
    broker_settings: BrokerSettings, topic: TopicFactory, tmp_path: Path
) -> None:
    name, target, group = topic("crypto-level1", partitions=4), tmp_path / "quotes.jsonl", unique("sink")
    quotes = [Level1("binance", f"C{n % 7}/USDT", n + 1.0, n + 2.0, 1.0, 1.0, NOW, NOW) for n in range(3000)]
    with RedpandaClient(broker_settings) as client:
        for part in (quotes[:2000], quotes[2000:]):
            client.produce(name, part)
            client.flush()
            sink = open_sink("jsonl", str(target))
            report = run_sink(sink, client, [name], group=group, options=FROM_START, idle_s=1)
            assert report.handled == len(part)
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert len({(line["partition"], line["offset"]) for line in lines}) == len(lines) == 3000
    assert sorted(line["message"]["bestBid"] for line in lines) == [quote.best_bid for quote in quotes]


def test_an_unknown_sink_and_a_bad_target_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SinkError, match=r"no sink 'csv'; there are: jsonl, parquet, postgres"):
        open_sink("csv", "x")
    with pytest.raises(SinkError, match=r"cannot open .*missing.*No such file"):
        open_sink("jsonl", str(tmp_path / "missing" / "x.jsonl"))


class Slow:
    """A sink whose first write takes longer than the sink may be idle."""

    def __init__(self) -> None:
        self.looks, self.written = 0, 0

    def look(self, _: int) -> None:
        """Count how often the sink was checked for being idle."""
        self.looks += 1

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        if not self.written:
            start = self.looks
            wait_until(lambda: self.looks >= start + 20, what="the sink would be idle")
        self.written += len(messages)

    def close(self) -> None: ...


def test_a_sink_is_not_idle_while_it_writes(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name, sink = topic("crypto-level1"), Slow()
    options = GroupOptions(offset_reset="earliest", batch_size=10)
    with RedpandaClient(broker_settings) as client:
        client.produce(name, [Level1("binance", "BTC/USDT", 1.0, 2.0, 1.0, 1.0, NOW, NOW)] * 30)
        client.flush()
        run_sink(sink, client, [name], group=unique("sink"), options=options, idle_s=1, on_progress=sink.look)
    assert sink.written == 30


class Unreachable:
    """A sink whose target is away."""

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        raise SinkError("the database does not answer")

    def close(self) -> None: ...


def test_a_target_that_stays_away_stops_the_group_and_makes_no_dead_letters(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name, group = topic("crypto-level1"), unique("sink")
    options = GroupOptions(offset_reset="earliest", retries=2, retry_backoff_ms=1)
    with RedpandaClient(broker_settings) as client:
        client.produce(name, [Level1("binance", "BTC/USDT", 1.0, 2.0, 1.0, 1.0, NOW, NOW)] * 5)
        client.flush()
        with pytest.raises(StopGroupError, match=r"does not answer.*Nothing was lost"):
            run_sink(Unreachable(), client, [name], group=group, options=options, idle_s=5)
    admin = AdminClient({"bootstrap.servers": broker_settings.brokers})
    assert f"{name}.dlq" not in admin.list_topics(timeout=10).topics
