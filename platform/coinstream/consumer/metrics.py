"""The metrics of a consumer group, counted per batch."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Final

from prometheus_client import Counter

from coinstream.consumer.partition_state import Lane
from coinstream.monitoring.metrics import METRICS, Metrics

SAMPLE: Final = 64
"""Of so many messages of a batch one latency is taken, which stands for all of them."""


class Meter:
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

    def handled(self, lane: Lane, before: int) -> None:
        """`lane.batch[before:lane.done]` was handled just now."""
        count = lane.done - before
        if count <= 0:
            return
        lane.total += count
        lane.progressed = time.monotonic()
        counter = self._counters.get((lane.topic, lane.partition)) or self._counter(lane)
        counter.inc(count)
        with self._lock:
            self._handled += count
        self._latencies(lane, before, count)

    def error(self, lane: Lane, kind: str) -> None:
        """A message of this lane failed."""
        labels = (lane.topic, str(lane.partition), self._group, kind)
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

    def _latencies(self, lane: Lane, before: int, count: int) -> None:
        now_ms = time.time() * 1000
        for at in range(before, lane.done, SAMPLE):
            stamp = lane.batch[at].timestamp_ms
            if stamp >= 0:
                late = max(now_ms - stamp, 0.0)
                weight = min(SAMPLE, lane.done - at)
                self._metrics.consumer_latency.observe(late, lane.topic, self._group, count=weight)

    def _counter(self, lane: Lane) -> Counter:
        labels = (lane.topic, str(lane.partition), self._group)
        counter = self._metrics.messages_consumed.labels(*labels)
        return self._counters.setdefault((lane.topic, lane.partition), counter)
