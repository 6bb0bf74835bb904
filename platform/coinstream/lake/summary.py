"""Summarize the tables from their metadata."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import pyarrow.compute as pc

from coinstream.lake.compaction import partition_of
from coinstream.lake.schemas import VIOLATION_TABLES
from coinstream.lake.store import Lake, wrap_errors
from coinstream.messages import MESSAGE_TYPES

if TYPE_CHECKING:
    from pyiceberg.table import Table


@dataclass(frozen=True)
class Summary:
    """Summary of one table. `bytes` is the size of data files; `newest_event` is from their statistics."""

    name: str
    rows: int
    files: int
    bytes: int
    snapshots: int
    partitions: int
    newest_event: datetime | None
    landed_at: datetime | None


def summaries(lake: Lake) -> list[Summary]:
    """Return the summaries of all tables.

    Raises:
        LakeError: the catalog or the store failed.
    """
    found = ((name, lake.find(name)) for name in lake.names())
    return [
        wrap_errors(partial(summary, name, table), f"look at table {name}")
        for name, table in found
        if table is not None
    ]


def summary(name: str, table: Table) -> Summary:
    """Return the summary of one table."""
    files = [task.file for task in table.scan().plan_files()]
    snapshot = table.current_snapshot()
    return Summary(
        name,
        rows=sum(file.record_count for file in files),
        files=len(files),
        bytes=sum(file.file_size_in_bytes for file in files),
        snapshots=len(table.snapshots()),
        partitions=len({partition_of(file) for file in files}),
        newest_event=_newest(name, table) if files else None,
        landed_at=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) if snapshot else None,
    )


def _newest(name: str, table: Table) -> datetime | None:
    from coinstream.lake.schemas import spec_named

    column = "ingested_at" if name in VIOLATION_TABLES else None
    if name in MESSAGE_TYPES:
        column = spec_named(name).event_time
    if column is None:
        return None
    bounds = table.inspect.files().column("readable_metrics").combine_chunks()
    return pc.max(bounds.field(column).field("upper_bound")).as_py()  # type: ignore[no-any-return]
