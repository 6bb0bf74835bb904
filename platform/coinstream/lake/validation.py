"""Hold batches of decoded rows, decide which rows may land, and report each expectation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.lake.landed_offsets import LandedOffsets
from coinstream.lake.schemas import TableSpec
from coinstream.settings import LakeSettings

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Batch:
    """Messages of one type, one row each, in the order of their partitions.

    Attributes:
        rows: message columns, `extra`, and the origin of each row.
        fault: error of a payload that could not be decoded, else null.
        utc_times: whether the times are ISO-8601 in UTC.
        payloads: original bytes, possibly compressed.
        reached: next offsets after the batch.
    """

    spec: TableSpec
    rows: pa.Table
    fault: pa.ChunkedArray
    utc_times: pa.ChunkedArray
    payloads: pa.ChunkedArray
    reached: LandedOffsets

    @property
    def topic_ids(self) -> dict[str, str | None]:
        """Return the id of each topic of the batch, if the broker has topic ids."""
        return {topic: position.topic_id for topic, position in self.reached.topics.items()}

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def storable(self) -> Mask:
        """Return a mask of rows that were decoded and have all required fields."""
        good = pc.is_null(self.fault)
        for column in self.spec.columns:
            if column.required and self.rows[column.name].null_count:
                good = pc.and_(good, pc.is_valid(self.rows[column.name]))
        return np.asarray(good)

    def where(self, mask: Mask) -> Batch:
        """Return the batch with the chosen rows only."""
        chosen = pa.array(mask)
        return replace(
            self,
            rows=self.rows.filter(chosen),
            fault=self.fault.filter(chosen),
            utc_times=self.utc_times.filter(chosen),
            payloads=self.payloads.filter(chosen),
        )

    def beyond(self, landed: LandedOffsets, ids: dict[str, str | None]) -> Mask:
        """Return a mask of rows that are not landed yet."""
        return rows_beyond(self.rows, landed, ids)


def rows_beyond(rows: pa.Table, landed: LandedOffsets, ids: Mapping[str, str | None]) -> Mask:
    """Return a mask of rows after the landed offsets of their partition."""
    topics = rows["topic"].unique().to_pylist()
    index = pc.index_in(rows["topic"], value_set=pa.array(topics, pa.string())).to_numpy()
    partition = rows["partition"].to_numpy()
    width = int(partition.max(initial=0)) + 1
    nexts = np.array([[landed.next(t, part, ids.get(t)) for part in range(width)] for t in topics], np.int64)
    if not topics:
        return np.zeros(0, np.bool_)
    fresh: Mask = rows["offset"].to_numpy() >= nexts[index, partition]
    return fresh


Severity = Literal["error", "warn"]
Rows = npt.NDArray[np.int64]

MAX_SAMPLES: Final = 20
"""Maximum examples of failed rows per check."""


@dataclass(frozen=True)
class CheckResult:
    """Result of one expectation on one or more batches.

    Attributes:
        name: name of the expectation, for example `bid_at_most_ask`.
        description: expected condition.
        severity: `error` or `warn`.
        refuses_rows: whether failed rows are not landed.
        checked: number of checked rows.
        failed: number of failed rows, or of failed batches for an expectation on batches.
        samples: examples of failed rows as columns and values.
        rows: indexes of failed rows in the batch; empty after checks are merged.
    """

    name: str
    description: str
    severity: Severity
    refuses_rows: bool
    checked: int
    failed: int
    samples: tuple[Mapping[str, Any], ...] = ()
    rows: Rows = field(default_factory=lambda: np.zeros(0, np.int64), compare=False, repr=False)

    @property
    def passed(self) -> bool:
        """Return whether no row failed."""
        return self.failed == 0


def merge_checks(checks: Iterable[CheckResult]) -> list[CheckResult]:
    """Merge the results per expectation: counts are summed, and the first samples are kept."""
    found: dict[str, CheckResult] = {}
    for check in checks:
        known = found.get(check.name)
        if known is None:
            found[check.name] = replace(check, rows=np.zeros(0, np.int64))
            continue
        found[check.name] = replace(
            known,
            checked=known.checked + check.checked,
            failed=known.failed + check.failed,
            samples=(*known.samples, *check.samples)[:MAX_SAMPLES],
        )
    return list(found.values())


@dataclass(frozen=True)
class ValidationResult:
    """Refused rows of a batch, and the result of each expectation."""

    refused: Mask
    checks: Sequence[CheckResult]

    def flagged(self) -> Mask:
        """Return a mask of rows that are landed although they fail a rule."""
        broken = np.zeros_like(self.refused)
        for check in self.checks:
            broken[check.rows] = True
        return broken & ~self.refused


class BatchValidator(Protocol):
    """Validator of batches, called in the order of the partitions."""

    memory: Any
    """State from earlier rows. It can be pickled, and set to continue after another batch."""

    def validate(self, batch: Batch, ingested: datetime) -> ValidationResult:
        """Validate every row of a batch."""


ValidatorFactory = Callable[[TableSpec, LakeSettings], BatchValidator]


class NoValidation:
    """Validator that refuses only rows that the table cannot store."""

    memory: Any = None

    def validate(self, batch: Batch, ingested: datetime) -> ValidationResult:
        """Refuse rows that could not be decoded or lack a required field."""
        return ValidationResult(~batch.storable(), ())
