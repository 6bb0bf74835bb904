"""What a validation found, expectation by expectation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

Severity = Literal["error", "warn"]
Rows = npt.NDArray[np.int64]

MAX_SAMPLES: Final = 20
"""Offending rows that an check keeps to show."""


@dataclass(frozen=True)
class CheckResult:
    """One expectation over one or more batches.

    Attributes:
        name: the expectation's own name, e.g. `bid_at_most_ask`.
        description: what it asks, in words.
        severity: `error` or `warn`.
        refuses_rows: an offender does not land.
        checked: rows looked at.
        failed: rows, or for a whole-batch expectation batches, that do not meet it.
        samples: some offenders, as columns and values.
        rows: the offenders' places in the batch; empty once checks are merged.
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
        """Whether nothing offends."""
        return self.failed == 0


def merge_checks(checks: Iterable[CheckResult]) -> list[CheckResult]:
    """One check an expectation: counts summed up, the first samples kept."""
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
