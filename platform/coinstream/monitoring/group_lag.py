"""Define and evaluate the measured lag of a consumer group.

`coinstream lag`, `health` and `top`, the lag sensor with its alerts and run tags, the asset checks, the
metrics and the Prometheus rules all report the result of `evaluate_group`. The first matching rule decides:

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

from coinstream.kafka.records import PartitionKey
from coinstream.monitoring.evaluation import PartitionStatus, worst
from coinstream.settings import LagSettings


class Status(StrEnum):
    """Health of a component, from best to worst."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


_RANK: Final = {status: rank for rank, status in enumerate(Status)}


def worst_status(statuses: Iterable[Status]) -> Status:
    """Return the worst of statuses, or healthy if there are none."""
    return max(statuses, key=_RANK.__getitem__, default=Status.HEALTHY)


class TimeLagSource(StrEnum):
    """Source of a lag in seconds."""

    NONE = "none"
    """No unhandled message: 0 s."""
    RECORD = "record"
    """Timestamp of the oldest unhandled record."""
    GROWTH = "growth"
    """Interpolated from observed log ends around the committed offset."""
    UNKNOWN = "unknown"
    """The record could not be read in time, and the log end was not observed."""


@dataclass(frozen=True)
class PartitionLag:
    """Lag of one partition. `committed` is None if the group never committed."""

    topic: str
    partition: int
    committed: int | None
    low: int
    high: int
    messages: int
    seconds: float | None
    seconds_from: TimeLagSource
    owned: bool
    """True if a member of the group owns the partition."""
    lost: int = 0
    """Messages deleted by retention or truncation before the group handled them."""
    status: PartitionStatus = PartitionStatus.OK
    trend: float | None = None
    """Growth of the lag in messages per second; None before the second measurement."""
    remark: str = ""

    @property
    def place(self) -> PartitionKey:
        """Return topic and partition."""
        return self.topic, self.partition

    @property
    def start(self) -> int:
        """Return the offset of the oldest unhandled message in the log."""
        return start_of(self.committed, self.low)


@dataclass(frozen=True)
class GroupLag:
    """Lag of one group at a time (`at`, Unix seconds)."""

    group: str
    state: str
    members: int
    at: float
    partitions: tuple[PartitionLag, ...]
    deleted: tuple[str, ...] = ()
    """Requested or assigned topics that no longer exist."""
    unreadable: tuple[str, ...] = ()
    """Partitions (`topic/number`) without a leader, whose offsets cannot be read."""

    @cached_property
    def messages(self) -> int:
        """Return the unhandled messages of all partitions."""
        return sum(part.messages for part in self.partitions)

    @cached_property
    def seconds(self) -> float | None:
        """Return the age of the oldest unhandled message; None if unknown, 0 if there is none."""
        ages = [part.seconds for part in self.partitions if part.seconds is not None]
        if any(part.messages and part.seconds is None for part in self.partitions) and not any(ages):
            return None
        return max(ages, default=0.0)

    @cached_property
    def worst_partition_status(self) -> PartitionStatus:
        """Return the worst status of the partitions; see `evaluate_group` for the status of the group."""
        return worst(part.status for part in self.partitions)

    @cached_property
    def trend(self) -> float | None:
        """Return the growth of the lag in messages per second; None before the second measurement."""
        trends = [part.trend for part in self.partitions if part.trend is not None]
        is_known = len(trends) == len(self.partitions)
        return sum(trends) if is_known else None

    @cached_property
    def lost(self) -> int:
        """Return the messages deleted before they were handled."""
        return sum(part.lost for part in self.partitions)

    @property
    def topics(self) -> list[str]:
        """Return the sorted topics of the group."""
        return sorted({part.topic for part in self.partitions})

    def of_topic(self, topic: str) -> tuple[PartitionLag, ...]:
        """Return the partitions of one topic."""
        return tuple(part for part in self.partitions if part.topic == topic)


def start_of(committed: int | None, low: int) -> int:
    """Return the offset of the first unhandled message of a partition."""
    return low if committed is None else max(committed, low)


class GroupStatus(StrEnum):
    """Status of a group, from best to worst."""

    OK = "ok"
    WARN = "warn"
    BEHIND = "behind"
    REWIND = "rewind"
    STALL = "stall"
    STOP = "stop"

    @property
    def health(self) -> Status:
        """Return the health of the status."""
        return _HEALTH.get(self, Status.UNHEALTHY)


_HEALTH: Final = {GroupStatus.OK: Status.HEALTHY, GroupStatus.WARN: Status.DEGRADED}
_SEVERITY: Final = {status: rank for rank, status in enumerate(GroupStatus)}
_ALARMING: Final = {PartitionStatus.STOP, PartitionStatus.STALL, PartitionStatus.REWIND}
_NAMED: Final = 3


@dataclass(frozen=True)
class GroupEvaluation:
    """Status of a group with its reason.

    Attributes:
        status: status of the group.
        reason: matching rule, without measured figures, so that it can be a metric label.
        partitions: partitions (`topic/number`) that match the rule; empty if the rule applies to the total.
    """

    status: GroupStatus
    reason: str
    partitions: tuple[str, ...] = ()

    @property
    def health(self) -> Status:
        """Return the health of the group."""
        return self.status.health

    @property
    def is_alarming(self) -> bool:
        """Return whether the group is unhealthy, so that an alert is due."""
        return self.health is Status.UNHEALTHY

    @property
    def detail(self) -> str:
        """Return the reason with at most three of the partitions."""
        if not self.partitions:
            return self.reason
        more = len(self.partitions) - _NAMED
        named = ", ".join(self.partitions[:_NAMED]) + (f" and {more} more" if more > 0 else "")
        return f"{self.reason} ({named})"

    def concerns(self, topic: str) -> bool:
        """Return whether the rule matched partitions of a topic, or the total."""
        return not self.partitions or any(part.rpartition("/")[0] == topic for part in self.partitions)


def worst_evaluation(evaluations: Iterable[GroupEvaluation]) -> GroupEvaluation | None:
    """Return the worst of evaluations, or None if there are none."""
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
