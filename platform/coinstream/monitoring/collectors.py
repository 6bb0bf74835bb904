"""Two families that prometheus-client has no cheap form of: weighted histograms, replaceable gauges."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, HistogramMetricFamily, Metric

Labels = tuple[str, ...]
"""Label values, in the order in which the family names its labels."""


class WeightedHistogram:
    """A histogram whose observation can stand for many messages, so that a batch costs one call."""

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
            ValueError: the number of labels is not the family's.
        """
        key = _key(labels, self._labels)
        with self._lock:
            cells = self._cells.get(key)
            if cells is None:
                cells = self._cells[key] = [0.0] * (len(self._bounds) + 2)
            cells[bisect_left(self._bounds, value)] += count
            cells[-1] += value * count

    def collect(self) -> Iterable[Metric]:
        """Yield the family as the registry exports it."""
        family = HistogramMetricFamily(self._name, self._documentation, labels=self._labels)
        with self._lock:
            snapshot = {key: list(cells) for key, cells in self._cells.items()}
        for key, cells in snapshot.items():
            counts = accumulate(cells[:-1])
            family.add_metric(key, list(zip(self._names, counts, strict=True)), cells[-1])
        yield family

    def describe(self) -> Iterable[Metric]:
        """Return the family without values: lets the registry refuse a second one of the same name."""
        return [HistogramMetricFamily(self._name, self._documentation, labels=self._labels)]


class SnapshotGauge:
    """A gauge whose series are replaced together, so that a deleted topic or group leaves no stale series."""

    def __init__(self, name: str, documentation: str, labels: Sequence[str], registry: CollectorRegistry):
        self._name, self._documentation, self._labels = name, documentation, tuple(labels)
        self._lock = threading.Lock()
        self._series: dict[str, dict[Labels, float]] = {}
        registry.register(self)

    def replace(self, source: str, series: Mapping[Labels, float]) -> None:
        """Set what `source` (a monitor, a consumer) reports; its earlier series vanish.

        Raises:
            ValueError: the number of labels is not the family's.
        """
        checked = {_key(labels, self._labels): float(value) for labels, value in series.items()}
        with self._lock:
            self._series[source] = checked

    def collect(self) -> Iterable[Metric]:
        """Yield the family as the registry exports it."""
        family = GaugeMetricFamily(self._name, self._documentation, labels=self._labels)
        with self._lock:
            merged = {key: value for series in self._series.values() for key, value in series.items()}
        for key, value in merged.items():
            family.add_metric(key, value)
        yield family

    def describe(self) -> Iterable[Metric]:
        """Return the family without values: lets the registry refuse a second one of the same name."""
        return [GaugeMetricFamily(self._name, self._documentation, labels=self._labels)]


def _key(given: Sequence[object], wanted: Labels) -> Labels:
    if len(given) != len(wanted):
        raise ValueError(f"got {len(given)} label value(s) for {', '.join(wanted)}")
    return tuple(str(value) for value in given)
