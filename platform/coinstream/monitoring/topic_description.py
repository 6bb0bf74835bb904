"""Describe one topic: partitions, settings, and the groups that read it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from coinstream.monitoring.history import lag_history
from coinstream.monitoring.lag import LagMonitor
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner


@dataclass(frozen=True)
class PartitionDescription:
    """One partition. `leader` is None when it has none; offsets are 0 then."""

    partition: int
    leader: int | None
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    low: int
    high: int

    @property
    def messages(self) -> int:
        """Offsets from the log start to its end, transaction markers included."""
        return self.high - self.low


@dataclass(frozen=True)
class GroupOnTopic:
    """Lag of a group on this topic."""

    group: str
    messages: int
    seconds: float | None


@dataclass(frozen=True)
class TopicDescription:
    """A topic. `newest_s`: age of its newest record; None when it is empty or the broker does not tell."""

    name: str
    messages: int
    newest_s: float | None
    partitions: tuple[PartitionDescription, ...]
    settings: Mapping[str, str]
    overridden: tuple[str, ...]
    groups: tuple[GroupOnTopic, ...]


def describe(brokers: BrokerSettings, name: str) -> TopicDescription:
    """Describe a topic.

    Raises:
        TopicError: it does not exist. Names topics that are spelled much the same.
        AuthenticationError: this user may not see it.
        BrokerError: the cluster cannot be asked.
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
