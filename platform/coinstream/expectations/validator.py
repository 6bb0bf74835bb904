"""Validate every message of a batch against every rule of its type.

The rules are a suite of Great Expectations. It evaluates each rule once at the rule's own limits: a limit
that holds for a least and a greatest value holds for all values between. Batches whose values lie within the
range that Great Expectations accepted hold. In other batches the rows that break a rule are found by the
comparison that its expectation stands for. Rules without such limits, such as one on a share of the rows, are
evaluated by Great Expectations on every row of every batch.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pyarrow as pa

from coinstream.errors import LakeError
from coinstream.expectations.columns import Bounds, ValidationFrame
from coinstream.expectations.comparisons import (
    bounds_for,
    breaking_rows,
    examples,
    has_limits,
    limits_of,
    rule_columns,
)
from coinstream.expectations.rules import Rule, rules_for
from coinstream.expectations.series import SeriesMemory
from coinstream.expectations.validation_frame import ValidationFrameBuilder
from coinstream.lake.schemas import TableSpec
from coinstream.lake.validation import MAX_SAMPLES, Batch, CheckResult, Rows, ValidationResult
from coinstream.settings import LakeSettings

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

_FORMAT: Final = {"result_format": "COMPLETE", "exclude_unexpected_values": True}
_ONE_AT_A_TIME: Final = threading.Lock()
"""Great Expectations keeps the current project in a global."""
_ORIGIN: Final = ("topic", "partition", "offset")
_NO_ROWS: Final[Rows] = np.zeros(0, np.int64)


class ExpectationValidator:
    """Validator that refuses rows that fail a refusing rule or cannot be stored; it reports others."""

    def __init__(self, spec: TableSpec, settings: LakeSettings | None = None) -> None:
        chosen = settings or LakeSettings()
        self._frames = ValidationFrameBuilder(spec, chosen)
        self._suite = SuiteValidator(spec.name, rules_for(spec.name, chosen))

    @property
    def memory(self) -> SeriesMemory:
        """Return the state from earlier rows: the newest row of each series, and clock skews."""
        return self._frames.memory

    @memory.setter
    def memory(self, memory: SeriesMemory | None) -> None:
        self._frames.memory = memory or SeriesMemory()

    def validate(self, batch: Batch, ingested: datetime) -> ValidationResult:
        """Validate every row of the batch.

        Raises:
            LakeError: an expectation could not be evaluated, for example because a column is missing.
        """
        checks = self._suite.validate(self._frames.build(batch, ingested))
        refused = ~batch.storable()
        for check in checks:
            if check.refuses_rows:
                refused[check.rows] = True
        rules = zip(self._suite.rules, checks, strict=True)
        return ValidationResult(refused, [_with_samples(rule, check, batch) for rule, check in rules])


class SuiteValidator:
    """Validator of the frames of one type against rules."""

    def __init__(self, name: str, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._name = name
        with _ONE_AT_A_TIME:
            self._definition = _ephemeral(name)
            self._accepted = self._accept([rule for rule in rules if has_limits(rule)])

    def validate(self, frame: ValidationFrame) -> list[CheckResult]:
        """Return the result of each rule on a frame; `rows` are the indexes of failed rows.

        Raises:
            LakeError: an expectation could not be evaluated, for example because a column is missing.
        """
        bounds = {
            rule.name: found
            for rule in self.rules
            if rule.name in self._accepted and (found := bounds_for(rule, frame)) is not None
        }
        with _ONE_AT_A_TIME:
            others = self.evaluate_every_row(frame, [rule for rule in self.rules if rule.name not in bounds])
        return [
            _check_result(rule, others[rule.name], len(frame))
            if rule.name in others
            else self._compare(rule, bounds[rule.name], frame)
            for rule in self.rules
        ]

    def _compare(self, rule: Rule, bounds: Bounds, frame: ValidationFrame) -> CheckResult:
        holds = bounds.within(self._accepted[rule.name])
        return _rows_result(rule, _NO_ROWS if holds else breaking_rows(rule, frame), len(frame))

    def evaluate_every_row(
        self, frame: ValidationFrame, rules: Sequence[Rule]
    ) -> dict[str, ExpectationValidationResult]:
        """Return Great Expectations' results on every row by rule name."""
        if not rules:
            return {}
        names = list(dict.fromkeys(column for rule in rules for column in rule_columns(rule)))
        return self._evaluate(frame.to_pandas(names), suite_of(self._name, rules), _FORMAT)

    def _accept(self, rules: Sequence[Rule]) -> dict[str, Bounds]:
        """Return the limits of each rule, as far as Great Expectations accepts values at them."""
        if not rules:
            return {}
        limits = {rule.name: limits_of(rule) for rule in rules}
        found = self._evaluate(examples(rules, limits), suite_of(self._name, rules), "BOOLEAN_ONLY")
        return {name: each for name, each in limits.items() if found[name].success}

    def _evaluate(
        self, frame: pd.DataFrame, suite: ExpectationSuite, result_format: Any
    ) -> dict[str, ExpectationValidationResult]:
        batch = self._definition.get_batch({"dataframe": frame})
        found = batch.validate(suite, result_format=result_format)
        results = {_name(result): result for result in found.results}
        for name, result in results.items():
            raised = result.exception_info or {}
            if raised.get("raised_exception") or any(_has_raised(told) for told in raised.values()):
                raise LakeError(f"expectation {name} could not be evaluated: {_told(raised)}")
        return results


def suite_of(name: str, rules: Sequence[Rule]) -> ExpectationSuite:
    """Return the rules as a suite of Great Expectations."""
    gx = quiet_great_expectations()
    suite: ExpectationSuite = gx.ExpectationSuite(
        name=name, expectations=[rule.expectation() for rule in rules]
    )
    return suite


def quiet_great_expectations() -> Any:
    """Import Great Expectations at first use, which takes seconds, with usage statistics disabled."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx

    return gx


def _ephemeral(name: str) -> BatchDefinition[None]:
    gx = quiet_great_expectations()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("messages").add_dataframe_asset(name)
    definition: BatchDefinition[None] = asset.add_batch_definition_whole_dataframe("batch")
    return definition


def _name(result: ExpectationValidationResult) -> str:
    config = result.expectation_config
    return str(config.meta["name"]) if config is not None and config.meta else ""


def _has_raised(told: object) -> bool:
    return isinstance(told, Mapping) and bool(told.get("raised_exception"))


def _told(raised: Mapping[str, Any]) -> str:
    for told in (raised, *raised.values()):
        if isinstance(told, Mapping) and told.get("exception_message"):
            return str(told["exception_message"])
    return str(raised)


def _check_result(rule: Rule, result: ExpectationValidationResult, count: int) -> CheckResult:
    told: Mapping[str, Any] = result.result or {}
    if "unexpected_index_list" in told:
        return _rows_result(rule, np.asarray(told["unexpected_index_list"] or [], np.int64), count)
    failed = 0 if result.success else 1
    return CheckResult(rule.name, rule.description, rule.severity, rule.refuses_rows, count, failed)


def _rows_result(rule: Rule, rows: Rows, count: int) -> CheckResult:
    return CheckResult(
        rule.name, rule.description, rule.severity, rule.refuses_rows, count, len(rows), (), rows
    )


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
