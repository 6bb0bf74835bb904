"""Measure how long the oldest unhandled message waits: its record timestamp, or the growth of the log.

The first record at or after the committed offset is read, of all lagging partitions at once, without a
group and within a time budget. What is read also tells whether there is an unhandled message at all:
transaction markers and aborted transactions occupy offsets that no consumer ever handles.
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
    """What lies at an offset. `timestamp_ms` is None when no message follows before `end`."""

    timestamp_ms: int | None
    end: int
    """With a timestamp the message's offset; without, the first offset that holds nothing readable yet."""


class TimeLagReader:
    """Reads timestamps of records, and remembers those of offsets that do not move. Thread-safe."""

    def __init__(self, brokers: BrokerSettings, budget_s: float = 1.0) -> None:
        self._brokers = brokers
        self._budget_s = budget_s
        self._lock = threading.Lock()
        self._known: dict[tuple[PartitionKey, int], OldestRecord] = {}

    def oldest(self, offsets: Mapping[PartitionKey, int]) -> dict[PartitionKey, OldestRecord]:
        """Return the first message at or after each offset. Those not reached in time are left out."""
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
        # An end of the log is not remembered: a message may follow at any time.
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
            # Ages are an extra: messages of lag are counted from watermarks, which answer or raise.
            return found
        finally:
            consumer.close()
        return found

    def _config(self, partitions: int) -> dict[str, object]:
        return {
            **base_config(self._brokers, "coinstream-lag"),
            "group.id": "coinstream-lag-reader",  # Required by the client; never joined, never committed.
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
    """The last watermarks of each partition, with their times. Not thread-safe."""

    def __init__(self, kept: int = _KEPT) -> None:
        self._kept = kept
        self._ends: dict[PartitionKey, deque[tuple[int, float]]] = {}

    def observe(self, now: float, marks: Mapping[PartitionKey, Watermarks]) -> None:
        """Note where the logs end. An end that did not move replaces the time of its last sight."""
        for place, mark in marks.items():
            ends = self._ends.setdefault(place, deque(maxlen=self._kept))
            if ends and ends[-1][0] > mark.high:
                ends.clear()  # Truncated, or a new topic of the old name.
            if len(ends) > 1 and ends[-1][0] == ends[-2][0] == mark.high:
                ends.pop()
            ends.append((mark.high, now))

    def passed(self, place: PartitionKey, offset: int) -> float | None:
        """When the record of this offset was appended: interpolated between two sights of the log's end.

        None when the log had passed it before anybody looked.
        """
        ends = self._ends.get(place, deque())
        # The last sight at which the log had not yet held the offset.
        before = bisect_right(ends, offset, key=lambda end: end[0]) - 1
        if before < 0:
            return None
        low, low_at = ends[before]
        if before + 1 == len(ends):
            return low_at
        high, high_at = ends[before + 1]
        return low_at + (high_at - low_at) * (offset + 1 - low) / (high - low)

    def rate(self, place: PartitionKey) -> float | None:
        """Return records appended a second between the last two sights; None before the second."""
        ends = self._ends.get(place, deque())
        if len(ends) < 2:
            return None
        (low, low_at), (high, high_at) = ends[-2], ends[-1]
        return (high - low) / (high_at - low_at) if high_at > low_at else None
