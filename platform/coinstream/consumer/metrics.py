"""Count what a consumer group handles, per batch, and detect partitions that make no progress."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import Counter

from coinstream.consumer.options import StuckPartition
from coinstream.consumer.partition_state import PartitionState
from coinstream.monitoring.metrics import METRICS, Metrics

log = logging.getLogger("coinstream.consumer")

SAMPLE: Final = 64
"""Number of messages of a batch per latency sample, which counts for all of them."""


class ConsumerMetrics:
    """Counts of handled messages, and latencies since the record's timestamp."""

    def __init__(self, group: str, metrics: Metrics = METRICS) -> None:
        self._group = group
        self._metrics = metrics
        self._counters: dict[tuple[str, int], Counter] = {}
        self._lock = threading.Lock()
        self._handled = 0

    @property
    def total(self) -> int:
        """Return the number of messages handled since the start."""
        return self._handled

    def handled(self, state: PartitionState, before: int) -> None:
        """Count the messages `state.batch[before:state.done]` as handled now."""
        count = state.done - before
        if count <= 0:
            return
        state.total += count
        state.progressed = time.monotonic()
        counter = self._counters.get((state.topic, state.partition)) or self._counter(state)
        counter.inc(count)
        with self._lock:
            self._handled += count
        self._latencies(state, before, count)

    def error(self, state: PartitionState, kind: str) -> None:
        """Count a failed message of a partition."""
        labels = (state.topic, str(state.partition), self._group, kind)
        self._metrics.consumer_errors.labels(*labels).inc()

    def fetch_error(self, topic: str, partition: str, kind: str) -> None:
        """Count a failed fetch."""
        self._metrics.consumer_errors.labels(topic, partition, self._group, kind).inc()

    def lag(self, source: str, lags: Mapping[tuple[str, int], int]) -> None:
        """Replace the lag of this member's partitions."""
        series: dict[tuple[str, ...], float] = {
            (topic, str(partition), self._group): float(lag) for (topic, partition), lag in lags.items()
        }
        self._metrics.consumer_lag.replace(source, series)

    def _latencies(self, state: PartitionState, before: int, count: int) -> None:
        now_ms = time.time() * 1000
        for at in range(before, state.done, SAMPLE):
            stamp = state.batch[at].timestamp_ms
            if stamp >= 0:
                late = max(now_ms - stamp, 0.0)
                weight = min(SAMPLE, state.done - at)
                self._metrics.consumer_latency.observe(late, state.topic, self._group, count=weight)

    def _counter(self, state: PartitionState) -> Counter:
        labels = (state.topic, str(state.partition), self._group)
        counter = self._metrics.messages_consumed.labels(*labels)
        return self._counters.setdefault((state.topic, state.partition), counter)


class StallDetector:
    """Detector that reports each stuck partition once per message: log, metrics and callback.

    Attributes:
        stuck: stuck partitions of the last check.
    """

    def __init__(
        self,
        group: str,
        metrics: ConsumerMetrics,
        after_s: float,
        on_stuck: Callable[[StuckPartition], None] | None,
    ) -> None:
        self._group = group
        self._metrics = metrics
        self._after_s = after_s
        self._on_stuck = on_stuck
        self.stuck: tuple[StuckPartition, ...] = ()

    def check(self, states: Iterable[PartitionState]) -> None:
        """Check all partitions of the member."""
        now = time.monotonic()
        found: list[StuckPartition] = []
        for state in states:
            seconds = now - state.progressed
            if seconds < self._after_s or not state.has_work:
                continue
            batch, done = state.batch, state.done
            offset = batch[done].offset if done < len(batch) else -1
            found.append(
                StuckPartition(state.topic, state.partition, offset, round(seconds, 1), state.failures)
            )
            if state.reported_at != offset:
                state.reported_at = offset
                self._report(state, found[-1])
        self.stuck = tuple(found)

    def _report(self, state: PartitionState, report: StuckPartition) -> None:
        self._metrics.error(state, "STUCK")
        log.error(
            "group %s: %s makes no progress at offset %d for %.0f s (%d failed attempts)",
            *(self._group, state.name, report.offset, report.seconds, report.failures),
        )
        if self._on_stuck is None:
            return
        try:
            self._on_stuck(report)
        except Exception:
            log.exception("group %s: on_stuck failed", self._group)
