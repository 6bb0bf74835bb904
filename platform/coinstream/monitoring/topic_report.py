"""Report size, growth, consumer lag and partition states of topics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka.admin import ClusterMetadata

from coinstream.monitoring.cluster import ClusterReader, Watermarks
from coinstream.monitoring.evaluation import WatermarkHistory
from coinstream.monitoring.group_lag import (
    GroupEvaluation,
    GroupLag,
    GroupStatus,
    Status,
    evaluate_group,
    worst_evaluation,
)
from coinstream.monitoring.lag import LagMonitor, lag_history
from coinstream.settings import BrokerSettings, LagSettings
from coinstream.topics.apply import Provisioner


@dataclass(frozen=True)
class TopicStats:
    """Size of a topic. `rate` is records per second since the last observation; None at the first one."""

    topic: str
    partitions: int
    records: int
    """Offsets from the log start to its end, including transaction markers."""
    rate: float | None
    end: int = 0
    """Sum of the end offsets, which retention does not lower."""


class TopicStatsReader:
    """Reader of the sizes and rates of all topics, without internal ones. Not thread-safe."""

    def __init__(self, cluster: ClusterReader) -> None:
        self._cluster = cluster
        self._growth = WatermarkHistory(kept=2)

    def look(self) -> list[TopicStats]:
        """Return every topic, by name.

        Raises:
            BrokerError, AuthenticationError: the request to the cluster failed.
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
            TopicStats(
                name,
                len(numbers),
                _records(name, numbers, marks),
                self._rate(name, numbers),
                sum(marks[name, number].high for number in numbers if (name, number) in marks),
            )
            for name, numbers in sorted(topics.items())
        ]

    def _rate(self, topic: str, numbers: list[int]) -> float | None:
        rates = [self._growth.rate((topic, number)) for number in numbers]
        known = [rate for rate in rates if rate is not None]
        return sum(known) if known else None


def _records(topic: str, numbers: list[int], marks: dict[tuple[str, int], Watermarks]) -> int:
    found = (marks.get((topic, number)) for number in numbers)
    return sum(mark.high - mark.low for mark in found if mark is not None)


@dataclass(frozen=True)
class ReaderLag:
    """Lag of a group on one topic, and the evaluation of the group."""

    group: str
    messages: int
    seconds: float | None
    evaluation: GroupEvaluation


@dataclass(frozen=True)
class TopicReport:
    """Report of one topic. Its lag is that of the slowest group."""

    topic: str
    partitions: int
    records: int
    rate: float | None
    leaderless: int
    under_replicated: int
    readers: tuple[ReaderLag, ...]
    end: int = 0

    @property
    def lag_messages(self) -> int:
        """Return the unhandled messages of the slowest group."""
        return max((reader.messages for reader in self.readers), default=0)

    @property
    def lag_seconds(self) -> float:
        """Return the age of the oldest unhandled message of all groups, if known."""
        return max((reader.seconds or 0.0 for reader in self.readers), default=0.0)

    @property
    def group_status(self) -> GroupStatus:
        """Return the worst status of the groups with lag on this topic."""
        worst = worst_evaluation(reader.evaluation for reader in self.lagging)
        return GroupStatus.OK if worst is None else worst.status

    @property
    def lagging(self) -> list[ReaderLag]:
        """Return the groups with lag on this topic, unless their status comes only from other topics."""
        return [one for one in self.readers if one.messages and one.evaluation.concerns(self.topic)]

    @property
    def alarming(self) -> list[ReaderLag]:
        """Return the unhealthy groups with lag on this topic."""
        return [one for one in self.lagging if one.evaluation.is_alarming]

    @property
    def status(self) -> Status:
        """Return unhealthy if a partition has no leader, degraded if it has too few in-sync replicas."""
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
            stat.end,
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


@dataclass(frozen=True)
class PartitionDescription:
    """One partition. `leader` is None if there is none; the offsets are then 0."""

    partition: int
    leader: int | None
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    low: int
    high: int

    @property
    def messages(self) -> int:
        """Return the number of offsets in the log, including transaction markers."""
        return self.high - self.low


@dataclass(frozen=True)
class GroupOnTopic:
    """Lag of a group on this topic."""

    group: str
    messages: int
    seconds: float | None


@dataclass(frozen=True)
class TopicDescription:
    """Description of a topic. `newest_s` is the age of its newest record; None if empty or unknown."""

    name: str
    messages: int
    newest_s: float | None
    partitions: tuple[PartitionDescription, ...]
    settings: Mapping[str, str]
    overridden: tuple[str, ...]
    groups: tuple[GroupOnTopic, ...]


def describe_topic(brokers: BrokerSettings, name: str) -> TopicDescription:
    """Describe a topic.

    Raises:
        TopicError: the topic does not exist; the message suggests similar names.
        AuthenticationError: this user may not describe it.
        BrokerError: the request to the cluster failed.
    """
    provisioner = Provisioner(brokers)
    provisioner.require([name])
    (actual,) = [topic for topic in provisioner.actual() if topic.name == name]
    monitor = LagMonitor(brokers, history=lag_history())
    parts = monitor.cluster.metadata().topics[name].partitions
    marks = monitor.cluster.watermarks((name, number) for number in parts)
    newest = monitor.cluster.newest((name, number) for number in parts).get(name)
    described = tuple(
        PartitionDescription(
            number,
            part.leader if part.leader >= 0 else None,
            tuple(part.replicas),
            tuple(part.isrs),
            *((marks[name, number].low, marks[name, number].high) if (name, number) in marks else (0, 0)),
        )
        for number, part in sorted(parts.items())
    )
    return TopicDescription(
        name,
        sum(part.messages for part in described),
        None if newest is None else max(time.time() - newest, 0.0),
        described,
        dict(actual.config),
        tuple(sorted(actual.overridden)),
        _groups(monitor, name),
    )


def _groups(monitor: LagMonitor, topic: str) -> tuple[GroupOnTopic, ...]:
    found = []
    for lag in monitor.measure_all():
        parts = lag.of_topic(topic)
        if any(part.committed is not None or part.owned for part in parts):
            ages = [part.seconds for part in parts if part.seconds is not None]
            messages = sum(part.messages for part in parts)
            found.append(GroupOnTopic(lag.group, messages, max(ages, default=None)))
    return tuple(sorted(found, key=lambda one: -one.messages))
