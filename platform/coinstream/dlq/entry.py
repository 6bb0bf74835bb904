"""Dead letters: what a message that could not be handled looks like in `{topic}.dlq`."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from confluent_kafka import Message as Record

from coinstream.consumer.consumed_message import headers_of, key_of, offset_of, value_of
from coinstream.serialization import Headers
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX

PREFIX: Final = "dlq-"
"""Every header that we add begins so; the original headers stay as they were."""
MAX_ERROR_LENGTH: Final = 2000
"""Errors are cut to so many characters."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be handled. Its value and key are unchanged.

    Attributes:
        topic: where it came from; `partition` and `offset` likewise.
        timestamp_ms: the original record's timestamp.
        error_type: the class of the error.
        error: what the error said.
        attempts: how often it was tried. 0: it could not be decoded.
        group: the consumer group that gave it up.
        failed_at: when, in ISO-8601.
        headers: the original headers.
        replays: how often it has been replayed before it failed again.
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


REPLAYS_HEADER: Final = "coinstream-replays"
"""On a replayed message: how often it has been replayed. It stays with it if it fails again."""


def dead_letter(record: Record, error: BaseException, attempts: int, group: str) -> DeadLetter:
    """The dead letter of a record."""
    headers = headers_of(record)
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
        replays=_number(dict(headers).get(REPLAYS_HEADER)),
    )


def dlq_topic(topic: str) -> str:
    """Where the dead letters of a topic go."""
    return topic + DEAD_LETTER_SUFFIX


def dead_letter_headers(letter: DeadLetter) -> Headers:
    """The headers of the record in the dead-letter topic."""
    own = {
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "timestamp": letter.timestamp_ms,
        "error-type": letter.error_type,
        "error": letter.error,
        "attempts": letter.attempts,
        "group": letter.group,
        "failed-at": letter.failed_at,
    }
    return [*letter.headers, *((PREFIX + name, str(value).encode()) for name, value in own.items())]


def decode_dead_letter(record: Record) -> DeadLetter:
    """The dead letter in a record of a dead-letter topic; what its headers do not say is left empty."""
    headers = headers_of(record)
    own = {name.removeprefix(PREFIX): value for name, value in headers if name.startswith(PREFIX)}

    def text(name: str) -> str:
        return own.get(name, b"").decode(errors="replace")

    return DeadLetter(
        topic=text("topic") or (record.topic() or "").removesuffix(DEAD_LETTER_SUFFIX),
        partition=_number(own.get("partition"), -1),
        offset=_number(own.get("offset"), -1),
        timestamp_ms=_number(own.get("timestamp"), -1),
        key=key_of(record),
        value=value_of(record),
        headers=[(name, value) for name, value in headers if not name.startswith(PREFIX)],
        error_type=text("error-type"),
        error=text("error"),
        attempts=_number(own.get("attempts")),
        group=text("group"),
        failed_at=text("failed-at"),
        replays=_number(dict(headers).get(REPLAYS_HEADER)),
    )


def _number(value: bytes | None, otherwise: int = 0) -> int:
    try:
        return int(value) if value is not None else otherwise
    except ValueError:
        return otherwise
