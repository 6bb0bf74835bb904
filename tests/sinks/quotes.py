"""Quotes and trades that the tests of sinks write."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions, GroupReport
from coinstream.messages import Book, Level1, Message
from coinstream.settings import BrokerSettings
from coinstream.sinks import SINKS, open_sink, run_sink

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def quotes(first: int, count: int) -> list[Message]:
    """Return quotes numbered by their bid."""
    return [
        Level1("binance", f"C{n % 7}/USDT", n + 1.0, n + 2.0, 0.1, 1.0, NOW, NOW + timedelta(milliseconds=n))
        for n in range(first, first + count)
    ]


def books(count: int) -> list[Message]:
    """Return books, which hold lists."""
    return [
        Book(
            exchange_id="kraken",
            symbol="BTC/USD",
            bids=[(n + 1.0, 0.5)],
            asks=[(n + 2.0, 0.25), (n + 3.0, 1.0)],
            depth=10,
            sequence=n,
            timestamp=NOW,
            last_updated=NOW + timedelta(milliseconds=n),
        )
        for n in range(count)
    ]


def consumed(count: int) -> list[ConsumedMessage]:
    """Return quotes as a consumer group passes them to a sink."""

    def one(offset: int, quote: Message) -> ConsumedMessage:
        fields = {
            "topic": "crypto-level1",
            "partition": 0,
            "offset": offset,
            "key": None,
            "timestamp": (1, 1_767_312_000_000),
        }
        record = SimpleNamespace(**{name: partial(_same, value) for name, value in fields.items()})
        return ConsumedMessage(quote, cast("Any", record))

    return [one(offset, quote) for offset, quote in enumerate(quotes(0, count))]


def _same(value: object) -> object:
    return value


def publish(brokers: BrokerSettings, topic: str, messages: Sequence[Message]) -> None:
    """Produce messages to a topic."""
    with RedpandaClient(brokers) as client:
        client.produce(topic, messages)
        client.flush()


def drain(brokers: BrokerSettings, topic: str, group: str, sink: str, target: str) -> GroupReport:
    """Run a sink until the topic has no more messages."""
    options = GroupOptions(offset_reset="earliest", batch_size=SINKS[sink].batch_size, retries=1)
    with RedpandaClient(brokers) as client:
        return run_sink(open_sink(sink, target), client, [topic], group=group, options=options, idle_s=1)
