"""How the logs grew while we watched: when a partition's end passed an offset."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Mapping
from typing import Final

from coinstream.monitoring.cluster import Watermarks
from coinstream.records import PartitionKey

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
