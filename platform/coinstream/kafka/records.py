"""Read the parts of a Kafka record: position, key, value, headers and timestamp."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Message as Record

from coinstream.errors import DecodeError

Headers = list[tuple[str, bytes]]
AnyHeaders = Mapping[str, str | bytes] | Sequence[tuple[str, str | bytes]]
"""Record headers as callers may give them: a mapping or a list of pairs, with text or bytes as values."""
PartitionKey = tuple[str, int]
"""A topic and a partition."""

_ENVELOPE: Final = 512
"""Approximate memory of a record in addition to its payload, in bytes."""
_read_headers: Final = operator.methodcaller("headers")
"""Calls `Message.headers`. CPython 3.11 does not see the error of a direct call once it has optimised it."""
_UNREADABLE: Final[list[tuple[str, str | bytes | None]]] = [("coinstream-unreadable", b"")]
"""Marker for headers that could not be read, compared by identity."""


def weight_of(records: Sequence[Record]) -> int:
    """Return the approximate memory of records in bytes."""
    return sum(map(len, records)) + _ENVELOPE * len(records)


def partition_of(record: Record) -> PartitionKey:
    """Return the topic and partition of a record."""
    partition = record.partition()
    return record.topic() or "", -1 if partition is None else partition


def offset_of(record: Record) -> int:
    """Return the offset of a record; -1 if it has none."""
    offset = record.offset()
    return -1 if offset is None else offset


def value_of(record: Record) -> bytes | None:
    """Return the payload of a record."""
    return _bytes(record.value())


def key_of(record: Record) -> bytes | None:
    """Return the key of a record."""
    return _bytes(record.key())


def timestamp_ms_of(record: Record) -> int:
    """Return the timestamp of a record, or -1 if it has none.

    The producer chose it: a foreign producer may have written microseconds.
    """
    return record.timestamp()[1]


def encode_headers(headers: AnyHeaders | None) -> Headers:
    """Return headers as a list of pairs, with text encoded as UTF-8."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]


def has_headers(records: Sequence[Record]) -> bool:
    """Return whether any of the records has headers, readable or not."""
    rest = iter(records)
    try:
        return any(map(Record.headers, rest))
    except (SystemError, UnicodeError):
        _mark_unreadable(records[len(records) - sum(1 for _ in rest) - 1])
        return True


def headers_of(record: Record) -> Headers:
    """Return the headers of a record; a null value becomes empty bytes.

    Raises:
        DecodeError: a header name is not UTF-8, so the client cannot return any header.
    """
    try:
        headers = _read_headers(record)
    except (SystemError, UnicodeError):
        _mark_unreadable(record)
        headers = _UNREADABLE
    if headers is _UNREADABLE:
        raise DecodeError("the name of a header is not UTF-8")
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
    return [(name, _bytes(value) or b"") for name, value in pairs]


def raw_headers(records: Sequence[Record]) -> list[Any]:
    """Return the client's headers of each record, which may be unreadable; see `is_unreadable`."""
    found: list[Any] = []
    rest = iter(records)
    while len(found) < len(records):
        try:
            found.extend(map(Record.headers, rest))
        except (SystemError, UnicodeError):
            # The headers of earlier records are already in the list.
            _mark_unreadable(records[len(found)])
            found.append(_UNREADABLE)
    return found


def is_unreadable(headers: object) -> bool:
    """Return whether an item of `raw_headers` marks unreadable headers."""
    return headers is _UNREADABLE


def readable_headers(record: Record) -> Headers:
    """Return the headers of a record, or no headers if the client cannot read them."""
    try:
        return headers_of(record)
    except DecodeError:
        return []


def _mark_unreadable(record: Record) -> None:
    """Replace headers that confluent-kafka could not read.

    The failed call leaves a list with null pointers in the record. Reading that list crashes the process.
    """
    record.set_headers(_UNREADABLE)


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
