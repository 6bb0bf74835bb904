"""The metrics of a consumer group, counted per batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter

from coinstream.consumer.partition_state import PartitionState
from coinstream.monitoring.metrics import METRICS, Metrics

SAMPLE: Final = 64
"""Of so many messages of a batch one latency is taken, which stands for all of them."""


class ConsumerMetrics:
    """Counts what a group handles, and how long it took since the record's timestamp."""

    def __init__(self, group: str, metrics: Metrics = METRICS) -> None:
        self._group = group
        self._metrics = metrics
        self._counters: dict[tuple[str, int], Counter] = {}
        self._lock = threading.Lock()
        self._handled = 0

    @property
    def total(self) -> int:
        """Messages handled since the start."""
        return self._handled

    def handled(self, state: PartitionState, before: int) -> None:
        """`state.batch[before:state.done]` was handled just now."""
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
        """A message of this state failed."""
        labels = (state.topic, str(state.partition), self._group, kind)
        self._metrics.consumer_errors.labels(*labels).inc()

    def fetch_error(self, topic: str, partition: str, kind: str) -> None:
        """A fetch failed."""
        self._metrics.consumer_errors.labels(topic, partition, self._group, kind).inc()

    def lag(self, source: str, lags: Mapping[tuple[str, int], int]) -> None:
        """What this member has not handled yet, as far as it knows; replaces what it said before."""
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
