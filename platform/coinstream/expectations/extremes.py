"""The few rows of a batch that decide whether a rule holds for all of it.

A bound holds for every row when it holds for the least and the greatest; a flag, when it holds where it is
lowest. So Great Expectations is asked of those rows first, and of every row only where one of them
offends: the answer is the same, and a million good rows cost what a handful does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from coinstream.expectations.outcome import Rows
from coinstream.expectations.rules import ROW_COUNT, Rule
from coinstream.expectations.series import Numbers

if TYPE_CHECKING:
    import pandas as pd

_FLAG: Final = "ExpectColumnValuesToBeInSet"
_ABSENT: Final = "ExpectColumnValuesToBeNull"
_BOUNDS: Final = "ExpectColumnValuesToBeBetween"
_PAIR: Final = "ExpectColumnPairValuesAToBeGreaterThanB"


def asked_columns(rule: Rule) -> list[str]:
    """The columns of the evidence that a rule looks at."""
    return [
        str(rule.arguments[name]) for name in ("column", "column_A", "column_B") if name in rule.arguments
    ]


def is_decided_by_extremes(rule: Rule) -> bool:
    """Whether a rule holds for all rows when it holds for the telling ones."""
    if rule.kind == _FLAG:
        return bool(rule.arguments.get("value_set") == [True])
    return rule.name == ROW_COUNT or rule.kind in (_ABSENT, _BOUNDS, _PAIR)


def telling_rows(frame: pd.DataFrame, rules: Iterable[Rule]) -> Rows:
    """Places of the rows at the extremes of what the rules look at, in their order."""
    asked = {(rule.kind, *asked_columns(rule)): rule for rule in rules if asked_columns(rule)}
    places: set[int] = set()
    for rule in asked.values():
        if any(column not in frame.columns for column in asked_columns(rule)):
            continue  # Great Expectations says so
        measured = _measured(rule, frame)
        known = np.flatnonzero(~np.isnan(measured))
        if len(known):
            places |= {int(known[pick(measured[known])]) for pick in (np.argmin, np.argmax)}
    # A batch of nothing but absent values has a row too, for the count of rows.
    return np.array(sorted(places or range(min(len(frame), 1))), np.int64)


def _measured(rule: Rule, frame: pd.DataFrame) -> Numbers:
    """A number for each row, of which one end offends first; NaN where the rule passes over the row."""
    arguments: Mapping[str, Any] = rule.arguments
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
