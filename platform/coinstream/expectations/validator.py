"""Validate every message of a batch against every rule of its type."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pyarrow as pa

from coinstream.expectations.rules import Rule, rules_for
from coinstream.expectations.series import SeriesMemory
from coinstream.expectations.validation import SuiteValidator
from coinstream.expectations.validation_frame import ValidationFrameBuilder
from coinstream.lake.batch import Batch
from coinstream.lake.check_result import MAX_SAMPLES, CheckResult
from coinstream.lake.schemas import TableSpec
from coinstream.lake.validation import ValidationResult
from coinstream.settings import LakeSettings

_ORIGIN = ("topic", "partition", "offset")


class ExpectationValidator:
    """Refuses rows that break a rule which refuses them, or that the table cannot hold; reports the rest."""

    def __init__(self, spec: TableSpec, settings: LakeSettings | None = None) -> None:
        chosen = settings or LakeSettings()
        rules = rules_for(spec.name, chosen)
        self._spec = spec
        self._frames = ValidationFrameBuilder(spec, chosen)
        self._validator = SuiteValidator(spec.name, rules)

    @property
    def memory(self) -> SeriesMemory:
        """Return what is remembered of earlier rows: the newest of each series, and clock skews."""
        return self._frames.memory

    @memory.setter
    def memory(self, memory: SeriesMemory | None) -> None:
        self._frames.memory = memory or SeriesMemory()

    def validate(self, batch: Batch, ingested: datetime) -> ValidationResult:
        """Look at every row of the batch."""
        checks = self._validator.validate(self._frames.build(batch, ingested))
        refused = ~batch.storable()
        for check in checks:
            if check.refuses_rows:
                refused[check.rows] = True
        rules = zip(self._validator.rules, checks, strict=True)
        return ValidationResult(refused, [_with_samples(rule, check, batch) for rule, check in rules])


def _with_samples(rule: Rule, check: CheckResult, batch: Batch) -> CheckResult:
    if not len(check.rows):
        return check
    names = list(dict.fromkeys([*batch.spec.key, *rule.columns, *_ORIGIN]))
    taken = batch.rows.select(names).take(pa.array(check.rows[:MAX_SAMPLES])).to_pylist()
    faults = batch.fault.take(pa.array(check.rows[:MAX_SAMPLES])).to_pylist()
    shown = [_shown(row, fault) for row, fault in zip(taken, faults, strict=True)]
    return replace(check, samples=tuple(shown))


def _shown(row: dict[str, Any], fault: str | None) -> dict[str, Any]:
    texts: dict[str, Any] = {
        name: value if isinstance(value, (int, str)) or value is None else f"{value}"
        for name, value in row.items()
    }
    return texts if fault is None else {**texts, "fault": fault}
