"""The few rows of a batch that decide whether a rule holds for all of it.

A bound holds for every row when it holds for the least and the greatest; a flag, when it holds where it is
lowest. So Great Expectations is asked of those rows first, and of every row only where one of them
offends: the answer is the same, and a million good rows cost what a handful does. By the same reason what
held for two extremes holds for every later batch whose own lie between them, and need not be asked again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coinstream.expectations.rules import ROW_COUNT, Rule
from coinstream.expectations.series import Numbers
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
"""The arguments with which extremes decide; a share of the rows or a condition on them takes every row."""


@dataclass(frozen=True)
class Extremes:
    """The least and the greatest of what a rule looks at, and the places of the two rows."""

    least: float
    greatest: float
    rows: tuple[int, ...] = ()

    def within(self, other: Extremes | None) -> bool:
        """Whether nothing goes beyond the other extremes."""
        return other is not None and other.least <= self.least and self.greatest <= other.greatest

    def widened(self, other: Extremes | None) -> Extremes:
        """Both together; of no rows any more."""
        if other is None:
            return Extremes(self.least, self.greatest)
        return Extremes(min(self.least, other.least), max(self.greatest, other.greatest))


def rule_columns(rule: Rule) -> list[str]:
    """Return the columns of the evidence that a rule looks at."""
    return [
        str(rule.arguments[name]) for name in ("column", "column_A", "column_B") if name in rule.arguments
    ]


def is_decided_by_extremes(rule: Rule) -> bool:
    """Whether a rule holds for all rows when it holds for the two at the extremes."""
    if rule.name == ROW_COUNT:
        return True
    if not rule.arguments.keys() <= _DECIDED.get(rule.kind, frozenset()):
        return False
    if rule.kind == _FLAG:
        return bool(rule.arguments.get("value_set") == [True])
    return rule.kind != _PAIR or rule.arguments.get("ignore_row_if") == "either_value_is_missing"


def extremes_of(frame: pd.DataFrame, rules: Iterable[Rule]) -> dict[str, Extremes]:
    """Return what each rule finds at its extremes, by the rule's name.

    Without the rules that pass over every row, and those whose columns are missing, which Great Expectations
    says.
    """
    known: dict[tuple[str, ...], Extremes | None] = {}
    found = {}
    for rule in rules:
        looked_at = rule.kind, *rule_columns(rule)
        if any(column not in frame.columns for column in rule_columns(rule)):
            continue
        if looked_at not in known:
            known[looked_at] = _extremes(_measured(rule, frame))
        if (extremes := known[looked_at]) is not None:
            found[rule.name] = extremes
    return found


def deciding_rows(frame: pd.DataFrame, found: Iterable[Extremes]) -> Rows:
    """Places of the rows at the extremes, in their order."""
    places = {place for extremes in found for place in extremes.rows}
    # A batch of nothing but absent values has a row too, for the count of rows.
    return np.array(sorted(places or range(min(len(frame), 1))), np.int64)


def _extremes(measured: Numbers) -> Extremes | None:
    known = np.flatnonzero(~np.isnan(measured))
    if not len(known):
        return None
    values = measured[known]
    least, greatest = values.argmin(), values.argmax()
    return Extremes(float(values[least]), float(values[greatest]), (int(known[least]), int(known[greatest])))


def _measured(rule: Rule, frame: pd.DataFrame) -> Numbers:
    """Return a number per row whose extremes violate first; NaN where the rule does not apply."""
    arguments: Mapping[str, Any] = rule.arguments
    if rule.name == ROW_COUNT:
        return np.ones(len(frame))
    if rule.kind == _PAIR:
        return _floats(frame[arguments["column_A"]]) - _floats(frame[arguments["column_B"]])
    column = frame[arguments["column"]]
    if rule.kind == _ABSENT:
        there: Numbers = column.notna().to_numpy().astype(np.float64)
        return there
    return _floats(column)


def _floats(column: pd.Series[Any]) -> Numbers:
    values: Numbers = column.to_numpy(dtype=np.float64)
    return values
