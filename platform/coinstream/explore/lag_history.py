"""Sample the lag of consumer groups and the growth of topics while the explorer is open."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import polars as pl

from coinstream.consumer.tail_reader import end_offsets
from coinstream.kafka import admin_client
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
        self._lag, self._rates = deque(maxlen=KEPT), deque(maxlen=10 * KEPT)

    def sample(self) -> None:
        """Measure once: the lag of each group, and the messages per second of each topic.

        Raises:
            BrokerError: the cluster does not answer.
        """
        now, clock = datetime.now(UTC), time.monotonic()
        for group in self._monitor.measure_all():
            found = evaluate_group(group, self._monitor.settings)
            row = (now, group.group, group.messages, group.seconds, str(found.status), found.reason)
            self._lag.append(row)
        for topic, end in self._topic_ends().items():
            before = self._ends.get(topic)
            self._ends[topic] = (clock, end)
            if before is not None and clock > before[0]:
                self._rates.append((now, topic, max(end - before[1], 0) / (clock - before[0])))

    def _topic_ends(self) -> dict[str, int]:
        """Return the sum of the end offsets of each topic, without Kafka's own."""
        found = admin_client(self.brokers).list_topics(timeout=self.brokers.request_timeout_ms / 1000).topics
        own = (name for name in found if not name.startswith("__"))
        places = [(name, part) for name in own for part in found[name].partitions]
        ends: dict[str, int] = {}
        for (topic, _), end in end_offsets(self.brokers, places).items():
            ends[topic] = ends.get(topic, 0) + end
        return ends

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

    def busiest(self, topics: int = 8) -> pl.DataFrame:
        """Return the rates of the topics that grew most while they were sampled."""
        found = self.rates
        chosen = (
            found.group_by("topic")
            .agg(pl.col("messages_per_s").sum())
            .sort("messages_per_s", "topic", descending=[True, False])
        )
        moving = chosen.filter(pl.col("messages_per_s") > 0)
        return found.filter(pl.col("topic").is_in(moving["topic"].head(topics).to_list()))

    @property
    def rates(self) -> pl.DataFrame:
        """`time`, `topic` and `messages_per_s` of each sample."""
        return pl.DataFrame(
            list(self._rates),
            schema={"time": pl.Datetime("us", "UTC"), "topic": pl.String, "messages_per_s": pl.Float64},
            orient="row",
        )
