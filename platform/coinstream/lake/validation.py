"""Decide which rows of a batch may land, and report the result of each expectation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from coinstream.lake.batch import Batch, Mask
from coinstream.lake.schemas import TableSpec
from coinstream.settings import LakeSettings

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
