"""Messages that broke a rule: kept with the rules and the bytes, once each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

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

MAX_PAYLOAD: Final = 65_536
"""Bytes of a message that the quarantine keeps."""
UNREADABLE: Final = "readable"
INCOMPLETE: Final = "complete"


@dataclass(frozen=True)
class ValidationResult:
    """Who of a batch may land, and what each expectation found."""

    refused: Mask
    checks: Sequence[CheckResult]


def quarantine_batch(
    lake: Lake, batch: Batch, validation: ValidationResult, ingested: datetime, properties: Mapping[str, str]
) -> CommitResult | None:
    """Keep the offenders of a batch. Done before it lands, so that no refused message is without a trace.

    The quarantine remembers how far it is, as tables do: a batch that is landed again after a
    crash adds no offender twice. What decides is the message alone, so it is refused again.

    Raises:
        LakeError: the catalog or the store fails.
    """
    offenders = validation.refused.copy()
    for check in validation.checks:
        offenders[check.rows] = True
    if not offenders.any():
        return None

    def attempt() -> CommitResult:
        table = lake.quarantine()
        known = read_landed_offsets(table)
        fresh = offenders & batch.beyond(known, batch.topic_ids)
        if not fresh.any():
            return CommitResult(0, int(offenders.sum()), known)
        rows = _rows(batch, validation, np.flatnonzero(fresh), ingested)
        append(table, rows, {**properties, OFFSETS: known.advanced(batch.reached).to_text()})
        return CommitResult(rows.num_rows, 0, known)

    return retry_on_conflict(lake, "quarantine messages", attempt)


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
