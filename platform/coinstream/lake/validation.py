"""Decide which rows of a batch may land."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import numpy as np

from coinstream.lake.batch import Batch, Mask
from coinstream.lake.check_result import CheckResult
from coinstream.lake.schemas import TableSpec
from coinstream.settings import LakeSettings


@dataclass(frozen=True)
class ValidationResult:
    """Which rows of a batch are refused, and what each expectation found."""

    refused: Mask
    checks: Sequence[CheckResult]

    def flagged(self) -> Mask:
        """Return which rows may land although they break a rule."""
        broken = np.zeros_like(self.refused)
        for check in self.checks:
            broken[check.rows] = True
        return broken & ~self.refused


class BatchValidator(Protocol):
    """Decides which rows of a batch may land. Asked batch by batch, in the order of the partitions."""

    memory: Any
    """What is remembered of earlier rows. It can be pickled, and set to go on from another batch."""

    def validate(self, batch: Batch, ingested: datetime) -> ValidationResult:
        """Look at every row of the batch."""


ValidatorFactory = Callable[[TableSpec, LakeSettings], BatchValidator]


class NoValidation:
    """Refuses only what a table cannot hold."""

    memory: Any = None

    def validate(self, batch: Batch, ingested: datetime) -> ValidationResult:
        """Refuse rows that could not be read or lack a required field."""
        return ValidationResult(~batch.storable(), ())
