"""Select a part of a topic by time or by offsets, and find its offsets in each partition."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, TopicPartition

from coinstream.errors import ConsumeError, TopicError
from coinstream.suggestions import no_such_topic

_AFTER_ALL: Final = 2**62
Span = tuple[int, int]
"""The first offset, and the offset behind the last."""


@dataclass(frozen=True)
class OffsetRange:
    """A part of a topic. Ends that are not given are those of the topic when reading begins.

    Attributes:
        since: the first record timestamp.
        until: only record timestamps before this. Timestamps are not in order within a partition, since
            keys come over different connections. So everything up to the end is read and filtered.
        from_offset: the first offset, in every partition.
        to_offset: the last offset, in every partition.
        partitions: only these; None: all.
        newest: at most this many of the newest records, taken from all partitions.
    """

    since: datetime | None = None
    until: datetime | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    partitions: tuple[int, ...] | None = None
    newest: int | None = None

    def __post_init__(self) -> None:
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise ConsumeError(
                    f"time {moment.isoformat()} has no time zone; write it like 2026-11-01T00:00Z"
                )

    @property
    def since_ms(self) -> int:
        """Return the first timestamp in milliseconds, rounded up."""
        return 0 if self.since is None else _milliseconds(self.since)

    @property
    def until_ms(self) -> int:
        """Return the timestamp behind the last, in milliseconds, rounded up."""
        return _AFTER_ALL * 2 if self.until is None else _milliseconds(self.until)


def topic_partitions(
    consumer: Consumer, topic: str, wanted: tuple[int, ...] | None, brokers: str, timeout_s: float
) -> list[int]:
    """Return the wanted partitions of a topic; all if None.

    Raises:
        TopicError: the topic does not exist, or has no such partition.
    """
    found = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
    if found.error is not None:
        existing = consumer.list_topics(timeout=timeout_s).topics
        raise TopicError(no_such_topic(topic, existing, brokers))
    count = len(found.partitions)
    if strange := sorted(set(wanted or ()) - found.partitions.keys()):
        raise TopicError(f"{topic} has no partition {strange[0]}; it has {count}, from 0 to {count - 1}")
    return sorted(wanted or found.partitions)


def locate(
    consumer: Consumer, topic: str, part: OffsetRange, partitions: list[int], timeout_s: float
) -> dict[int, Span]:
    """Return the offsets that a range covers in each of the partitions, as the topic is now."""
    since = _offsets_at(consumer, topic, part.since_ms, partitions, timeout_s) if part.since else {}
    spans: dict[int, Span] = {}
    for number in partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=timeout_s)
        start = max(low, since.get(number, low), part.from_offset or 0)
        end = high if part.to_offset is None else min(high, part.to_offset + 1)
        spans[number] = (min(start, high), end)
    return spans if part.newest is None else _newest(spans, part.newest)


def start_offsets(
    consumer: Consumer, topic: str, part: OffsetRange, partitions: list[int], timeout_s: float
) -> dict[int, int]:
    """Return where to begin following a topic: at the range's start, else at its end."""
    if part.from_offset is not None:
        at = part.from_offset if part.from_offset > 0 else OFFSET_BEGINNING
        return dict.fromkeys(partitions, at)
    if part.since is not None:
        found = _offsets_at(consumer, topic, part.since_ms, partitions, timeout_s)
        return {number: OFFSET_END if at == _AFTER_ALL else at for number, at in found.items()}
    return dict.fromkeys(partitions, OFFSET_END)


def _newest(spans: dict[int, Span], limit: int) -> dict[int, Span]:
    filled = {number: span for number, span in spans.items() if span[1] > span[0]}
    share = max(limit // max(len(filled), 1), 1)
    chosen = sorted(filled.items())[:limit]
    return {number: (max(start, end - share), end) for number, (start, end) in chosen}


def _offsets_at(
    consumer: Consumer, topic: str, at_ms: int, partitions: list[int], timeout_s: float
) -> dict[int, int]:
    asked = [TopicPartition(topic, number, at_ms) for number in partitions]
    answers = consumer.offsets_for_times(asked, timeout=timeout_s) if asked else []
    # A negative offset: every message is older, so there is nothing to read.
    return {part.partition: part.offset if part.offset >= 0 else _AFTER_ALL for part in answers}


def _milliseconds(moment: datetime) -> int:
    return -(-int(moment.timestamp() * 1_000_000) // 1000)
