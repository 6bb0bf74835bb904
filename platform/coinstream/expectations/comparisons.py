"""Compare columns as the expectations of a suite do, for the rules that the bounds of a batch decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from coinstream.expectations.column import Bounds, ValidationFrame, Values, is_present
from coinstream.expectations.rules import ROW_COUNT, Rule
from coinstream.lake.check_result import Rows

if TYPE_CHECKING:
    import pandas as pd

_FLAG: Final = "ExpectColumnValuesToBeInSet"
_ABSENT: Final = "ExpectColumnValuesToBeNull"
_BOUNDS: Final = "ExpectColumnValuesToBeBetween"
_PAIR: Final = "ExpectColumnPairValuesAToBeGreaterThanB"

_DECIDED: Final[Mapping[str, frozenset[str]]] = {
    _FLAG: frozenset({"column", "value_set"}),
    _ABSENT: frozenset({"column"}),
    _BOUNDS: frozenset({"column", "min_value", "max_value", "strict_min", "strict_max"}),
    _PAIR: frozenset({"column_A", "column_B", "or_equal", "ignore_row_if"}),
}
"""The arguments with which bounds decide; a share of the rows or a condition on them takes every row."""


def rule_columns(rule: Rule) -> list[str]:
    """Return the columns of the frame that a rule looks at."""
    return [
        str(rule.arguments[name]) for name in ("column", "column_A", "column_B") if name in rule.arguments
    ]


def is_decided_by_bounds(rule: Rule) -> bool:
    """Return whether a rule holds for all rows when it holds at the bounds."""
    if rule.name == ROW_COUNT:
        return True
    if not rule.arguments.keys() <= _DECIDED.get(rule.kind, frozenset()):
        return False
    if rule.kind == _FLAG:
        return bool(rule.arguments.get("value_set") == [True])
    return rule.kind != _PAIR or rule.arguments.get("ignore_row_if") == "either_value_is_missing"


def bounds_for(rule: Rule, frame: ValidationFrame) -> Bounds | None:
    """Return the bounds of what a rule looks at; None where a column is missing."""
    if rule.name == ROW_COUNT:
        return Bounds(1.0, 1.0)
    names = rule_columns(rule)
    if any(name not in frame for name in names):
        return None
    if rule.kind == _PAIR:
        return frame.difference(*names)
    return frame[names[0]].presence if rule.kind == _ABSENT else frame[names[0]].bounds


def examples(rules: Sequence[Rule], bounds: Mapping[str, Bounds | None]) -> pd.DataFrame:
    """Return rows that stand for the bounds of each rule. Great Expectations evaluates the rules on them.

    A column that is missing in the batch is missing here too, which Great Expectations reports.
    """
    import pandas as pd

    # One row without a value, for the count of rows.
    rows: list[dict[str, Any]] = [{}]
    for rule in rules:
        found = bounds[rule.name]
        if found is not None and rule.name != ROW_COUNT:
            ends = [float("nan")] if found.is_empty else [found.least, found.greatest]
            rows += [_example(rule, value) for value in ends]
    return pd.DataFrame(rows)


def _example(rule: Rule, value: float) -> dict[str, Any]:
    first, *second = rule_columns(rule)
    if rule.kind == _FLAG:
        return {first: None if np.isnan(value) else bool(value)}
    if rule.kind == _ABSENT:
        return {first: value or float("nan")}
    return {first: value, **dict.fromkeys(second, 0.0)}


def breaking_rows(rule: Rule, frame: ValidationFrame) -> Rows:
    """Return the rows that break a rule which bounds decide."""
    if rule.name == ROW_COUNT:
        return np.zeros(0, np.int64)
    columns = [frame[name].values for name in rule_columns(rule)]
    return np.flatnonzero(_breaks(rule, columns))


def _breaks(rule: Rule, columns: list[Values]) -> npt.NDArray[np.bool_]:
    arguments = rule.arguments
    values, *others = columns
    broken: npt.NDArray[np.bool_]
    if rule.kind == _ABSENT:
        return is_present(values)
    if rule.kind == _FLAG:
        broken = is_present(values) & (values != True)  # noqa: E712 - element by element
    elif rule.kind == _PAIR:
        # A comparison with an absent value, which is NaN, is false.
        broken = values < others[0] if arguments.get("or_equal") else values <= others[0]
    else:
        broken = np.zeros(len(values), np.bool_)
        least, greatest = arguments.get("min_value"), arguments.get("max_value")
        if least is not None:
            broken |= values <= least if arguments.get("strict_min") else values < least
        if greatest is not None:
            broken |= values >= greatest if arguments.get("strict_max") else values > greatest
    return broken
