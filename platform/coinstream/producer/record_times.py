"""Clamp record times to the bounds that brokers accept. The event time in the message stays unchanged.

A broker refuses a whole batch if one record time is too far ahead of its clock (an hour by default) or, with
`message.timestamp.before.max.ms`, too old. Without clamping, a wrong exchange clock would end its feed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from coinstream.monitoring.metrics import METRICS, Metrics

log = logging.getLogger("coinstream.producer")

MARGIN_MS: Final = 300_000
"""Allowed difference between this machine's clock and the broker's, at most half of a bound."""

UNBOUNDED_MS: Final = 2**62
"""Bound that no record time reaches."""


class TimeBounds(NamedTuple):
    """Maximum distance of a topic's record times before and after the broker's clock, in milliseconds."""

    before_ms: int = UNBOUNDED_MS
    ahead_ms: int = 3_600_000

    def limits(self, now_ms: int) -> tuple[int, int]:
        """Return the earliest and latest accepted record times."""
        before = self.before_ms - min(MARGIN_MS, self.before_ms // 2)
        ahead = self.ahead_ms - min(MARGIN_MS, self.ahead_ms // 2)
        return now_ms - before, now_ms + ahead


DEFAULT_BOUNDS: Final = TimeBounds()
"""Default bounds of Kafka and Redpanda."""

_NOW: Final = TimeBounds(0, 0)


class RecordTimes:
    """Clamp record times to the bounds of each topic, and count changed ones. Thread-safe.

    A topic has the default bounds until the broker refuses a batch for its record times. Its bounds are then
    read from the broker. If that fails or the broker refuses again, record times become the time of sending.
    """

    def __init__(
        self, read_bounds: Callable[[str], TimeBounds | None] | None = None, metrics: Metrics = METRICS
    ) -> None:
        self._read_bounds = read_bounds
        self._metrics = metrics
        self._bounds: dict[str, TimeBounds] = {}
        self._strictest = DEFAULT_BOUNDS
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()

    @property
    def held(self) -> Mapping[str, int]:
        """Return the number of messages with a changed record time, by topic."""
        with self._lock:
            return dict(self._held)

    def safe_limits(self) -> tuple[int, int]:
        """Return the earliest and latest record times that every topic accepts now."""
        return self._strictest.limits(_now_ms())

    def hold(self, topic: str, at_ms: int, *, count: bool = True) -> int:
        """Return the record time closest to `at_ms` within the bounds of the topic.

        Args:
            topic: topic of the message.
            at_ms: event time in Unix milliseconds.
            count: whether to count a change; false for a message that is sent again.
        """
        earliest, latest = self._bounds.get(topic, DEFAULT_BOUNDS).limits(_now_ms())
        held = min(max(at_ms, earliest), latest)
        if held != at_ms and count:
            with self._lock:
                self._held[topic] += 1
            self._metrics.record_times_held.labels(topic).inc()
        return held

    def was_held(self, at_ms: int) -> bool:
        """Return whether the default bounds already changed the time at the first attempt."""
        earliest, latest = DEFAULT_BOUNDS.limits(_now_ms())
        return not earliest <= at_ms <= latest

    def tighten(self, topic: str) -> None:
        """Narrow the bounds of a topic after the broker refused a batch for its record times."""
        known = self._bounds.get(topic)
        found = self._read_bounds(topic) if known is None and self._read_bounds is not None else None
        bounds = _NOW if found is None or found == DEFAULT_BOUNDS else found
        if bounds == known:
            return
        message = "%s refused record times: they are held to %d ms before and %d ms after the clock"
        log.warning(message, topic, *bounds)
        with self._lock:
            self._bounds[topic] = bounds
            self._strictest = TimeBounds(*map(min, zip(self._strictest, bounds, strict=True)))


def _now_ms() -> int:
    return int(time.time() * 1000)
