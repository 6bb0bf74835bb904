"""Provide distinguishable quotes and a reader of topics to the producer tests."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from confluent_kafka import Consumer, KafkaError, TopicPartition
from confluent_kafka import Message as KafkaMessage

from coinstream.messages import Level1

START = datetime(2024, 8, 8, 12, tzinfo=UTC)


def quote(symbol: str, number: int = 0, exchange: str = "binance") -> Level1:
    """Return a book top; `number` tells messages of one symbol apart, in `bid_size`."""
    at = START + timedelta(milliseconds=number)
    return Level1(exchange, symbol, 60_000.25, 60_000.5, float(number), 1.0, at, at)


def quotes(count: int, start: int = 0, symbols: int = 20) -> list[Level1]:
    """Numbered from `start`, of so many symbols in turns."""
    return [quote(f"S{n % symbols}/USDT", n) for n in range(start, start + count)]


def read(bootstrap: str, topic: str, count: int, *, timeout_s: float = 60.0) -> list[KafkaMessage]:
    """All committed records of a topic, in order within each partition: at least `count`, then to the end."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": "reader", "isolation.level": "read_committed"}
        | {"auto.offset.reset": "earliest", "enable.partition.eof": True}
    )
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        return _drain(consumer, len(partitions), count, time.monotonic() + timeout_s)
    finally:
        consumer.close()


def _drain(consumer: Consumer, partitions: int, count: int, deadline: float) -> list[KafkaMessage]:
    records: list[KafkaMessage] = []
    at_end: set[int | None] = set()
    while len(at_end) < partitions or len(records) < count:
        if time.monotonic() > deadline:
            raise AssertionError(f"only {len(records)} of {count} records could be read")
        for found in consumer.consume(10_000, 0.1):
            error = found.error()
            if error is None:
                records.append(found)
            elif error.code() == KafkaError._PARTITION_EOF:
                at_end.add(found.partition())
    return records


def numbers_by_key(records: Sequence[KafkaMessage]) -> dict[bytes, list[int]]:
    """Return the numbers of quotes by key, in the order of the log."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for record in records:
        found[bytes(record.key() or b"")].append(int(msgspec.json.decode(record.value() or b"")["bidSize"]))
    return found
