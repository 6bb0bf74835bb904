"""Store messages that fail a rule as rows, with the rules and the payload."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.lake.batch import Batch, Mask, rows_beyond
from coinstream.lake.landed_offsets import LandedOffsets
from coinstream.lake.schemas import PROVENANCE, QUARANTINE_SCHEMA, TIME
from coinstream.lake.validation import ValidationResult

MAX_PAYLOAD: Final = 65_536
"""Maximum bytes of a payload in the quarantine."""
UNREADABLE: Final = "readable"
INCOMPLETE: Final = "complete"


def offender_rows(
    batch: Batch, validation: ValidationResult, offenders: Mask, ingested: datetime
) -> pa.Table:
    """Return the selected messages of a batch with the columns of the quarantine."""
    at = np.flatnonzero(offenders)
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


def new_offenders(
    found: Sequence[tuple[pa.Table, LandedOffsets]], known: LandedOffsets
) -> tuple[pa.Table, LandedOffsets]:
    """Return the rows after the landed offsets of their table, and the offsets after them."""
    kept, advanced = [], known
    for rows, reached in found:
        kept.append(rows.filter(pa.array(rows_beyond(rows, advanced, reached.ids))))
        advanced = advanced.advanced(reached)
    return pa.concat_tables(kept), advanced
