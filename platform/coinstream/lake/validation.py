"""Define the interface of validators, which decide which rows of a batch are landed."""

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
