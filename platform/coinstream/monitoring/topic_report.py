"""One topic as an operator sees it: lag of its readers, growth, and the state of its partitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka.admin import ClusterMetadata

from coinstream.monitoring.evaluation import PartitionStatus, worst
from coinstream.monitoring.health import Status
from coinstream.monitoring.lag import GroupLag
from coinstream.monitoring.topic_stats import TopicStats
from coinstream.settings import LagSettings


@dataclass(frozen=True)
class ReaderLag:
    """A group's lag on one topic."""

    group: str
    messages: int
    seconds: float | None
    verdict: PartitionStatus


@dataclass(frozen=True)
class TopicReport:
    """One topic at one time. Lag is that of the group that is furthest behind."""

    topic: str
    partitions: int
    records: int
    rate: float | None
    leaderless: int
    under_replicated: int
    readers: tuple[ReaderLag, ...]

    @property
    def lag_messages(self) -> int:
        """Unhandled messages of the slowest group."""
        return max((reader.messages for reader in self.readers), default=0)

    @property
    def lag_seconds(self) -> float:
        """Age of the oldest unhandled message over all groups, as far as it is known."""
        return max((reader.seconds or 0.0 for reader in self.readers), default=0.0)

    @property
    def verdict(self) -> PartitionStatus:
        """The worst of the groups'."""
        return worst(reader.verdict for reader in self.readers)

    @property
    def status(self) -> Status:
        """Of its partitions: without a leader unhealthy, with too few replicas in sync degraded."""
        if self.leaderless:
            return Status.UNHEALTHY
        return Status.DEGRADED if self.under_replicated else Status.HEALTHY

    def is_behind(self, settings: LagSettings) -> bool:
        """Whether somebody should look: a group lags too much, or has stopped."""
        return bool(self.behind(settings))

    def behind(self, settings: LagSettings) -> list[ReaderLag]:
        """The groups that somebody should look after."""
        return [
            one
            for one in self.readers
            if is_alarming(one.verdict) or is_far_behind(one.group, one.messages, one.seconds, settings)
        ]


def is_far_behind(
    group: str, messages: int, seconds: float | None, settings: LagSettings, *, raised: bool = False
) -> bool:
    """Whether a group lags too much; once an alarm is raised, until it is well below the threshold.

    A group that jobs move now and then has, between two of them, as many unhandled messages as came
    meanwhile: what counts is how long the oldest waits.
    """
    if group in settings.batch_groups:
        return messages > 0 and (seconds or 0.0) >= settings.batch_silence_s
    return messages >= (settings.degraded_messages if raised else settings.unhealthy_messages)


def is_alarming(verdict: PartitionStatus) -> bool:
    """A group that stands still or went back; one that only falls behind is a matter of thresholds."""
    return verdict in {PartitionStatus.STALL, PartitionStatus.STOP, PartitionStatus.REWIND}


def report_topics(
    metadata: ClusterMetadata, stats: Iterable[TopicStats], groups: Iterable[GroupLag]
) -> dict[str, TopicReport]:
    """Every topic, by name."""
    lags = list(groups)
    return {
        stat.topic: TopicReport(
            stat.topic,
            stat.partitions,
            stat.records,
            stat.rate,
            *_partitions(metadata, stat.topic),
            tuple(_reader(lag, stat.topic) for lag in lags if stat.topic in lag.topics),
        )
        for stat in stats
    }


def _partitions(metadata: ClusterMetadata, topic: str) -> tuple[int, int]:
    found = metadata.topics[topic].partitions.values() if topic in metadata.topics else ()
    leaderless = sum(part.leader < 0 for part in found)
    thin = sum(len(part.isrs) < len(part.replicas) for part in found)
    return leaderless, thin


def _reader(lag: GroupLag, topic: str) -> ReaderLag:
    parts = lag.of_topic(topic)
    known = [part.seconds for part in parts if part.seconds is not None]
    return ReaderLag(
        lag.group,
        sum(part.messages for part in parts),
        max(known, default=None),
        worst(part.verdict for part in parts),
    )
