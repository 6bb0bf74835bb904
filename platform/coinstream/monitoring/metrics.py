"""Define every metric of the platform: name, labels and buckets.

Each process has one `Metrics` (`METRICS`). Producers and consumers count per batch, not per message:

    METRICS.messages_produced.labels(topic, str(partition)).inc(len(batch))
    METRICS.producer_latency.observe(latency_ms, topic, count=len(batch))
    METRICS.consumer_lag.replace(group, {(topic, str(partition), group): lag})
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, disable_created_metrics
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

Labels = tuple[str, ...]
"""Label values in the order of the family's labels."""


class WeightedHistogram:
    """Histogram whose observations have a weight, so that a batch takes one call."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        bounds: Sequence[float],
        registry: CollectorRegistry,
    ) -> None:
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._bounds = tuple(bounds)
        self._names = (*(f"{bound:g}" for bound in bounds), "+Inf")
        self._lock = threading.Lock()
        self._cells: dict[Labels, list[float]] = {}
        registry.register(self)

    def observe(self, value: float, *labels: object, count: int = 1) -> None:
        """Count `count` observations of `value` under these label values.

        Raises:
            ValueError: the number of label values is wrong.
        """
        key = _key(labels, self._labels)
        with self._lock:
            cells = self._cells.get(key)
            if cells is None:
                cells = self._cells[key] = [0.0] * (len(self._bounds) + 2)
            cells[bisect_left(self._bounds, value)] += count
            cells[-1] += value * count

    def collect(self) -> Iterable[Metric]:
        """Yield the family for the registry."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        with self._lock:
            snapshot = {key: list(cells) for key, cells in self._cells.items()}
        for key, cells in snapshot.items():
            counts = accumulate(cells[:-1])
            family.add_metric(key, list(zip(self._names, counts, strict=True)), cells[-1])
        yield family

    def describe(self) -> Iterable[Metric]:
        """Return the family without values, so that the registry detects duplicate names."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]


class SnapshotGauge:
    """Gauge whose series are replaced together, so that deleted topics and groups leave no stale series."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry):
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._lock = threading.Lock()
        self._series: dict[str, dict[Labels, float]] = {}
        registry.register(self)

    def replace(self, source: str, series: Mapping[Labels, float]) -> None:
        """Replace the series of `source`, for example a monitor or a consumer.

        Raises:
            ValueError: the number of label values is wrong.
        """
        checked = {_key(labels, self._labels): float(value) for labels, value in series.items()}
        with self._lock:
            self._series[source] = checked

    def collect(self) -> Iterable[Metric]:
        """Yield the family for the registry."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=self._labels)
        with self._lock:
            merged = {key: value for series in self._series.values() for key, value in series.items()}
        for key, value in merged.items():
            family.add_metric(key, value)
        yield family

    def describe(self) -> Iterable[Metric]:
        """Return the family without values, so that the registry detects duplicate names."""
        return [GaugeMetricFamily(self._name, self._documentation, labels=self._labels)]


def _key(given: Sequence[object], wanted: Labels) -> Labels:
    if len(given) != len(wanted):
        raise ValueError(f"got {len(given)} label value(s) for {', '.join(wanted)}")
    return tuple(str(value) for value in given)


LATENCY_BUCKETS_MS: Final = (1, 5, 10, 25, 50, 100, 250, 500, 1000)
BATCH_BUCKETS: Final = (1, 10, 50, 100, 500, 1000, 5000)

# Disable the `_created` series that the library adds to every counter.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """Metric families in one registry. Latencies are in milliseconds, sizes in bytes, rates per second."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._producer()
        self._feeds()
        self._consumer()
        self._topics()
        self._cluster()

    def _producer(self) -> None:
        self.messages_produced = Counter(
            "redpanda_messages_produced_total",
            "Messages acknowledged by the cluster",
            ["topic", "partition"],
            registry=self.registry,
        )
        self.producer_latency = WeightedHistogram(
            "redpanda_producer_latency_ms",
            "Milliseconds from produce to acknowledgement",
            ["topic"],
            LATENCY_BUCKETS_MS,
            self.registry,
        )
        self.batch_size = WeightedHistogram(
            "redpanda_batch_size", "Messages per batch", ["topic"], BATCH_BUCKETS, self.registry
        )
        self.producer_errors = Counter(
            "redpanda_producer_errors_total",
            "Messages that were not acknowledged",
            ["topic", "error_type"],
            registry=self.registry,
        )

        self.record_times_held = Counter(
            "coinstream_record_times_held_total",
            "Messages whose record time was clamped to the broker's bounds",
            ["topic"],
            registry=self.registry,
        )

    def _feeds(self) -> None:
        of_feed = ["feed", "exchange"]
        self.feed_connected = Gauge(
            "coinstream_feed_connected", "1 while the feed receives data", of_feed, registry=self.registry
        )
        self.feed_events = Gauge(
            "coinstream_feed_events",
            "Reconnects, gaps, recovered and unrecovered gaps and frozen connections since the feed started",
            [*of_feed, "event"],
            registry=self.registry,
        )
        self.feed_last_message = Gauge(
            "coinstream_feed_last_message_seconds",
            "Unix time of the newest message of a symbol",
            [*of_feed, "symbol"],
            registry=self.registry,
        )
        of_symbol = [*of_feed, "symbol"]
        self.feed_symbol_connected = Gauge(
            "coinstream_feed_symbol_connected",
            "1 while the connection that carries the symbol is open",
            of_symbol,
            registry=self.registry,
        )
        self.feed_symbol_rate = Gauge(
            "coinstream_feed_symbol_rate",
            "Messages per second of a symbol",
            of_symbol,
            registry=self.registry,
        )
        self.feed_symbol_events = Gauge(
            "coinstream_feed_symbol_events",
            "Reconnects, gaps, recovered and unrecovered gaps of a symbol since the feed started",
            [*of_symbol, "event"],
            registry=self.registry,
        )
        self.prices_rounded = Counter(
            "coinstream_prices_rounded_total",
            "Prices changed by rounding; lossy: by more than one millionth of their value",
            ["field", "lossy"],
            registry=self.registry,
        )

    def _consumer(self) -> None:
        labels = ["topic", "partition", "consumer_group"]
        self.messages_consumed = Counter(
            "redpanda_messages_consumed_total", "Messages handled", labels, registry=self.registry
        )
        self.consumer_latency = WeightedHistogram(
            "redpanda_consumer_latency_ms",
            "Milliseconds from a message's record timestamp to the end of its handling",
            ["topic", "consumer_group"],
            LATENCY_BUCKETS_MS,
            self.registry,
        )
        self.consumer_errors = Counter(
            "redpanda_consumer_errors_total",
            "Messages or fetches that failed",
            [*labels, "error_type"],
            registry=self.registry,
        )
        self.consumer_lag = SnapshotGauge(
            "redpanda_consumer_lag", "Unhandled messages of the group", labels, self.registry
        )
        self.consumer_lag_seconds = SnapshotGauge(
            "redpanda_consumer_lag_seconds",
            "Age of the oldest unhandled message of the group",
            labels,
            self.registry,
        )
        self.consumer_status = SnapshotGauge(
            "redpanda_consumer_status",
            "1 for the status of the partition (ok, warn, rewind, stall, stop)",
            [*labels, "status"],
            self.registry,
        )
        self.group_status = SnapshotGauge(
            "redpanda_consumer_group_status",
            "1 for the status of the group (ok, warn, behind, rewind, stall, stop), its health and reason",
            ["consumer_group", "status", "health", "reason"],
            self.registry,
        )

    def _topics(self) -> None:
        self.topic_size_bytes = SnapshotGauge(
            "redpanda_topic_size_bytes",
            "Bytes on disk over all partitions and replicas",
            ["topic"],
            self.registry,
        )
        self.topic_partitions = SnapshotGauge(
            "redpanda_topic_partitions", "Partitions of the topic", ["topic"], self.registry
        )
        self.topic_message_rate = SnapshotGauge(
            "redpanda_topic_message_rate", "Messages appended per second", ["topic"], self.registry
        )

    def _cluster(self) -> None:
        self.cluster_brokers = self._plain("redpanda_cluster_brokers_alive", "Brokers that answer")
        self.under_replicated = self._plain(
            "redpanda_cluster_under_replicated_partitions", "Partitions with a replica out of sync"
        )
        self.leaderless = self._plain(
            "redpanda_cluster_leaderless_partitions",
            "Partitions without a leader, which cannot be read or written",
        )
        self.monitor_success = self._plain(
            "coinstream_monitor_last_success_timestamp_seconds",
            "Unix time of the last successful measurement",
        )
        self.monitor_errors = Counter(
            "coinstream_monitor_errors_total", "Measurements that failed", ["what"], registry=self.registry
        )

    def _plain(self, name: str, documentation: str) -> SnapshotGauge:
        return SnapshotGauge(name, documentation, [], self.registry)


METRICS: Final = Metrics()
"""The metrics of this process."""
