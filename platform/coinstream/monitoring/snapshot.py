"""One look at everything: cluster, producer, topics and groups, as `coinstream top` shows it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from coinstream.monitoring.group_lag import GroupLag
from coinstream.monitoring.health import (
    ClusterHealth,
    GroupHealth,
    ProducerHealth,
    check_cluster,
    group_health,
)
from coinstream.monitoring.history import lag_history
from coinstream.monitoring.lag import LagMonitor
from coinstream.monitoring.probe import ProducerProbe
from coinstream.monitoring.status import Status, worst_status
from coinstream.monitoring.topic_report import TopicReport, report_topics
from coinstream.monitoring.topic_stats import TopicStatsReader
from coinstream.settings import BrokerSettings, LagSettings


@dataclass(frozen=True)
class TopicLine:
    """A topic. `newest_s`: age of its newest record; None when it is empty or the broker does not tell."""

    topic: str
    status: Status
    partitions: int
    records: int
    rate: float | None
    newest_s: float | None
    lag: int
    slowest: str | None
    """The group that is furthest behind; None when nobody reads the topic or nobody is behind."""


@dataclass(frozen=True)
class Snapshot:
    """Everything at one time (`at`, seconds since the epoch)."""

    at: float
    status: Status
    cluster: ClusterHealth
    producer: ProducerHealth
    topics: tuple[TopicLine, ...]
    groups: tuple[GroupHealth, ...]
    trends: Mapping[str, float | None]
    """By group, messages a second by which its lag grows."""


class SnapshotReader:
    """Takes snapshots of one cluster; keep it, rates and trends need two. Not thread-safe."""

    def __init__(self, brokers: BrokerSettings, settings: LagSettings | None = None) -> None:
        self._lag: Final = LagMonitor(brokers, settings, lag_history())
        self._topics = TopicStatsReader(self._lag.cluster)
        self._probe = ProducerProbe(brokers, timeout_s=brokers.request_timeout_ms / 1000)

    def look(self) -> Snapshot:
        """Measure now.

        Raises:
            BrokerError, AuthenticationError: the cluster answers some questions and then no more.
        """
        with ThreadPoolExecutor(1) as beside:
            probing = beside.submit(self._probe.check)
            cluster = check_cluster(self._lag.cluster)
            lags = self._lag.measure_all() if cluster.brokers else []
            lines = self._lines(lags) if cluster.brokers else ()
            producer = probing.result()
        groups = tuple(group_health(lag, self._lag.settings) for lag in lags)
        return Snapshot(
            time.time(),
            worst_status([cluster.status, producer.status, *(group.status for group in groups)]),
            cluster,
            producer,
            lines,
            groups,
            {lag.group: lag.trend for lag in lags},
        )

    def close(self) -> None:
        """Let go of the producer."""
        self._probe.close()

    def _lines(self, lags: list[GroupLag]) -> tuple[TopicLine, ...]:
        cluster = self._lag.cluster
        metadata = cluster.metadata()
        reports = report_topics(metadata, self._topics.look(), lags, self._lag.settings)
        newest = cluster.newest(
            (topic, number) for topic, report in reports.items() for number in range(report.partitions)
        )
        now = time.time()
        return tuple(_line(report, newest.get(topic), now) for topic, report in reports.items())


def _line(report: TopicReport, newest: float | None, now: float) -> TopicLine:
    slowest = max(report.readers, key=lambda reader: reader.messages, default=None)
    return TopicLine(
        report.topic,
        report.status,
        report.partitions,
        report.records,
        report.rate,
        None if newest is None else max(now - newest, 0.0),
        report.lag_messages,
        slowest.group if slowest is not None and slowest.messages else None,
    )
