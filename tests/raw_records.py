"""Produce records that other clients could send: header names that are not UTF-8, any timestamp."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from kafka import KafkaProducer


class RawRecord(NamedTuple):
    """One record. The names of headers are bytes."""

    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[bytes, bytes]] = ()
    timestamp_ms: int | None = None
    partition: int | None = None


class _Name(str):
    """A text whose encoding is given: kafka-python encodes header names itself."""

    _raw: bytes

    def __new__(cls, raw: bytes) -> _Name:
        self = super().__new__(cls, raw.decode("latin-1"))
        self._raw = raw
        return self

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return self._raw


def produce_raw(bootstrap: str, topic: str, records: Sequence[RawRecord], **options: Any) -> None:
    """Write the records and wait until all are acknowledged."""
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", max_block_ms=30_000, **options)
    try:
        sent = [
            producer.send(
                topic,
                record.value,
                record.key,
                [(_Name(name), content) for name, content in record.headers],
                record.partition,
                record.timestamp_ms,
            )
            for record in records
        ]
        for future in sent:
            future.get(30)
    finally:
        producer.close()
