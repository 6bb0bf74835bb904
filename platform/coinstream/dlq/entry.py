"""Encode and decode dead letters: messages that could not be handled, as records of `{topic}.dlq`."""

from __future__ import annotations

import traceback
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import Message as Record

from coinstream.errors import DecodeError
from coinstream.kafka.partition_reader import OffsetRange
from coinstream.kafka.records import Headers, headers_of, key_of, offset_of, readable_headers, value_of
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX

PREFIX: Final = "dlq-"
"""Prefix of every header that this package adds to a dead letter."""
ORIGINAL_PREFIX: Final = "dlq-original-"
"""Prefix of original headers whose name begins with `dlq-`."""
REPLAYS_HEADER: Final = "coinstream-replays"
"""Header of a replayed message: number of replays."""
REPLAYED_FROM_HEADER: Final = "replayed-from"
"""Header of a replayed message: `topic[partition]@offset` of the dead letter."""
MAX_ERROR_LENGTH: Final = 2000
"""Maximum characters of an error text."""
SAMPLE_BYTES: Final = 64 * 1024
"""Bytes kept of the value, the key and the headers of a message that does not fit."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be handled.

    Attributes:
        topic: original topic.
        partition: original partition; -1 if unknown.
        offset: original offset; -1 if unknown.
        timestamp_ms: timestamp of the original record; -1 if it had none.
        key: original key.
        value: original value, or its beginning if `is_truncated`.
        headers: original headers.
        error_type: class of the error.
        error: text of the error.
        attempts: number of calls of the handler; 0 if the message could not be decoded.
        group: consumer group of the handler.
        failed_at: time of the failure in ISO-8601.
        replays: number of replays according to the message's headers.
        replayed_from: dead letter from which it was replayed, according to the headers.
        value_bytes: size of the original value; None if `value` is complete.
        lost: other missing parts of the message, for example `headers`; empty if none.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    error_type: str
    error: str
    attempts: int
    group: str
    failed_at: str
    replays: int = 0
    replayed_from: str = ""
    value_bytes: int | None = None
    lost: str = ""

    @property
    def is_truncated(self) -> bool:
        """Return whether a part of the original message is missing."""
        return self.value_bytes is not None or bool(self.lost)

    @property
    def origin(self) -> str:
        """Return `topic[partition]@offset` of the original message, or only the topic if unknown."""
        return f"{self.topic}[{self.partition}]@{self.offset}" if self.offset >= 0 else self.topic


def to_dead_letter(record: Record, error: BaseException, attempts: int, group: str) -> DeadLetter:
    """Return the dead letter of a record that could not be handled."""
    lost = ""
    try:
        headers = headers_of(record)
    except DecodeError:
        headers, lost = [], "headers"
    by_name = dict(headers)
    return DeadLetter(
        topic=record.topic() or "",
        partition=record.partition() or 0,
        offset=offset_of(record),
        timestamp_ms=record.timestamp()[1],
        key=key_of(record),
        value=value_of(record),
        headers=headers,
        error_type=type(error).__name__,
        error="".join(traceback.format_exception_only(error)).strip()[:MAX_ERROR_LENGTH],
        attempts=attempts,
        group=group,
        failed_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
        replays=_number(by_name.get(REPLAYS_HEADER)),
        replayed_from=_text(by_name.get(REPLAYED_FROM_HEADER)),
        lost=lost,
    )


def truncate(dead_letter: DeadLetter, limit: int = SAMPLE_BYTES) -> DeadLetter:
    """Return a dead letter of at most about three times `limit` bytes that lists its missing parts.

    It keeps the position of the original message, which can be read again.
    """
    value, key = dead_letter.value, dead_letter.key
    lost = [dead_letter.lost] if dead_letter.lost else []
    if key is not None and len(key) > limit:
        key = key[:limit]
        lost.append("key")
    headers = dead_letter.headers
    if sum(len(name) + len(content) for name, content in headers) > limit:
        headers = []
        lost.append("headers")
    is_cut = value is not None and len(value) > limit
    return replace(
        dead_letter,
        key=key,
        headers=headers,
        value=value[:limit] if value is not None else None,
        value_bytes=len(value) if is_cut and value is not None else dead_letter.value_bytes,
        lost=",".join(dict.fromkeys(lost)),
    )


def smaller(dead_letter: DeadLetter) -> DeadLetter | None:
    """Return the next smaller form of a dead letter: samples of its parts, then only its position."""
    return next(
        (form for form in (truncate(dead_letter), truncate(dead_letter, 0)) if form != dead_letter), None
    )


def dead_letter_headers(dead_letter: DeadLetter) -> Headers:
    """Return the headers of the record of a dead letter.

    An original header that begins with `dlq-` is renamed, to distinguish it from the platform's headers.
    """
    own: dict[str, object] = {
        "topic": dead_letter.topic,
        "partition": dead_letter.partition,
        "offset": dead_letter.offset,
        "timestamp": dead_letter.timestamp_ms,
        "error-type": dead_letter.error_type,
        "error": dead_letter.error,
        "attempts": dead_letter.attempts,
        "group": dead_letter.group,
        "failed-at": dead_letter.failed_at,
    }
    if dead_letter.value_bytes is not None:
        own["value-bytes"] = dead_letter.value_bytes
    if dead_letter.lost:
        own["lost"] = dead_letter.lost
    kept = [
        (ORIGINAL_PREFIX + name if name.startswith(PREFIX) else name, value)
        for name, value in dead_letter.headers
    ]
    return [*kept, *((PREFIX + name, _encoded(value)) for name, value in own.items())]


def decode_dead_letter(record: Record) -> DeadLetter:
    """Decode a record of a dead-letter topic.

    Fields without a header are empty. A frame of a feed has its reason in the header `error`.
    """
    own: dict[str, bytes] = {}
    original: Headers = []
    for name, value in readable_headers(record):
        if name.startswith(ORIGINAL_PREFIX):
            original.append((name.removeprefix(ORIGINAL_PREFIX), value))
        elif name.startswith(PREFIX):
            own[name.removeprefix(PREFIX)] = value
        else:
            original.append((name, value))
    by_name = dict(original)
    error = _text(own.get("error")) or _text(by_name.get("error"))
    return DeadLetter(
        topic=_text(own.get("topic")) or (record.topic() or "").removesuffix(DEAD_LETTER_SUFFIX),
        partition=_number(own.get("partition"), -1),
        offset=_number(own.get("offset"), -1),
        timestamp_ms=_number(own.get("timestamp"), -1),
        key=key_of(record),
        value=value_of(record),
        headers=original,
        error_type=_text(own.get("error-type")) or error.partition(":")[0],
        error=error,
        attempts=_number(own.get("attempts")),
        group=_text(own.get("group")),
        failed_at=_text(own.get("failed-at")),
        replays=_number(by_name.get(REPLAYS_HEADER)),
        replayed_from=_text(by_name.get(REPLAYED_FROM_HEADER)),
        value_bytes=_number(own["value-bytes"]) if "value-bytes" in own else None,
        lost=_text(own.get("lost")),
    )


def _encoded(value: object) -> bytes:
    return str(value).encode("utf-8", errors="backslashreplace")


def _text(value: bytes | None) -> str:
    return "" if value is None else value.decode(errors="replace")


def _number(value: bytes | None, otherwise: int = 0) -> int:
    try:
        return int(value) if value is not None else otherwise
    except ValueError:
        return otherwise


EntryKey = tuple[int, int]
"""Partition and offset of a dead letter in its dead-letter topic."""


@dataclass(frozen=True)
class DeadLetterEntry:
    """A dead letter with its own position in the dead-letter topic.

    Attributes:
        failed_ms: time at which it was written, in Unix milliseconds.
        is_replayed: whether it has been replayed.
        replays: number of earlier replays of its message, confirmed by the replay log.
    """

    dead_letter: DeadLetter
    partition: int
    offset: int
    failed_ms: int
    is_replayed: bool
    replays: int = 0


@dataclass(frozen=True)
class DeadLetterFilter:
    """Filter of dead letters. None selects all.

    Attributes:
        error: part of the error's type or text, ignoring case.
        key: exact key.
        since: written to the dead-letter topic at this time or later.
        until: written before this time.
        partition: partition of the original message.
        offset: offset of the original message.
        entry: partition and offset in the dead-letter topic.
        newest: consider only this many of the newest entries.
    """

    error: str | None = None
    key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    partition: int | None = None
    offset: int | None = None
    entry: EntryKey | None = None
    newest: int | None = None

    def matches(self, entry: DeadLetterEntry) -> bool:
        """Return whether the entry is selected, without checking times, which `offset_range` does."""
        dead_letter = entry.dead_letter
        error = f"{dead_letter.error_type} {dead_letter.error}".lower()
        return (
            (self.error is None or self.error.lower() in error)
            and (self.key is None or dead_letter.key == self.key.encode("utf-8", "surrogateescape"))
            and (self.partition is None or dead_letter.partition == self.partition)
            and (self.offset is None or dead_letter.offset == self.offset)
            and (self.entry is None or self.entry == (entry.partition, entry.offset))
        )

    def offset_range(self) -> OffsetRange:
        """Return the range of the dead-letter topic that contains the selected entries."""
        if self.entry is None:
            return OffsetRange(self.since, self.until, newest=self.newest)
        partition, offset = self.entry
        return OffsetRange(self.since, self.until, offset, offset, (partition,))
