"""Hold the measured lag of a consumer group: per partition, and in total."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

from coinstream.monitoring.evaluation import PartitionStatus, worst
from coinstream.records import PartitionKey


class TimeLagSource(StrEnum):
    """Where the seconds come from."""

    NONE = "none"
    """There is no unhandled message: 0 s."""
    RECORD = "record"
    """The timestamp of the oldest unhandled record."""
    GROWTH = "growth"
    """Interpolated: when the log was seen to pass the commit."""
    UNKNOWN = "unknown"
    """The record could not be read in time, and the log was not watched then."""


@dataclass(frozen=True)
class PartitionLag:
    """Lag on one partition. `committed` is None where the group never committed."""

    topic: str
    partition: int
    committed: int | None
    low: int
    high: int
    messages: int
    seconds: float | None
    seconds_from: TimeLagSource
    owned: bool
    """A member of the group holds the partition now."""
    lost: int = 0
    """Messages that were deleted (retention, truncation) before the group handled them."""
    status: PartitionStatus = PartitionStatus.OK
    trend: float | None = None
    """Messages a second by which the lag grows (negative: shrinks). None until it was measured twice."""
    remark: str = ""

    @property
    def place(self) -> PartitionKey:
        """Topic and partition."""
        return self.topic, self.partition

    @property
    def start(self) -> int:
        """The offset of the oldest message that is not handled, or was not deleted before."""
        return start_of(self.committed, self.low)


@dataclass(frozen=True)
class GroupLag:
    """Lag of one group at one time (`at`, seconds since the epoch)."""

    group: str
    state: str
    members: int
    at: float
    partitions: tuple[PartitionLag, ...]
    deleted: tuple[str, ...] = ()
    """Topics that were asked for, or that members hold, and that are no more."""
    unreadable: tuple[str, ...] = ()
    """Partitions (`topic/number`) whose offsets could not be read: no leader."""

    @cached_property
    def messages(self) -> int:
        """Unhandled messages over all partitions."""
        return sum(part.messages for part in self.partitions)

    @cached_property
    def seconds(self) -> float | None:
        """Age of the oldest unhandled message; None when it is not known, 0 when there is none."""
        ages = [part.seconds for part in self.partitions if part.seconds is not None]
        if any(part.messages and part.seconds is None for part in self.partitions) and not any(ages):
            return None
        return max(ages, default=0.0)

    @cached_property
    def worst_partition_status(self) -> PartitionStatus:
        """The worst status of its partitions; `evaluate_group` gives the status of the group."""
        return worst(part.status for part in self.partitions)

    @cached_property
    def trend(self) -> float | None:
        """Messages a second by which the lag grows; None until it was measured twice."""
        trends = [part.trend for part in self.partitions if part.trend is not None]
        is_known = len(trends) == len(self.partitions)
        return sum(trends) if is_known else None

    @cached_property
    def lost(self) -> int:
        """Messages deleted before they were handled."""
        return sum(part.lost for part in self.partitions)

    @property
    def topics(self) -> list[str]:
        """Topics that the group reads, by name."""
        return sorted({part.topic for part in self.partitions})

    def of_topic(self, topic: str) -> tuple[PartitionLag, ...]:
        """Return the partitions of one topic."""
        return tuple(part for part in self.partitions if part.topic == topic)


def start_of(committed: int | None, low: int) -> int:
    """Return the offset from which a group has not handled a partition."""
    return low if committed is None else max(committed, low)
