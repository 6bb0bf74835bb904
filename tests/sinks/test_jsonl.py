from __future__ import annotations

import json
import os
import resource
import signal
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
from tests.sinks.quotes import consumed
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


class FailsOnce:
    """A sink whose first write fails."""

    def __init__(self) -> None:
        self.failures, self.written = 0, 0

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        if not self.failures:
            self.failures += 1
            raise ValueError("first write")
        self.written += len(messages)

    def close(self) -> None: ...


def test_a_sink_is_not_idle_before_a_retry(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name, sink = topic("crypto-level1"), FailsOnce()
    options = GroupOptions(offset_reset="earliest", retries=1, retry_backoff_ms=2_000)
    with RedpandaClient(broker_settings) as client:
        client.produce(name, [Level1("binance", "BTC/USDT", 1.0, 2.0, 1.0, 1.0, NOW, NOW)] * 5)
        client.flush()
        report = run_sink(sink, client, [name], group=unique("sink"), options=options, idle_s=0.5)
    assert (sink.failures, sink.written, report.handled, report.unfinished) == (1, 5, 5, 0)


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


@pytest.mark.parametrize(
    "torn",
    [b'{"topic":"crypto-level1","message":{"bes', b"\xe2\x82", b"x" * 200_000],
    ids=["json", "bytes", "long"],
)
def test_a_line_that_a_killed_sink_left_incomplete_is_removed(tmp_path: Path, torn: bytes) -> None:
    target = tmp_path / "quotes.jsonl"
    whole = b'{"message": 1}\n{"message": 2}\n'
    for start in (whole, b""):
        target.write_bytes(start + torn)
        sink = open_sink("jsonl", str(target))
        assert target.read_bytes() == start
        sink.write(consumed(2))
        sink.close()
        lines = [json.loads(line) for line in target.read_bytes().removeprefix(start).splitlines()]
        assert [line["message"]["bestBid"] for line in lines] == [1.0, 2.0]


def test_a_complete_last_line_without_a_line_feed_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "quotes.jsonl"
    target.write_bytes(b'{"message": 1}\n{"message": 2}')
    sink = open_sink("jsonl", str(target))
    sink.write(consumed(1))
    sink.close()
    assert len([json.loads(line) for line in target.read_bytes().splitlines()]) == 3


def test_a_full_disk_is_an_error_of_the_sink_and_leaves_no_part_of_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "quotes.jsonl"
    sink = open_sink("jsonl", str(target))
    sink.write(consumed(1))
    before = target.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 20, limits[1]))
    try:
        with pytest.raises(SinkError, match=r"cannot write .*File too large"):
            sink.write(consumed(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert target.read_bytes() == before
    sink.write(consumed(3))
    sink.close()
    assert len([json.loads(line) for line in target.read_bytes().splitlines()]) == 4


def test_lines_go_into_a_pipe(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    sink = open_sink("jsonl", str(fifo))
    sink.write(consumed(2))
    sink.close()
    lines = os.read(reader, 100_000).splitlines()
    os.close(reader)
    assert [json.loads(line)["message"]["bestBid"] for line in lines] == [1.0, 2.0]
