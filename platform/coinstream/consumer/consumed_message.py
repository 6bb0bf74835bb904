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
from coinstream.records import (
    Headers,
    has_headers,
    headers_of,
    key_of,
    offset_of,
    readable_headers,
    timestamp_ms_of,
    value_of,
)
from coinstream.serialization import UNREADABLE, MessageDeserializer

_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class ConsumedMessage(msgspec.Struct, gc=False, eq=False):
    """A message with its position in the topic.

    Attributes:
        message: decoded message of a registered type.
        record: record of confluent-kafka.
        unknown: wire fields that the message type does not have; times are datetimes.
    """

    message: Message
    record: Record
    unknown: Mapping[str, Any] = _NOTHING

    @property
    def topic(self) -> str:
        """Return the topic of the message."""
        return self.record.topic() or ""

    @property
    def partition(self) -> int:
        """Return the partition of the message."""
        return self.record.partition() or 0

    @property
    def offset(self) -> int:
        """Return the offset of the message in its partition."""
        return offset_of(self.record)

    @property
    def key(self) -> bytes | None:
        """Return the key of the record."""
        return key_of(self.record)

    @property
    def timestamp_ms(self) -> int:
        """Return the timestamp of the record (`lastUpdated` of the message); -1 if it has none."""
        return timestamp_ms_of(self.record)

    @property
    def headers(self) -> Headers:
        """Return the headers of the record."""
        return readable_headers(self.record)


class UndecodableRecord(NamedTuple):
    """A record that cannot be decoded, and the reason."""

    record: Record
    error: DecodeError


class BatchDecoder:
    """Decodes batches of records of one topic; the common case costs no Python code per message."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        kind = type_for_topic(topic)
        self._fast = msgspec.json.Decoder(kind.cls).decode if kind else None
        self._full = MessageDeserializer()

    def decode(self, records: Sequence[Record]) -> tuple[list[ConsumedMessage], list[UndecodableRecord]]:
        """Return the messages in order, and the records that cannot be decoded."""
        try:
            if self._fast is None or has_headers(records):
                return self._one_by_one(records)
            messages = list(map(self._fast, map(Record.value, records)))  # type: ignore[arg-type]
        except (*UNREADABLE, TypeError):
            # A record is compressed, has unknown fields or unreadable headers, or is not a message.
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
