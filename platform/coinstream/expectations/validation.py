"""Great Expectations at work: a suite a message type, one validation a batch.

The suite is asked of the rows that decide it, as far as batches before have not decided it; where it does not
hold, of every row, for the offenders.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coinstream.errors import LakeError
from coinstream.expectations.extremes import (
    Extremes,
    deciding_rows,
    extremes_of,
    is_decided_by_extremes,
    rule_columns,
)
from coinstream.expectations.rules import Rule
from coinstream.lake.check_result import CheckResult, Rows

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

_FORMAT: Final = {"result_format": "COMPLETE", "exclude_unexpected_values": True}
_ONE_AT_A_TIME: Final = threading.Lock()
"""Great Expectations keeps the current project in a global."""


def suite_of(name: str, rules: Sequence[Rule]) -> ExpectationSuite:
    """Return the rules as a suite of Great Expectations."""
    gx = quiet_great_expectations()
    suite: ExpectationSuite = gx.ExpectationSuite(
        name=name, expectations=[rule.expectation() for rule in rules]
    )
    return suite


def quiet_great_expectations() -> Any:
    """Return the library, imported when it is needed (it takes seconds), without usage statistics."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx

    return gx


class SuiteValidator:
    """Validates evidence frames of one type."""

    def __init__(self, name: str, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        self._name = name
        self._by_extremes = [rule for rule in rules if is_decided_by_extremes(rule)]
        self._always = [rule for rule in rules if not is_decided_by_extremes(rule)]
        self._held: dict[str, Extremes] = {}
        with _ONE_AT_A_TIME:
            self._definition = _ephemeral(name)

    def validate(self, frame: pd.DataFrame) -> list[CheckResult]:
        """Return what each rule finds in the frame; `rows` are the offenders' positions.

        Raises:
            LakeError: an expectation could not be asked, for example because a column is missing.
        """
        with _ONE_AT_A_TIME:
            doubtful = [*self._doubtful(frame), *self._always]
            found = self._every_row(frame, doubtful) if doubtful else {}
        return [_check_result(rule, found.get(rule.name), len(frame)) for rule in self.rules]

    def _doubtful(self, frame: pd.DataFrame) -> list[Rule]:
        """Return the rules that do not hold for every row."""
        found = extremes_of(frame, self._by_extremes)
        asked = [rule for rule in self._by_extremes if not self._is_known_to_hold(rule, found)]
        if not asked:
            return []
        rows = deciding_rows(frame, [found[rule.name] for rule in asked if rule.name in found])
        telling = frame.take(rows).reset_index(drop=True)
        results = self._ask(telling, suite_of(self._name, asked), "BOOLEAN_ONLY")
        for rule in asked:
            if results[rule.name].success and rule.name in found:
                self._held[rule.name] = found[rule.name].widened(self._held.get(rule.name))
        return [rule for rule in asked if not results[rule.name].success]

    def _is_known_to_hold(self, rule: Rule, found: Mapping[str, Extremes]) -> bool:
        return rule.name in found and found[rule.name].within(self._held.get(rule.name))

    def _every_row(self, frame: pd.DataFrame, rules: list[Rule]) -> dict[str, ExpectationValidationResult]:
        asked = {column for rule in rules for column in rule_columns(rule)}
        looked_at = [column for column in frame.columns if column in asked]
        return self._ask(frame[looked_at] if looked_at else frame, suite_of(self._name, rules), _FORMAT)

    def _ask(
        self, frame: pd.DataFrame, suite: ExpectationSuite, result_format: Any
    ) -> dict[str, ExpectationValidationResult]:
        batch = self._definition.get_batch({"dataframe": frame})
        found = batch.validate(suite, result_format=result_format)
        results = {_name(result): result for result in found.results}
        for name, result in results.items():
            raised = result.exception_info or {}
            if raised.get("raised_exception") or any(_has_raised(told) for told in raised.values()):
                raise LakeError(f"expectation {name} could not be asked: {_told(raised)}")
        return results


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


def _check_result(rule: Rule, result: ExpectationValidationResult | None, count: int) -> CheckResult:
    told: Mapping[str, Any] = (result.result if result is not None else None) or {}
    if "observed_value" in told:
        failed = 0 if result is not None and result.success else 1
        return CheckResult(rule.name, rule.description, rule.severity, rule.refuses_rows, count, failed)
    rows: Rows = np.asarray(told.get("unexpected_index_list") or [], np.int64)
    return CheckResult(
        rule.name, rule.description, rule.severity, rule.refuses_rows, count, len(rows), (), rows
    )
