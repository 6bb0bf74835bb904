"""Sample the lag of consumer groups and the growth of topics while the explorer is open."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import polars as pl

from coinstream.monitoring.group_lag import evaluate_group
from coinstream.monitoring.lag import LagMonitor
from coinstream.settings import BrokerSettings

KEPT: Final = 2_000
"""Samples kept: at one every five seconds, almost three hours."""


@dataclass
class LagHistory:
    """Lag and rate over time, sampled by `sample`.

    Attributes:
        brokers: the cluster.
    """

    brokers: BrokerSettings
    _monitor: LagMonitor = field(init=False)
    _lag: deque[tuple[datetime, str, int, float | None, str, str]] = field(init=False)
    _rates: deque[tuple[datetime, str, float]] = field(init=False)
    _ends: dict[str, tuple[float, int]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Start without samples."""
        self._monitor = LagMonitor(self.brokers)
        self._lag, self._rates = deque(maxlen=KEPT), deque(maxlen=KEPT)

    def sample(self) -> None:
        """Measure once: the lag of each group, and the messages per second of each topic that groups read.

        Raises:
            BrokerError: the cluster does not answer.
        """
        now, clock = datetime.now(UTC), time.monotonic()
        ends: dict[str, dict[int, int]] = {}
        for group in self._monitor.measure_all():
            found = evaluate_group(group, self._monitor.settings)
            row = (now, group.group, group.messages, group.seconds, str(found.status), found.reason)
            self._lag.append(row)
            for part in group.partitions:
                ends.setdefault(part.topic, {})[part.partition] = part.high
        for topic, partitions in ends.items():
            end = sum(partitions.values())
            before = self._ends.get(topic)
            self._ends[topic] = (clock, end)
            if before is not None and clock > before[0]:
                self._rates.append((now, topic, max(end - before[1], 0) / (clock - before[0])))

    @property
    def lag(self) -> pl.DataFrame:
        """`time`, `group`, `messages`, `seconds`, `status` and `reason` of each sample."""
        return pl.DataFrame(
            list(self._lag),
            schema={
                "time": pl.Datetime("us", "UTC"),
                "group": pl.String,
                "messages": pl.Int64,
                "seconds": pl.Float64,
                "status": pl.String,
                "reason": pl.String,
            },
            orient="row",
        )

    @property
    def rates(self) -> pl.DataFrame:
        """`time`, `topic` and `messages_per_s` of each sample."""
        return pl.DataFrame(
            list(self._rates),
            schema={"time": pl.Datetime("us", "UTC"), "topic": pl.String, "messages_per_s": pl.Float64},
            orient="row",
        )
