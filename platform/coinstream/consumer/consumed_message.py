"""Decode records into the messages that a handler receives, one batch of a partition at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec
from confluent_kafka import Message as Record

from coinstream.errors import DecodeError
from coinstream.messages import Message, type_for_topic
from coinstream.serialization import Decoder, Headers
from coinstream.sharding import Shard

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})
_ENVELOPE: Final = 512
"""Bytes of memory that a record takes beside its payload, roughly."""


class ConsumedMessage(msgspec.Struct, gc=False, eq=False):
    """A message with its position in the topic.

    Attributes:
        message: what was said; one of the registered types.
        record: the record of confluent-kafka.
        unknown: wire fields that the message's type does not have, times restored.
    """

    message: Message
    record: Record
    unknown: Mapping[str, Any] = _NOTHING

    @property
    def topic(self) -> str:
        """The topic it came from."""
        return self.record.topic() or ""

    @property
    def partition(self) -> int:
        """The partition it came from."""
        return self.record.partition() or 0

    @property
    def offset(self) -> int:
        """Return its offset in the partition."""
        return offset_of(self.record)

    @property
    def key(self) -> bytes | None:
        """The record's key."""
        return key_of(self.record)

    @property
    def timestamp_ms(self) -> int:
        """The record's timestamp: `lastUpdated` in messages of the platform. -1: none."""
        return self.record.timestamp()[1]

    @property
    def headers(self) -> Headers:
        """The record's headers."""
        return headers_of(self.record)


class UndecodableRecord(NamedTuple):
    """A record that is no message, and why."""

    record: Record
    error: DecodeError


class BatchDecoder:
    """Decodes runs of records of one topic; the common case costs no Python code per message.

    With a shard it passes over the records of other shards; one without a key counts as an empty key.
    """

    def __init__(self, topic: str, shard: Shard | None = None) -> None:
        self._topic = topic
        self._shard = shard
        kind = type_for_topic(topic)
        self._fast = msgspec.json.Decoder(kind.cls).decode if kind else None
        self._full = Decoder()

    def decode(self, records: Sequence[Record]) -> tuple[list[ConsumedMessage], list[UndecodableRecord]]:
        """The messages in order, and the records that are none."""
        if self._shard is not None:
            owns = self._shard.owns
            records = [record for record in records if owns(record.key() or b"")]
        if self._fast is None or any(map(Record.headers, records)):
            return self._one_by_one(records)
        try:
            messages = list(map(self._fast, map(Record.value, records)))  # type: ignore[arg-type]
        except (msgspec.DecodeError, TypeError, RecursionError):
            # One of them is compressed, has fields that we do not know, or is no message at all.
            return self._one_by_one(records)
        return list(map(ConsumedMessage, messages, records, repeat(_NOTHING))), []

    def _one_by_one(self, records: Sequence[Record]) -> tuple[list[ConsumedMessage], list[UndecodableRecord]]:
        good: list[ConsumedMessage] = []
        bad: list[UndecodableRecord] = []
        decode = self._full.decode
        for record in records:
            try:
                message, unknown = decode(value_of(record), headers_of(record), self._topic)
            except DecodeError as error:
                bad.append(UndecodableRecord(record, error))
            else:
                good.append(ConsumedMessage(message, record, unknown))
        return good, bad


def weight_of(records: Sequence[Record]) -> int:
    """Bytes of memory that records take, roughly."""
    return sum(map(len, records)) + _ENVELOPE * len(records)


def offset_of(record: Record) -> int:
    """The record's offset."""
    offset = record.offset()
    return -1 if offset is None else offset


def value_of(record: Record) -> bytes | None:
    """The record's payload."""
    return _bytes(record.value())


def key_of(record: Record) -> bytes | None:
    """The record's key."""
    return _bytes(record.key())


def headers_of(record: Record) -> Headers:
    """The record's headers; an empty one counts as empty bytes."""
    headers = record.headers()
    pairs = headers.items() if isinstance(headers, dict) else headers or ()
    return [(name, _bytes(value) or b"") for name, value in pairs]


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value
