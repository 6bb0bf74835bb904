"""Dead letters and quarantined rows as data frames, and their replay."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from coinstream.dlq.queue import DeadLetterQueue
from coinstream.lake.query import query
from coinstream.lake.schemas import QUARANTINE
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings

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


def entries(brokers: BrokerSettings, topic: str, limit: int = NEWEST) -> tuple[pl.DataFrame, pl.DataFrame]:
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
        letter = entry.dead_letter
        reason = (letter.error_type or "unknown", entry.is_replayed)
        reasons[reason] = reasons.get(reason, 0) + 1
        rows.append(
            {
                "failed_at": datetime.fromtimestamp(max(entry.failed_ms, 0) / 1000, UTC),
                "topic": letter.topic,
                "partition": letter.partition,
                "offset": letter.offset,
                "key": _text(letter.key),
                "reason": letter.error_type,
                "error": letter.error,
                "attempts": letter.attempts,
                "replayed": entry.is_replayed,
                "value": _text(letter.value),
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


def replay_all(brokers: BrokerSettings, topic: str) -> str:
    """Send the open dead letters of a topic to their original topics again; return what was done.

    Raises:
        TopicError: a topic does not exist.
        BrokerError: the cluster does not take them; what was sent until then is marked as replayed.
    """
    done = DeadLetterQueue(brokers, topic).replay()
    return (
        f"Replayed {done.replayed:,}; left out {done.already:,} replayed before and {done.exhausted:,} "
        "that failed too often."
    )


def quarantined(lake: Lake, limit: int = NEWEST) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the newest rows of the quarantine, and how many there are by reason.

    Raises:
        LakeError: the table cannot be read.
    """
    if QUARANTINE not in lake.names():
        return pl.DataFrame(), pl.DataFrame()
    found = query(lake, f"SELECT * FROM {QUARANTINE} ORDER BY ingested_at DESC", limit=limit)  # nosec B608
    counts = query(
        lake,
        f"SELECT type, reason, count(*) AS count FROM {QUARANTINE} GROUP BY ALL ORDER BY count DESC",  # nosec B608
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
