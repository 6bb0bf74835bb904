"""Messages that broke a rule: kept with the rules and the bytes, once each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.expectations.check_result import Outcome
from coinstream.lake.batch import Batch, Mask
from coinstream.lake.commit import Committed, contended
from coinstream.lake.data_files import append
from coinstream.lake.landed_offsets import OFFSETS, landed_positions
from coinstream.lake.schemas import PROVENANCE, QUARANTINE_SCHEMA, TIME
from coinstream.lake.store import Lake

MAX_PAYLOAD: Final = 65_536
"""Bytes of a message that the quarantine keeps."""
UNREADABLE: Final = "readable"
INCOMPLETE: Final = "complete"


@dataclass(frozen=True)
class Judgement:
    """Who of a batch may land, and what each expectation found."""

    refused: Mask
    outcomes: Sequence[Outcome]


def quarantine_batch(
    lake: Lake, batch: Batch, judgement: Judgement, ingested: datetime, properties: Mapping[str, str]
) -> Committed | None:
    """Keep the offenders of a batch. Done before it lands, so that no refused message is without a trace.

    The quarantine remembers how far it is, as tables do: a batch that is landed again after a
    crash adds no offender twice. What decides is the message alone, so it is refused again.

    Raises:
        LakeError: the catalogue or the store fails.
    """
    offenders = judgement.refused.copy()
    for outcome in judgement.outcomes:
        offenders[outcome.rows] = True
    if not offenders.any():
        return None

    def attempt() -> Committed:
        table = lake.quarantine()
        known = landed_positions(table)
        fresh = offenders & batch.beyond(known, batch.topic_ids)
        if not fresh.any():
            return Committed(0, int(offenders.sum()), known)
        rows = _rows(batch, judgement, np.flatnonzero(fresh), ingested)
        append(table, rows, {**properties, OFFSETS: known.advanced(batch.reached).to_text()})
        return Committed(rows.num_rows, 0, known)

    return contended(lake, "quarantine messages", attempt)


def _rows(batch: Batch, judgement: Judgement, at: np.ndarray, ingested: datetime) -> pa.Table:
    rules: dict[int, list[str]] = {row: [] for row in at.tolist()}
    for outcome in judgement.outcomes:
        for row in outcome.rows.tolist():
            if row in rules:
                rules[row].append(outcome.name)
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
        pa.array(~judgement.refused[at]),
        pc.binary_slice(batch.payloads.take(taken), 0, MAX_PAYLOAD),
    ]
    return pa.Table.from_arrays(columns, schema=QUARANTINE_SCHEMA)
