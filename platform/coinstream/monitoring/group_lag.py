"""Hold the measured lag of a consumer group, and evaluate it: the one result that every surface reports.

`coinstream lag`, `health` and `top`, the lag sensor with its alerts and run tags, the asset checks, the
metrics and the Prometheus rules all show what `evaluate_group` returns. The first rule that holds decides:

| status | health | rule |
|---|---|---|
| stop, stall, rewind | unhealthy | the worst partition has this status |
| behind | unhealthy | `unhealthy_messages`; if jobs advance the group: a message waits `batch_silence_s` |
| warn | degraded | `degraded_messages`, a message waits `late_s`, or the lag of a partition never falls |
| ok | healthy | none of the above |

The rules on the number and age of messages, and `warn`, do not apply to groups that jobs advance: between
two jobs, such a group has as many unhandled messages as arrived since the last one.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

from coinstream.monitoring.evaluation import PartitionStatus, worst
from coinstream.records import PartitionKey
from coinstream.settings import LagSettings


class Status(StrEnum):
    """Health of a component. Worst last."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


_RANK: Final = {status: rank for rank, status in enumerate(Status)}


def worst_status(statuses: Iterable[Status]) -> Status:
    """Return the worst of some; healthy of none."""
    return max(statuses, key=_RANK.__getitem__, default=Status.HEALTHY)


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


class GroupStatus(StrEnum):
    """Result of the evaluation of a group. Worst last."""

    OK = "ok"
    WARN = "warn"
    BEHIND = "behind"
    REWIND = "rewind"
    STALL = "stall"
    STOP = "stop"

    @property
    def health(self) -> Status:
        """Health that the status stands for."""
        return _HEALTH.get(self, Status.UNHEALTHY)


_HEALTH: Final = {GroupStatus.OK: Status.HEALTHY, GroupStatus.WARN: Status.DEGRADED}
_SEVERITY: Final = {status: rank for rank, status in enumerate(GroupStatus)}
_ALARMING: Final = {PartitionStatus.STOP, PartitionStatus.STALL, PartitionStatus.REWIND}
_NAMED: Final = 3


@dataclass(frozen=True)
class GroupEvaluation:
    """Status of a group, and why.

    Attributes:
        status: the result.
        reason: the rule that decided. It holds no measured figure, so that it can be a metric label.
        partitions: the partitions (`topic/number`) that decided; empty when the total decided.
    """

    status: GroupStatus
    reason: str
    partitions: tuple[str, ...] = ()

    @property
    def health(self) -> Status:
        """Health of the group."""
        return self.status.health

    @property
    def is_alarming(self) -> bool:
        """Whether an alert is due."""
        return self.health is Status.UNHEALTHY

    @property
    def detail(self) -> str:
        """Reason with the partitions that decided, at most three of them."""
        if not self.partitions:
            return self.reason
        more = len(self.partitions) - _NAMED
        named = ", ".join(self.partitions[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{self.reason} ({named})"

    def concerns(self, topic: str) -> bool:
        """Return whether partitions of this topic decided; any topic when the total decided."""
        return not self.partitions or any(part.rpartition("/")[0] == topic for part in self.partitions)


def worst_evaluation(evaluations: Iterable[GroupEvaluation]) -> GroupEvaluation | None:
    """Return the worst of some evaluations; None of none."""
    return max(evaluations, key=lambda one: _SEVERITY[one.status], default=None)


def evaluate_group(lag: GroupLag, settings: LagSettings) -> GroupEvaluation:
    """Evaluate one measurement of a group."""
    worst = lag.worst_partition_status
    if worst in _ALARMING:
        named = tuple(f"{part.topic}/{part.partition}" for part in lag.partitions if part.status is worst)
        return GroupEvaluation(GroupStatus(worst), _alarm_reason(worst, lag.group, settings), named)
    if settings.is_advanced_by_jobs(lag.group):
        return _evaluate_job_group(lag, settings)
    if lag.messages >= settings.unhealthy_messages:
        return GroupEvaluation(
            GroupStatus.BEHIND, f"{settings.unhealthy_messages:,} or more messages unhandled"
        )
    if lag.messages >= settings.degraded_messages:
        return GroupEvaluation(GroupStatus.WARN, f"{settings.degraded_messages:,} or more messages unhandled")
    if lag.messages and (lag.seconds or 0.0) >= settings.late_s:
        return GroupEvaluation(GroupStatus.WARN, f"a message waits for {settings.late_s:g} s or longer")
    if worst is PartitionStatus.WARN:
        named = tuple(f"{part.topic}/{part.partition}" for part in lag.partitions if part.status is worst)
        reason = f"the lag did not fall in {settings.window} observations"
        return GroupEvaluation(GroupStatus.WARN, reason, named)
    return GroupEvaluation(
        GroupStatus.OK, "the group keeps up" if lag.messages else "every message is handled"
    )


def _evaluate_job_group(lag: GroupLag, settings: LagSettings) -> GroupEvaluation:
    allowed = f"{settings.batch_silence_s:g} s"
    if lag.messages and (lag.seconds or 0.0) >= settings.batch_silence_s:
        reason = f"a message waits for {allowed} or longer, although jobs advance this group"
        return GroupEvaluation(GroupStatus.BEHIND, reason)
    if lag.messages:
        reason = f"jobs advance this group; a message may wait for {allowed}"
        return GroupEvaluation(GroupStatus.OK, reason)
    return GroupEvaluation(GroupStatus.OK, "every message is handled")


def _alarm_reason(status: PartitionStatus, group: str, settings: LagSettings) -> str:
    if status is PartitionStatus.STOP:
        by_jobs = settings.is_advanced_by_jobs(group)
        silence = settings.batch_silence_s if by_jobs else settings.silence_s
        return f"no commit for more than {silence:g} s while messages wait"
    if status is PartitionStatus.STALL:
        return f"members are alive, but the committed offset did not move in {settings.window} observations"
    return "the committed offset moved back"
