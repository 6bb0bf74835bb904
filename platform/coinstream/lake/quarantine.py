"""Store refused and flagged messages, and summarize them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.lake.landed_offsets import LandedOffsets
from coinstream.lake.query import query
from coinstream.lake.schemas import PROVENANCE, QUARANTINE, QUARANTINE_SCHEMA, TIME
from coinstream.lake.store import Lake
from coinstream.lake.validation import Batch, Mask, ValidationResult, rows_beyond
from coinstream.text import format_timestamp, printable

MAX_PAYLOAD: Final = 65_536
"""Maximum bytes of a payload in the quarantine."""
UNREADABLE: Final = "readable"
INCOMPLETE: Final = "complete"


def offender_rows(
    batch: Batch, validation: ValidationResult, offenders: Mask, ingested: datetime
) -> pa.Table:
    """Return the selected messages of a batch with the columns of the quarantine."""
    at = np.flatnonzero(offenders)
    if not len(at):
        return QUARANTINE_SCHEMA.empty_table()
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


_REASONS: Final = 50
_TEXT: Final = 300


@dataclass(frozen=True)
class Violation:
    """A message that broke a rule. `value` is the beginning of its bytes, as printable text."""

    type: str
    topic: str
    partition: int
    offset: int
    time: str
    reason: str
    stored: bool
    value: str

    @property
    def origin(self) -> str:
        """The place of the message: topic, partition and offset."""
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True)
class ViolationSummary:
    """Messages of one table of violations, those of one type or of all.

    Attributes:
        entries: number of messages.
        waiting: those of them that are not in the table of their type.
        reasons: number of messages by their reason, most frequent first; waiting ones in the quarantine.
        newest: the newest messages, newest first.
    """

    entries: int
    waiting: int
    reasons: Mapping[str, int]
    newest: tuple[Violation, ...]


def summarize_violations(
    lake: Lake, table: str, kind: str | None = None, since: datetime | None = None, shown: int = 20
) -> ViolationSummary:
    """Count the messages of a table of violations by reason and return the newest of them.

    Args:
        lake: the tables.
        table: `quarantine` or `flagged`.
        kind: only messages of this type.
        since: only messages that were found since.
        shown: number of messages to return.

    Raises:
        LakeError: the table cannot be read.
    """
    if lake.find(table) is None:
        return ViolationSummary(0, 0, {}, ())
    where, parameters = _conditions(kind, since)
    counted = query(
        lake,
        f"SELECT reason, stored, count(*) FROM {table} {where} GROUP BY ALL ORDER BY 3 DESC, 1",  # noqa: S608
        parameters,
        limit=100_000,
    ).rows
    entries = sum(int(count) for _, _, count in counted)
    waiting = [(str(reason), int(count)) for reason, stored, count in counted if not stored]
    chosen = waiting if table == QUARANTINE else [(str(reason), int(count)) for reason, _, count in counted]
    found = query(
        lake,
        'SELECT type, topic, partition, "offset", epoch_ms(record_timestamp), reason, stored, value '  # noqa: S608
        f'FROM {table} {where} ORDER BY ingested_at DESC, "offset" DESC',
        parameters,
        limit=shown,
    )
    return ViolationSummary(
        entries,
        sum(count for _, count in waiting),
        dict(chosen[:_REASONS]),
        tuple(_violation(row) for row in found.rows),
    )


def waiting_by_type(lake: Lake, since: datetime | None = None) -> dict[str, int]:
    """Return the number of refused messages that are not stored, by message type.

    Raises:
        LakeError: the table cannot be read.
    """
    if lake.find(QUARANTINE) is None:
        return {}
    where, parameters = _conditions(None, since)
    both = f"{where} AND NOT stored" if where else "WHERE NOT stored"
    found = query(lake, f"SELECT type, count(*) FROM {QUARANTINE} {both} GROUP BY type", parameters)  # noqa: S608
    return {str(kind): int(count) for kind, count in found.rows}


def _conditions(kind: str | None, since: datetime | None) -> tuple[str, dict[str, Any]]:
    conditions, parameters = [], dict[str, Any]()
    if kind is not None:
        conditions.append("type = $type")
        parameters["type"] = kind
    if since is not None:
        conditions.append("ingested_at >= $since")
        parameters["since"] = since
    return (f"WHERE {' AND '.join(conditions)}" if conditions else ""), parameters


def _violation(row: tuple[Any, ...]) -> Violation:
    kind, topic, partition, offset, at_ms, reason, stored, value = row
    time = format_timestamp(-1 if at_ms is None else at_ms) or ""
    return Violation(
        *(str(kind), str(topic), int(partition), int(offset), time),
        *(str(reason)[:_TEXT], bool(stored), printable(str(value or ""))[:_TEXT]),
    )
