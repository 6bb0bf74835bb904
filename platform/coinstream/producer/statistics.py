"""Convert librdkafka's statistics to metrics of batch sizes, without work per message."""

from __future__ import annotations

from typing import Final

import msgspec

from coinstream.monitoring.metrics import Metrics


class _Window(msgspec.Struct):
    """Number of batches since the last report, and quantiles of their sizes."""

    cnt: int = 0
    p50: int = 0
    p75: int = 0
    p90: int = 0
    p95: int = 0
    p99: int = 0
    max: int = 0


class _Topic(msgspec.Struct):
    batchcnt: _Window = msgspec.field(default_factory=_Window)


class _Report(msgspec.Struct):
    topics: dict[str, _Topic] = msgspec.field(default_factory=dict)


_SHARES: Final = (("p50", 0.50), ("p75", 0.25), ("p90", 0.15), ("p95", 0.05), ("p99", 0.04), ("max", 0.01))
"""Share of the batches counted at each quantile: those between the next lower quantile and itself."""

_read: Final = msgspec.json.Decoder(_Report).decode


class BatchSizes:
    """Statistics callback of a producer that counts batch sizes. It has no state."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, report: str) -> None:
        """Count the batches of one window, each at the next quantile at or above its size."""
        for topic, found in _read(report).topics.items():
            window, left = found.batchcnt, found.batchcnt.cnt
            counts = [(getattr(window, name), round(window.cnt * share)) for name, share in _SHARES]
            for size, count in reversed(counts):
                count = min(count, left)
                left -= count
                if count:
                    self._metrics.batch_size.observe(size, topic, count=count)
            if left:
                self._metrics.batch_size.observe(window.p50, topic, count=left)
