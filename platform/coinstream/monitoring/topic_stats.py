"""What a topic holds and how fast it grows."""

from __future__ import annotations

import time
from dataclasses import dataclass

from coinstream.monitoring.cluster import ClusterReader, Watermarks
from coinstream.monitoring.watermark_history import WatermarkHistory


@dataclass(frozen=True)
class TopicStats:
    """One topic at one time. `rate`: records appended a second since the last look; None at the first."""

    topic: str
    partitions: int
    records: int
    """Offsets from the log start to its end, markers of transactions included."""
    rate: float | None


class TopicStatsReader:
    """Looks at all topics (but the broker's own), and remembers their growth. Not thread-safe."""

    def __init__(self, cluster: ClusterReader) -> None:
        self._cluster = cluster
        self._growth = WatermarkHistory(kept=2)

    def look(self) -> list[TopicStats]:
        """Every topic, by name.

        Raises:
            BrokerError, AuthenticationError: the cluster cannot be asked.
        """
        topics = {
            name: list(topic.partitions)
            for name, topic in self._cluster.metadata().topics.items()
            if not name.startswith("__")
        }
        marks = self._cluster.watermarks(
            (name, number) for name, numbers in topics.items() for number in numbers
        )
        self._growth.observe(time.time(), marks)
        return [
            TopicStats(name, len(numbers), _records(name, numbers, marks), self._rate(name, numbers))
            for name, numbers in sorted(topics.items())
        ]

    def _rate(self, topic: str, numbers: list[int]) -> float | None:
        rates = [self._growth.rate((topic, number)) for number in numbers]
        known = [rate for rate in rates if rate is not None]
        return sum(known) if known else None


def _records(topic: str, numbers: list[int], marks: dict[tuple[str, int], Watermarks]) -> int:
    found = (marks.get((topic, number)) for number in numbers)
    return sum(mark.high - mark.low for mark in found if mark is not None)
