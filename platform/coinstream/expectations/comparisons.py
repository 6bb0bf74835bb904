"""Compare columns as the expectations of a suite do, for the rules that have limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from coinstream.expectations.columns import Bounds, ValidationFrame, Values, is_present
from coinstream.expectations.rules import ROW_COUNT, Rule
from coinstream.lake.validation import Rows

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
"""The arguments with which limits decide; a share of the rows or a condition on them takes every row."""
_FARTHEST: Final = float(np.finfo(np.float64).max)


def rule_columns(rule: Rule) -> list[str]:
    """Return the columns of the frame that a rule looks at."""
    return [
        str(rule.arguments[name]) for name in ("column", "column_A", "column_B") if name in rule.arguments
    ]


def has_limits(rule: Rule) -> bool:
    """Return whether a rule holds for all rows when it holds for the least and the greatest value."""
    if rule.name == ROW_COUNT:
        return True
    if not rule.arguments.keys() <= _DECIDED.get(rule.kind, frozenset()):
        return False
    if rule.kind == _FLAG:
        return bool(rule.arguments.get("value_set") == [True])
    return rule.kind != _PAIR or rule.arguments.get("ignore_row_if") == "either_value_is_missing"


def limits_of(rule: Rule) -> Bounds:
    """Return the least and the greatest value with which a rule holds.

    The value of a flag is 1. That of an absence is 0, and that of a pair the difference of its columns.
    """
    arguments = rule.arguments
    if rule.name == ROW_COUNT or rule.kind == _FLAG:
        return Bounds(1.0, 1.0)
    if rule.kind == _ABSENT:
        return Bounds(0.0, 0.0)
    if rule.kind == _PAIR:
        return Bounds(0.0 if arguments.get("or_equal") else float(np.nextafter(0.0, 1.0)), _FARTHEST)
    least, greatest = arguments.get("min_value"), arguments.get("max_value")
    low = -_FARTHEST if least is None else float(least)
    high = _FARTHEST if greatest is None else float(greatest)
    return Bounds(
        float(np.nextafter(low, np.inf)) if arguments.get("strict_min") else low,
        float(np.nextafter(high, -np.inf)) if arguments.get("strict_max") else high,
    )


def bounds_for(rule: Rule, frame: ValidationFrame) -> Bounds | None:
    """Return bounds of the values of a rule; None where a column is missing or there is no row."""
    names = rule_columns(rule)
    if not len(frame) or any(name not in frame for name in names):
        return None
    if rule.name == ROW_COUNT:
        return Bounds(1.0, 1.0)
    if rule.kind == _PAIR:
        return frame.difference(*names)
    return frame[names[0]].presence if rule.kind == _ABSENT else frame[names[0]].bounds


def examples(rules: Sequence[Rule], limits: Mapping[str, Bounds]) -> pd.DataFrame:
    """Return rows whose values are the limits of each rule, for Great Expectations to evaluate."""
    import pandas as pd

    # One row without a value, for the count of rows.
    rows: list[dict[str, Any]] = [{}]
    for rule in rules:
        if rule.name != ROW_COUNT:
            found = limits[rule.name]
            rows += [_example(rule, value) for value in (found.least, found.greatest)]
    return pd.DataFrame(rows)


def _example(rule: Rule, value: float) -> dict[str, Any]:
    first, *second = rule_columns(rule)
    if rule.kind == _FLAG:
        return {first: bool(value)}
    if rule.kind == _ABSENT:
        return {first: value or float("nan")}
    return {first: value, **dict.fromkeys(second, 0.0)}


def breaking_rows(rule: Rule, frame: ValidationFrame) -> Rows:
    """Return the rows that break a rule with limits."""
    return np.flatnonzero(_breaks(rule, [frame[name].values for name in rule_columns(rule)]))


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
