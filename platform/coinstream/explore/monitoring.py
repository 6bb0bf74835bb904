"""Read lag history, dead letters and quarantined rows as data frames, and replay what was refused."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from coinstream.consumer.tail_reader import end_offsets
from coinstream.dlq import DeadLetterQueue
from coinstream.dlq.entry import DeadLetterFilter
from coinstream.explore.topic_browser import partition_counts
from coinstream.lake.quarantine_replay import QuarantineFilter, replay_quarantine
from coinstream.lake.query import query
from coinstream.lake.schemas import QUARANTINE, spec_named
from coinstream.lake.store import Lake
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
        found = partition_counts(self.brokers)
        places = [(name, part) for name, count in found.items() for part in range(count)]
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


NEWEST: Final = 500
"""Entries shown at most."""
_ENTRY_SCHEMA: Final[dict[str, Any]] = {
    "failed_at": pl.Datetime("ms", "UTC"),
    "topic": pl.String,
    "partition": pl.Int32,
    "offset": pl.Int64,
    "key": pl.String,
    "reason": pl.String,
    "error": pl.String,
    "attempts": pl.Int32,
    "replayed": pl.Boolean,
    "value": pl.String,
}


def dead_letters(
    brokers: BrokerSettings, topic: str, limit: int = NEWEST
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the newest dead letters of a topic, and how many there are by reason.

    Args:
        brokers: the cluster.
        topic: the topic whose messages failed, or its dead-letter topic.
        limit: entries returned at most; all are counted.

    Raises:
        TopicError: the topic has no dead-letter topic.
        BrokerError: the cluster does not answer.
    """
    rows: list[dict[str, Any]] = []
    reasons: dict[tuple[str, bool], int] = {}
    for entry in DeadLetterQueue(brokers, topic).read():
        dead_letter = entry.dead_letter
        reason = (dead_letter.error_type or "unknown", entry.is_replayed)
        reasons[reason] = reasons.get(reason, 0) + 1
        rows.append(
            {
                "failed_at": datetime.fromtimestamp(max(entry.failed_ms, 0) / 1000, UTC),
                "topic": dead_letter.topic,
                "partition": dead_letter.partition,
                "offset": dead_letter.offset,
                "key": _text(dead_letter.key),
                "reason": dead_letter.error_type,
                "error": dead_letter.error,
                "attempts": dead_letter.attempts,
                "replayed": entry.is_replayed,
                "value": _text(dead_letter.value),
            }
        )
        if len(rows) > 4 * limit:
            rows = _newest(rows, limit)
    counts = [
        {"reason": name, "replayed": replayed, "count": count} for (name, replayed), count in reasons.items()
    ]
    count_schema = {"reason": pl.String, "replayed": pl.Boolean, "count": pl.Int64}
    return (
        pl.DataFrame(_newest(rows, limit), schema=_ENTRY_SCHEMA),
        pl.DataFrame(counts, schema=count_schema).sort("count", descending=True),
    )


def replay_dead_letters(brokers: BrokerSettings, topic: str, error: str = "") -> str:
    """Send the open dead letters of a topic to their original topics again; return what was done.

    Args:
        brokers: the cluster.
        topic: the topic whose messages failed, or its dead-letter topic.
        error: only entries whose error has this text in it.

    Raises:
        TopicError: a topic does not exist.
        BrokerError: the cluster does not take them; what was sent until then is marked as replayed.
    """
    done = DeadLetterQueue(brokers, topic).replay(DeadLetterFilter(error=error or None))
    return (
        f"Replayed {done.replayed:,}; left out {done.already:,} replayed before and {done.exhausted:,} "
        "that failed too often."
    )


def replay_refused(lake: Lake, kind: str, reason: str = "", *, dry_run: bool) -> str:
    """Check refused messages of a type again and land those that pass; return what was done.

    Args:
        lake: the tables.
        kind: the message type.
        reason: only messages whose reason or broken rule has this text in it.
        dry_run: change nothing, only count.

    Raises:
        LakeError: the tables cannot be read or written.
    """
    from coinstream.expectations.validator import ExpectationValidator

    spec = spec_named(kind)
    wanted = QuarantineFilter(reason=reason or None)
    validator = ExpectationValidator(spec, lake.settings)
    done = replay_quarantine(lake, spec, validator, wanted, dry_run=dry_run)
    did = "Would land" if dry_run else "Landed"
    return (
        f"{did} {done.landed:,} of {done.selected:,} refused {kind} messages; {done.refused:,} break a rule "
        f"still, {done.present:,} were in the table, {done.incomplete:,} are too long to be whole."
    )


def quarantined(lake: Lake, limit: int = NEWEST) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the newest rows of the quarantine, and how many there are by reason.

    Raises:
        LakeError: the table cannot be read.
    """
    if QUARANTINE not in lake.names():
        return pl.DataFrame(), pl.DataFrame()
    found = query(
        lake,
        'SELECT ingested_at, type, reason, stored, topic, partition, "offset", value '  # noqa: S608
        f"FROM {QUARANTINE} ORDER BY ingested_at DESC",
        limit=limit,
    )
    counts = query(
        lake,
        "SELECT type, reason, count(*) AS count, count(*) FILTER (NOT stored) AS not_stored "  # noqa: S608
        f"FROM {QUARANTINE} GROUP BY ALL ORDER BY count DESC",
        limit=limit,
    )
    return (
        pl.DataFrame(found.rows, schema=found.columns, orient="row", infer_schema_length=None),
        pl.DataFrame(counts.rows, schema=counts.columns, orient="row", infer_schema_length=None),
    )


def _newest(rows: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: row["failed_at"], reverse=True)[:limit]


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode(errors="backslashreplace")
