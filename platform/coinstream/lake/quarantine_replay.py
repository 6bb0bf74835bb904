"""Check refused messages again, and land those that pass the current rules."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.lake.backfill import commit_missing, present_rows
from coinstream.lake.commit import CommitResult, retry_on_conflict
from coinstream.lake.landed_offsets import OFFSETS, RUN, read_landed_offsets
from coinstream.lake.prepare import MEMORY_SHARE, batches
from coinstream.lake.quarantine import MAX_PAYLOAD
from coinstream.lake.query import sql
from coinstream.lake.read_plan import HEADER_FAULT, FetchedChunk, ReadPlan
from coinstream.lake.schemas import QUARANTINE, TIME, TableSpec
from coinstream.lake.store import Lake
from coinstream.lake.validation import Batch, BatchValidator

if TYPE_CHECKING:
    from pyiceberg.table import Table

_CHUNK: Final = 2_000
_LZ4_FRAME: Final = b"\x04\x22\x4d\x18"
"""First bytes of a compressed value. No JSON text begins like this."""


@dataclass(frozen=True)
class QuarantineFilter:
    """Selects refused messages. None selects all.

    Attributes:
        reason: a part of the reason or of a broken rule's name, in upper or lower case.
        since: refused at this time or later.
        limit: at most this many, oldest first.
    """

    reason: str | None = None
    since: datetime | None = None
    limit: int | None = None


@dataclass
class QuarantineReplay:
    """The result of a replay.

    Attributes:
        table: the table of the messages' type.
        selected: refused messages that the filter selected.
        landed: rows that were landed; of a dry run, rows that would be.
        present: messages that were in the table already, for example after a backfill.
        refused: messages that break a rule still.
        incomplete: messages of which the quarantine holds only the beginning.
    """

    table: str
    selected: int = 0
    landed: int = 0
    present: int = 0
    refused: int = 0
    incomplete: int = 0


def replay_quarantine(
    lake: Lake,
    spec: TableSpec,
    validator: BatchValidator,
    wanted: QuarantineFilter | None = None,
    *,
    dry_run: bool = False,
    run_id: str | None = None,
) -> QuarantineReplay:
    """Check the refused messages of a type again and land those that pass, each once.

    The messages come from the quarantine, so this works after retention deleted them from their topic. A row
    keeps its topic, partition and offset, and the quarantine then says that it is stored. No topic is
    written, so no consumer group sees a message twice.

    Args:
        lake: the tables.
        spec: the table of the messages' type.
        validator: decides which rows may land.
        wanted: which messages; all by default.
        dry_run: change nothing, only count.
        run_id: id that the snapshots carry.

    Raises:
        LakeError: the catalog or the store fails, or other writers were faster too many times.
    """
    report = QuarantineReplay(spec.name)
    rows = _refused(lake, spec, wanted or QuarantineFilter())
    report.selected = rows.num_rows
    whole = rows.filter(pc.less(_lengths(rows), MAX_PAYLOAD))
    timed = whole.filter(pc.is_valid(whole["record_timestamp"]))
    report.incomplete = rows.num_rows - whole.num_rows
    report.refused = whole.num_rows - timed.num_rows  # tables need the record's time
    properties = {RUN: run_id or uuid.uuid4().hex}
    for batch in _batches(lake, spec, timed):
        _replay_batch(lake, batch, validator, report, properties, dry_run=dry_run)
    return report


def _lengths(rows: pa.Table) -> pa.ChunkedArray:
    return pc.fill_null(pc.binary_length(rows["value"]), 0)


def _refused(lake: Lake, spec: TableSpec, wanted: QuarantineFilter) -> pa.Table:
    """Return the selected messages that are not stored, each once, by partition and offset."""
    conditions = ["type = $type", "NOT stored"]
    parameters: dict[str, Any] = {"type": spec.name}
    if wanted.reason is not None:
        conditions.append("contains(lower(reason || ' ' || array_to_string(rules, ' ')), $reason)")
        parameters["reason"] = wanted.reason.lower()
    if wanted.since is not None:
        conditions.append("ingested_at >= $since")
        parameters["since"] = wanted.since
    limit = "" if wanted.limit is None else f"LIMIT {int(wanted.limit)}"
    lake.quarantine()  # so that it can be queried, also while it is empty
    return sql(
        f"""
        SELECT topic, partition, "offset", record_timestamp, reason, value FROM {QUARANTINE}
        WHERE {" AND ".join(conditions)}
        QUALIFY row_number() OVER (PARTITION BY topic, partition, "offset" ORDER BY ingested_at DESC) = 1
        ORDER BY ingested_at, topic, partition, "offset" {limit}
        """,  # noqa: S608
        parameters,
        lake=lake,
    ).arrow()


def _batches(lake: Lake, spec: TableSpec, rows: pa.Table) -> Iterator[Batch]:
    settings = lake.settings
    ordered = rows.sort_by([("topic", "ascending"), ("partition", "ascending"), ("offset", "ascending")])
    chunks = (_chunk(ordered.slice(at, _CHUNK)) for at in range(0, ordered.num_rows, _CHUNK))
    return batches(
        spec,
        chunks,
        ReadPlan({}),
        max_rows=settings.batch_rows,
        max_bytes=settings.memory_bytes // MEMORY_SHARE,
    )


def _chunk(rows: pa.Table) -> FetchedChunk:
    """Return rows of the quarantine as they came from their topics."""
    topics = rows["topic"].unique().to_pylist()
    index = pc.index_in(rows["topic"], value_set=pa.array(topics, pa.string()))
    milliseconds = pc.divide(rows["record_timestamp"].cast(TIME).cast(pa.int64()), 1_000)
    values = rows["value"].combine_chunks()
    payloads = values.cast(pa.binary())
    framed = pc.fill_null(pc.starts_with(payloads, _LZ4_FRAME), False)
    return FetchedChunk(
        topics,
        index.to_numpy().astype(np.int64),
        rows["partition"].to_numpy().astype(np.int64),
        rows["offset"].to_numpy().astype(np.int64),
        milliseconds.to_numpy().astype(np.int64),
        payloads,
        pc.indices_nonzero(framed).to_pylist(),
        # What was wrong beside the value does not show in it.
        {at: HEADER_FAULT for at, why in enumerate(rows["reason"].to_pylist()) if why == HEADER_FAULT},
    )


def _replay_batch(
    lake: Lake,
    batch: Batch,
    validator: BatchValidator,
    report: QuarantineReplay,
    properties: dict[str, str],
    *,
    dry_run: bool,
) -> None:
    ingested = datetime.now(UTC)
    passed = ~validator.validate(batch, ingested).refused
    report.refused += int(np.count_nonzero(~passed))
    if not passed.any():
        return
    present = present_rows(lake.table(batch.spec), batch) & passed
    report.present += int(np.count_nonzero(present))
    if dry_run:
        report.landed += int(np.count_nonzero(passed & ~present))
        return
    report.landed += commit_missing(lake, batch, passed, ingested, properties).rows
    mark_stored(lake, batch.spec, batch.rows.filter(pa.array(passed)), properties)


def mark_stored(lake: Lake, spec: TableSpec, landed: pa.Table, properties: dict[str, str]) -> None:
    """Set `stored` in the quarantine for rows that are in their table now.

    Raises:
        LakeError: the catalog or the store fails, or other writers were faster too many times.
    """
    chosen = _selection(spec, landed)

    def attempt() -> CommitResult:
        table = lake.quarantine()
        offsets = read_landed_offsets(table)
        found = table.scan(row_filter=chosen).to_arrow()
        _overwrite(table, found, chosen, {**properties, OFFSETS: offsets.to_text()})
        return CommitResult(found.num_rows, 0, offsets)

    retry_on_conflict(lake, "mark landed messages of the quarantine", attempt)


def _overwrite(table: Table, rows: pa.Table, chosen: str, properties: dict[str, str]) -> None:
    at = rows.schema.get_field_index("stored")
    marked = rows.set_column(at, rows.schema.field(at), pa.array([True] * rows.num_rows, pa.bool_()))
    table.overwrite(marked, overwrite_filter=chosen, snapshot_properties=properties)


def _selection(spec: TableSpec, rows: pa.Table) -> str:
    """Return the condition that selects rows of the quarantine by topic, partition and offset."""
    offsets: dict[tuple[str, int], set[int]] = {}
    places = (rows[name].to_pylist() for name in ("topic", "partition", "offset"))
    for topic, partition, offset in zip(*places, strict=True):
        offsets.setdefault((topic, partition), set()).add(offset)
    parts = []
    for (topic, partition), found in sorted(offsets.items()):
        numbers = ", ".join(map(str, sorted(found)))
        parts.append(f"(topic == '{topic}' and partition == {partition} and offset in ({numbers}))")
    return f"type == '{spec.name}' and ({' or '.join(parts)})"
