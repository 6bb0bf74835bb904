"""Reads a topic with a bare client."""

from __future__ import annotations

from confluent_kafka import Consumer

from tests.support import unique


def read_all(bootstrap: str, topic: str, count: int) -> set[bytes]:
    """Return the values of a topic that holds exactly `count` messages."""
    consumer = Consumer(
        {"bootstrap.servers": bootstrap, "group.id": unique("reader"), "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    seen: list[bytes] = []
    try:
        while len(seen) < count:
            messages = consumer.consume(count - len(seen), 15)
            assert messages, f"only {len(seen)} of {count} arrived"
            assert not any(message.error() for message in messages)
            seen.extend(message.value() or b"" for message in messages)
    finally:
        consumer.close()
    assert len(seen) == count
    return set(seen)
