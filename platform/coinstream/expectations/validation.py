"""Great Expectations at work: a suite a message type, one validation a batch."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coinstream.errors import LakeError
from coinstream.expectations.outcome import Outcome, Rows
from coinstream.expectations.rules import Rule

if TYPE_CHECKING:
    import pandas as pd
    from great_expectations import ExpectationSuite
    from great_expectations.core.batch_definition import BatchDefinition
    from great_expectations.core.expectation_validation_result import ExpectationValidationResult

_FORMAT: Final = {"result_format": "COMPLETE", "exclude_unexpected_values": True}
_ONE_AT_A_TIME: Final = threading.Lock()
"""Great Expectations keeps the current project in a global."""


def suite_of(name: str, rules: Sequence[Rule]) -> ExpectationSuite:
    """The rules as a suite of Great Expectations."""
    gx = quiet_great_expectations()
    suite: ExpectationSuite = gx.ExpectationSuite(
        name=name, expectations=[rule.expectation() for rule in rules]
    )
    return suite


def quiet_great_expectations() -> Any:
    """The library, imported when it is needed (it takes seconds), without usage statistics."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    import great_expectations as gx

    return gx


class Validator:
    """Validates evidence frames of one type."""

    def __init__(self, name: str, rules: Sequence[Rule]) -> None:
        self.rules = tuple(rules)
        with _ONE_AT_A_TIME:
            self._suite = suite_of(name, rules)
            self._definition = _ephemeral(name)

    def validate(self, frame: pd.DataFrame) -> list[Outcome]:
        """What each rule finds in the frame; `rows` are the offenders' positions.

        Raises:
            LakeError: an expectation could not be asked, for example because a column is missing.
        """
        with _ONE_AT_A_TIME:
            batch = self._definition.get_batch({"dataframe": frame})
            found = batch.validate(self._suite, result_format=_FORMAT)
        by_name = {_name(result): result for result in found.results}
        return [_outcome(rule, by_name[rule.name], len(frame)) for rule in self.rules]


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


def _outcome(rule: Rule, result: ExpectationValidationResult, count: int) -> Outcome:
    told: Mapping[str, Any] = result.result or {}
    raised = result.exception_info or {}
    if raised.get("raised_exception") or not (told or result.success):
        raise LakeError(
            f"expectation {rule.name} could not be asked: {raised.get('exception_message') or raised}"
        )
    if "observed_value" in told:
        return Outcome(
            rule.name, rule.description, rule.severity, rule.blocking, count, 0 if result.success else 1
        )
    rows: Rows = np.asarray(told.get("unexpected_index_list") or [], np.int64)
    return Outcome(rule.name, rule.description, rule.severity, rule.blocking, count, len(rows), (), rows)
