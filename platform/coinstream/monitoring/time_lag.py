"""Measure the age of the oldest unhandled message from its record timestamp or the growth of the log.

The first record at or after the committed offset is read for all lagging partitions together, without joining
a group and within a time budget. This also detects partitions without an unhandled message, because
transaction markers and aborted transactions occupy offsets.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from coinstream.kafka import base_config
from coinstream.monitoring.cluster import Watermarks
from coinstream.records import PartitionKey
from coinstream.settings import BrokerSettings

_MIB: Final = 1_048_576
_READ_AT_ONCE: Final = 48 * _MIB
_BATCH: Final = 2_000
_WAIT_S: Final = 0.01
_CACHED: Final = 100_000


@dataclass(frozen=True)
class OldestRecord:
    """First message at or after an offset. `timestamp_ms` is None if there is no message before `end`."""

    timestamp_ms: int | None
    end: int
    """Offset of the message, or without a timestamp the end of the unreadable offsets."""


class TimeLagReader:
    """Reader of record timestamps with a cache by offset. Thread-safe."""

    def __init__(self, brokers: BrokerSettings, budget_s: float = 1.0) -> None:
        self._brokers = brokers
        self._budget_s = budget_s
        self._lock = threading.Lock()
        self._known: dict[tuple[PartitionKey, int], OldestRecord] = {}

    def oldest(self, offsets: Mapping[PartitionKey, int]) -> dict[PartitionKey, OldestRecord]:
        """Return the first message at or after each offset, without those not read in time."""
        with self._lock:
            found = {
                place: self._known[place, offset]
                for place, offset in offsets.items()
                if (place, offset) in self._known
            }
            missing = {place: offset for place, offset in offsets.items() if place not in found}
            if missing:
                read = self._read(missing)
                found |= read
                self._remember(missing, read)
        return found

    def _remember(
        self, offsets: Mapping[PartitionKey, int], read: Mapping[PartitionKey, OldestRecord]
    ) -> None:
        if len(self._known) + len(read) > _CACHED:
            self._known.clear()
        # The end of the log is not cached, because a message may follow at any time.
        self._known |= {
            (place, offsets[place]): oldest
            for place, oldest in read.items()
            if oldest.timestamp_ms is not None
        }

    def _read(self, offsets: Mapping[PartitionKey, int]) -> dict[PartitionKey, OldestRecord]:
        deadline = time.monotonic() + self._budget_s
        consumer = Consumer(self._config(len(offsets)))
        found: dict[PartitionKey, OldestRecord] = {}
        try:
            consumer.assign(
                [TopicPartition(topic, number, offset) for (topic, number), offset in offsets.items()]
            )
            while len(found) < len(offsets) and time.monotonic() < deadline:
                for message in consumer.consume(_BATCH, _WAIT_S):
                    _note(message, found)
        except KafkaException:
            # Errors are tolerated: the lag in messages comes from the watermarks.
            return found
        finally:
            consumer.close()
        return found

    def _config(self, partitions: int) -> dict[str, object]:
        return {
            **base_config(self._brokers, "coinstream-lag"),
            "group.id": "coinstream-lag-reader",  # Required by the client, but never joined.
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",
            "fetch.message.max.bytes": max(min(_READ_AT_ONCE // partitions, _MIB), 16_384),
            "fetch.max.bytes": _READ_AT_ONCE,
            "queued.min.messages": 1,
            "fetch.wait.max.ms": 10,
            "socket.timeout.ms": self._brokers.request_timeout_ms,
        }


def _note(message: Message, found: dict[PartitionKey, OldestRecord]) -> None:
    topic, number, offset = message.topic(), message.partition(), message.offset()
    if topic is None or number is None or offset is None or (topic, number) in found:
        return
    error = message.error()
    if error is None:
        found[topic, number] = OldestRecord(message.timestamp()[1], offset)
    elif error.code() == KafkaError._PARTITION_EOF:
        found[topic, number] = OldestRecord(None, offset)


_KEPT: Final = 60


class WatermarkHistory:
    """Last log end offsets of each partition with their times. Not thread-safe."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._ends: dict[PartitionKey, deque[tuple[int, float]]] = {}

    def observe(self, now: float, marks: Mapping[PartitionKey, Watermarks]) -> None:
        """Add observed log ends. An unchanged log end updates the time of its last observation."""
        for place, mark in marks.items():
            ends = self._ends.setdefault(place, deque(maxlen=self._kept))
            if ends and ends[-1][0] > mark.high:
                ends.clear()  # Truncated, or a new topic of the old name.
            if len(ends) > 1 and ends[-1][0] == ends[-2][0] == mark.high:
                ends.pop()
            ends.append((mark.high, now))

    def passed(self, place: PartitionKey, offset: int) -> float | None:
        """Return the time at which an offset was appended, interpolated between two observed log ends.

        Returns:
            Unix seconds, or None if the offset is before the first observation.
        """
        ends = self._ends.get(place, deque())
        # The last observation before the offset was appended.
        before = bisect_right(ends, offset, key=lambda end: end[0]) - 1
        if before < 0:
            return None
        low, low_at = ends[before]
        if before + 1 == len(ends):
            return low_at
        high, high_at = ends[before + 1]
        return low_at + (high_at - low_at) * (offset + 1 - low) / (high - low)

    def rate(self, place: PartitionKey) -> float | None:
        """Return the records per second between the last two observations; None before the second."""
        ends = self._ends.get(place, deque())
        if len(ends) < 2:
            return None
        (low, low_at), (high, high_at) = ends[-2], ends[-1]
        return (high - low) / (high_at - low_at) if high_at > low_at else None
