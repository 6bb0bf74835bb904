"""Backfill an hour: land messages of the topics that are missing in the table."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.lake.commit import CommitResult, append, retry_on_conflict
from coinstream.lake.landed_offsets import CHECKS, OFFSETS, RUN, read_landed_offsets
from coinstream.lake.landing import TableReport
from coinstream.lake.prepare import read_batches, table_rows
from coinstream.lake.schemas import TIME, TableSpec
from coinstream.lake.store import Lake
from coinstream.lake.topic_reader import TopicReader
from coinstream.lake.validation import (
    Batch,
    BatchValidator,
    Mask,
    NoValidation,
    ValidationResult,
    merge_checks,
)
from coinstream.settings import BrokerSettings

if TYPE_CHECKING:
    from pyiceberg.table import Table

_PLACE = ("topic", "partition", "offset")


def backfill(
    lake: Lake,
    brokers: BrokerSettings,
    spec: TableSpec,
    since: datetime,
    until: datetime,
    validator: BatchValidator | None = None,
    *,
    run_id: str | None = None,
    topic: str | None = None,
) -> TableReport:
    """Land missing messages with record timestamps from `since` to before `until`.

    Rows are missing if they were deleted, or refused by a rule that was corrected. Existing rows are
    unchanged. Messages that were never landed are left to `land`. The operation is idempotent. It misses
    records whose timestamp is out of order by more than `OUT_OF_ORDER_MS`.

    Raises:
        CoinstreamError: see `land`.
    """
    started = time.monotonic()
    run = run_id or uuid.uuid4().hex
    report = TableReport(spec.name, run)
    chosen = validator or NoValidation()
    settings = lake.settings
    with TopicReader(brokers, settings) as reader:
        selection = reader.select_topics(topic or spec.kind.topic)
        report.topics, report.ignored = selection.landed, selection.ignored
        plan = reader.plan_times(report.topics, _ms(since), _ms(until))
        for read in read_batches(reader, plan, spec, settings):
            batch = read.where(_in_range(read, since, until))
            if not len(batch):
                continue
            ingested = datetime.now(UTC)
            validation = chosen.validate(batch, ingested)
            properties = {RUN: run, CHECKS: _checks_text(validation)}
            done = commit_missing(lake, batch, ~validation.refused, ingested, properties)
            report.messages += len(batch)
            report.rows += done.rows
            report.duplicates += done.duplicates
            report.refused += int(np.count_nonzero(validation.refused))
            report.flagged += int(np.count_nonzero(validation.flagged()))
            report.checks = merge_checks([*report.checks, *validation.checks])
    report.seconds = time.monotonic() - started
    return report


def _in_range(batch: Batch, since: datetime, until: datetime) -> Mask:
    """Return which rows have record timestamps in a range."""
    at = batch.rows["record_timestamp"]
    within = pc.and_(
        pc.greater_equal(at, pa.scalar(since, TIME)),
        pc.less(at, pa.scalar(until, TIME)),
    )
    return np.asarray(pc.fill_null(within, False))


def _checks_text(validation: ValidationResult) -> str:
    counts = {check.name: [check.checked, check.failed] for check in validation.checks}
    return msgspec.json.encode(counts).decode()


def commit_missing(
    lake: Lake, batch: Batch, wanted: Mask, ingested: datetime, properties: dict[str, str]
) -> CommitResult:
    """Commit the wanted rows that are before the landed offsets and missing in the table.

    Raises:
        LakeError: the catalog or the store failed, or the commit conflicted too often.
    """

    def attempt() -> CommitResult:
        table = lake.table(batch.spec)
        landed = read_landed_offsets(table)
        missing = wanted & ~batch.beyond(landed, batch.topic_ids) & ~present_rows(table, batch)
        count = int(missing.sum())
        if count:
            append(
                table,
                table_rows(batch, pa.array(missing), ingested),
                {**properties, OFFSETS: landed.to_text()},
            )
        return CommitResult(count, int(wanted.sum()) - count, landed)

    return retry_on_conflict(lake, f"land {batch.spec.name} again", attempt)


def present_rows(table: Table, batch: Batch) -> Mask:
    """Return a mask of the batch's rows that are in the table. Every row must have a record timestamp."""
    stamps = pl.from_arrow(batch.rows.select(["record_timestamp"]))
    assert isinstance(stamps, pl.DataFrame)
    first, last = stamps["record_timestamp"].min(), stamps["record_timestamp"].max()
    span = f"record_timestamp >= '{_iso(first)}' and record_timestamp <= '{_iso(last)}'"
    found = pl.from_arrow(table.scan(row_filter=span, selected_fields=_PLACE).to_arrow())
    mine = pl.from_arrow(batch.rows.select(list(_PLACE)))
    assert isinstance(found, pl.DataFrame)
    assert isinstance(mine, pl.DataFrame)
    known = found.select(_PLACE).with_columns(here=pl.lit(True)).unique()
    joined = mine.join(known, on=_PLACE, how="left", maintain_order="left")
    present: Mask = joined["here"].fill_null(False).to_numpy()
    return present


def _iso(moment: object) -> str:
    assert isinstance(moment, datetime)
    return moment.isoformat()


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
