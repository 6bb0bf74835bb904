"""Measure cluster, topics and groups: continuously for the metrics, once for `coinstream top`."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from coinstream.errors import CoinstreamError
from coinstream.monitoring.broker_requests import topic_sizes
from coinstream.monitoring.group_lag import GroupLag, Status, evaluate_group, worst_status
from coinstream.monitoring.health import (
    ClusterHealth,
    GroupHealth,
    ProducerHealth,
    ProducerProbe,
    check_cluster,
    group_health,
)
from coinstream.monitoring.lag import LagMonitor, lag_history
from coinstream.monitoring.metrics import METRICS, Metrics
from coinstream.monitoring.topic_report import TopicReport, TopicStats, TopicStatsReader, report_topics
from coinstream.settings import BrokerSettings, LagSettings

log = logging.getLogger(__name__)

SOURCE: Final = "monitor"
"""Source name of the monitor's series."""
_SIZES_EVERY_S: Final = 60.0


class Monitor:
    """Monitor that sets the gauges of `metrics` from one cluster. Not thread-safe."""

    def __init__(
        self, brokers: BrokerSettings, metrics: Metrics = METRICS, settings: LagSettings | None = None
    ) -> None:
        self._brokers = brokers
        self._metrics = metrics
        self._lag = LagMonitor(brokers, settings, lag_history(writable=True))
        self._topics = TopicStatsReader(self._lag.cluster)
        self._sizes_due = 0.0

    def measure(self) -> bool:
        """Measure everything once; return whether all succeeded. Failed parts leave no stale series."""
        parts: tuple[tuple[str, Callable[[], None]], ...] = (
            ("cluster", self._measure_cluster),
            ("lag", self._measure_lag),
            ("topics", self._measure_topics),
            ("sizes", self._measure_sizes),
        )
        failures: list[str] = []
        for what, part in parts:
            # If the first request fails, each of the others would wait for its timeout.
            attempt = self._skip if "cluster" in failures else part
            if not self._attempt(what, attempt):
                failures.append(what)
        if not failures:
            self._metrics.monitor_success.replace(SOURCE, {(): time.time()})
        return not failures

    def run(self, stop: threading.Event, interval_s: float) -> None:
        """Measure every `interval_s` seconds until `stop` is set."""
        while not stop.is_set():
            started = time.monotonic()
            self.measure()
            stop.wait(max(interval_s - (time.monotonic() - started), 0.1))

    def _attempt(self, what: str, part: Callable[[], None]) -> bool:
        try:
            part()
        except CoinstreamError as error:
            log.warning("measuring %s failed: %s", what, error)
            self._metrics.monitor_errors.labels(what).inc()
            self._clear(what)
            return False
        return True

    def _skip(self) -> None:
        raise CoinstreamError("the cluster does not answer")

    def _clear(self, what: str) -> None:
        metrics = self._metrics
        gauges = {
            "lag": (
                metrics.consumer_lag,
                metrics.consumer_lag_seconds,
                metrics.consumer_status,
                metrics.group_status,
            ),
            "topics": (metrics.topic_partitions, metrics.topic_message_rate),
            "sizes": (metrics.topic_size_bytes,),
        }
        for gauge in gauges.get(what, ()):
            gauge.replace(SOURCE, {})

    def _measure_cluster(self) -> None:
        health = check_cluster(self._lag.cluster)
        export_cluster(self._metrics, health)
        if not health.brokers:
            raise CoinstreamError(health.detail)

    def _measure_lag(self) -> None:
        export_lag(self._metrics, self._lag.measure_all(), self._lag.settings)

    def _measure_topics(self) -> None:
        export_topics(self._metrics, self._topics.look())

    def _measure_sizes(self) -> None:
        # Brokers scan their folders for this request, so it is sent once a minute.
        if time.monotonic() >= self._sizes_due:
            sizes = topic_sizes(self._brokers)
            self._sizes_due = time.monotonic() + _SIZES_EVERY_S
            own: dict[tuple[str, ...], float] = {
                (name,): size for name, size in sizes.items() if not name.startswith("__")
            }
            self._metrics.topic_size_bytes.replace(SOURCE, own)


def export_lag(metrics: Metrics, groups: list[GroupLag], settings: LagSettings) -> None:
    """Replace the lag series of the monitor."""
    parts = [
        ((part.topic, str(part.partition), group.group), part)
        for group in groups
        for part in group.partitions
    ]
    metrics.consumer_lag.replace(SOURCE, {labels: part.messages for labels, part in parts})
    metrics.consumer_lag_seconds.replace(
        SOURCE, {labels: part.seconds for labels, part in parts if part.seconds is not None}
    )
    metrics.consumer_status.replace(SOURCE, {(*labels, str(part.status)): 1 for labels, part in parts})
    evaluations = {group.group: evaluate_group(group, settings) for group in groups}
    metrics.group_status.replace(
        SOURCE,
        {(name, str(one.status), str(one.health), one.reason): 1 for name, one in evaluations.items()},
    )


def export_topics(metrics: Metrics, topics: list[TopicStats]) -> None:
    """Replace the topic series of the monitor."""
    metrics.topic_partitions.replace(SOURCE, {(topic.topic,): topic.partitions for topic in topics})
    metrics.topic_message_rate.replace(
        SOURCE, {(topic.topic,): topic.rate for topic in topics if topic.rate is not None}
    )


def export_cluster(metrics: Metrics, health: ClusterHealth) -> None:
    """Replace the cluster series of the monitor. An unreachable cluster has no alive brokers."""
    metrics.cluster_brokers.replace(SOURCE, {(): len(health.brokers)})
    known = bool(health.brokers) or health.status is not Status.UNHEALTHY
    metrics.under_replicated.replace(SOURCE, {(): health.under_replicated} if known else {})
    metrics.leaderless.replace(SOURCE, {(): health.leaderless} if known else {})


@dataclass(frozen=True)
class TopicLine:
    """Figures of a topic. `newest_s` is the age of its newest record; None if empty or unknown."""

    topic: str
    status: Status
    partitions: int
    records: int
    rate: float | None
    newest_s: float | None
    lag: int
    slowest: str | None
    """Group with the highest lag; None if no group has lag."""


@dataclass(frozen=True)
class Snapshot:
    """Figures of a cluster at a time (`at`, Unix seconds)."""

    at: float
    status: Status
    cluster: ClusterHealth
    producer: ProducerHealth
    topics: tuple[TopicLine, ...]
    groups: tuple[GroupHealth, ...]
    trends: Mapping[str, float | None]
    """Growth of the lag in messages per second, by group."""


class SnapshotReader:
    """Reader of snapshots of one cluster. Reuse it, because rates require two. Not thread-safe."""

    def __init__(self, brokers: BrokerSettings, settings: LagSettings | None = None) -> None:
        self._lag: Final = LagMonitor(brokers, settings, lag_history())
        self._topics = TopicStatsReader(self._lag.cluster)
        self._probe = ProducerProbe(brokers, timeout_s=brokers.request_timeout_ms / 1000)

    def look(self) -> Snapshot:
        """Measure now.

        Raises:
            BrokerError, AuthenticationError: the cluster stopped answering.
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
        """Close the producer."""
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
