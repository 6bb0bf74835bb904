"""Report on a topic: lag of its readers, growth, and the state of its partitions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from confluent_kafka.admin import ClusterMetadata

from coinstream.monitoring.group_evaluation import (
    GroupEvaluation,
    GroupStatus,
    evaluate_group,
    worst_evaluation,
)
from coinstream.monitoring.group_lag import GroupLag
from coinstream.monitoring.status import Status
from coinstream.monitoring.topic_stats import TopicStats
from coinstream.settings import LagSettings


@dataclass(frozen=True)
class ReaderLag:
    """Lag of a group on one topic, and the evaluation of the group."""

    group: str
    messages: int
    seconds: float | None
    evaluation: GroupEvaluation


@dataclass(frozen=True)
class TopicReport:
    """One topic at one time. Its lag is that of the slowest group."""

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
    def group_status(self) -> GroupStatus:
        """Worst status of the groups that lag on this topic."""
        worst = worst_evaluation(reader.evaluation for reader in self.lagging)
        return GroupStatus.OK if worst is None else worst.status

    @property
    def lagging(self) -> list[ReaderLag]:
        """Groups with unhandled messages here, unless partitions of other topics alone decided."""
        return [one for one in self.readers if one.messages and one.evaluation.concerns(self.topic)]

    @property
    def alarming(self) -> list[ReaderLag]:
        """Groups that lag here and for which an alert is due."""
        return [one for one in self.lagging if one.evaluation.is_alarming]

    @property
    def status(self) -> Status:
        """Of its partitions: without a leader unhealthy, with too few replicas in sync degraded."""
        if self.leaderless:
            return Status.UNHEALTHY
        return Status.DEGRADED if self.under_replicated else Status.HEALTHY


def report_topics(
    metadata: ClusterMetadata,
    stats: Iterable[TopicStats],
    groups: Iterable[GroupLag],
    settings: LagSettings,
) -> dict[str, TopicReport]:
    """Return the report of every topic by its name."""
    lags = [(lag, evaluate_group(lag, settings)) for lag in groups]
    return {
        stat.topic: TopicReport(
            stat.topic,
            stat.partitions,
            stat.records,
            stat.rate,
            *_partitions(metadata, stat.topic),
            tuple(
                _reader(lag, evaluation, stat.topic) for lag, evaluation in lags if stat.topic in lag.topics
            ),
        )
        for stat in stats
    }


def _partitions(metadata: ClusterMetadata, topic: str) -> tuple[int, int]:
    found = metadata.topics[topic].partitions.values() if topic in metadata.topics else ()
    leaderless = sum(part.leader < 0 for part in found)
    thin = sum(len(part.isrs) < len(part.replicas) for part in found)
    return leaderless, thin


def _reader(lag: GroupLag, evaluation: GroupEvaluation, topic: str) -> ReaderLag:
    parts = lag.of_topic(topic)
    known = [part.seconds for part in parts if part.seconds is not None]
    return ReaderLag(
        lag.group,
        sum(part.messages for part in parts),
        max(known, default=None),
        evaluation,
    )
