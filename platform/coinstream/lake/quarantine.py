"""Keep messages that break a rule, with the rules and the bytes, once each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.expectations.check_result import CheckResult
from coinstream.lake.batch import Batch, Mask
from coinstream.lake.commit import CommitResult, retry_on_conflict
from coinstream.lake.data_files import append
from coinstream.lake.landed_offsets import OFFSETS, read_landed_offsets
from coinstream.lake.schemas import PROVENANCE, QUARANTINE_SCHEMA, TIME
from coinstream.lake.store import Lake

if TYPE_CHECKING:
    from pyiceberg.table import Table

MAX_PAYLOAD: Final = 65_536
"""Bytes of a message that the quarantine keeps."""
UNREADABLE: Final = "readable"
INCOMPLETE: Final = "complete"


@dataclass(frozen=True)
class ValidationResult:
    """Which rows of a batch may land, and what each expectation found."""

    refused: Mask
    checks: Sequence[CheckResult]

    def flagged(self) -> Mask:
        """Return which rows may land although they break a rule."""
        broken = np.zeros_like(self.refused)
        for check in self.checks:
            broken[check.rows] = True
        return broken & ~self.refused


def quarantine_batch(
    lake: Lake, batch: Batch, validation: ValidationResult, ingested: datetime, properties: Mapping[str, str]
) -> None:
    """Keep the messages of a batch that break a rule: refused ones in `quarantine`, others in `flagged`.

    Done before the batch lands, so that no refused message is without a trace. Both tables carry
    landed offsets as the others do: a batch that is landed again after a crash adds no row twice.

    Raises:
        LakeError: the catalog or the store fails, or other writers were faster too many times.
    """
    for offenders, load in ((validation.refused, lake.quarantine), (validation.flagged(), lake.flagged)):
        if offenders.any():
            _append_offenders(load, lake, batch, validation, offenders, ingested, properties)


def _append_offenders(
    load: Callable[[], Table],
    lake: Lake,
    batch: Batch,
    validation: ValidationResult,
    offenders: Mask,
    ingested: datetime,
    properties: Mapping[str, str],
) -> None:
    def attempt() -> CommitResult:
        table = load()
        known = read_landed_offsets(table)
        fresh = offenders & batch.beyond(known, batch.topic_ids)
        if not fresh.any():
            return CommitResult(0, int(offenders.sum()), known)
        rows = _rows(batch, validation, np.flatnonzero(fresh), ingested)
        append(table, rows, {**properties, OFFSETS: known.advanced(batch.reached).to_text()})
        return CommitResult(rows.num_rows, 0, known)

    retry_on_conflict(lake, "keep messages that break a rule", attempt)


def _rows(batch: Batch, validation: ValidationResult, at: np.ndarray, ingested: datetime) -> pa.Table:
    rules: dict[int, list[str]] = {row: [] for row in at.tolist()}
    for check in validation.checks:
        for row in check.rows.tolist():
            if row in rules:
                rules[row].append(check.name)
    taken = pa.array(at)
    count = len(at)
    faults = batch.fault.take(taken).to_pylist()
    names = [
        rules[row] or [INCOMPLETE if fault is None else UNREADABLE]
        for row, fault in zip(rules, faults, strict=True)
    ]
    reasons = [fault or ", ".join(broken) for fault, broken in zip(faults, names, strict=True)]
    columns = [
        pa.repeat(batch.spec.name, count),
        *(batch.rows[field.name].take(taken) for field in PROVENANCE),
        pa.repeat(pa.scalar(ingested, TIME), count),
        pa.array(names, pa.list_(pa.string())),
        pa.array(reasons, pa.string()),
        pa.array(~validation.refused[at]),
        pc.binary_slice(batch.payloads.take(taken), 0, MAX_PAYLOAD),
    ]
    return pa.Table.from_arrays(columns, schema=QUARANTINE_SCHEMA)
