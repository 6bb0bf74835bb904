"""Define lazily computed columns of rules, and the bounds of their values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd

Numbers = npt.NDArray[np.float64]
Values = npt.NDArray[Any]


@dataclass(frozen=True)
class Bounds:
    """Lower and upper bound of a column's values; empty without a value."""

    least: float = float("inf")
    greatest: float = float("-inf")

    @property
    def is_empty(self) -> bool:
        """Return whether there is no value."""
        return self.least > self.greatest

    def within(self, other: Bounds) -> bool:
        """Return whether the bounds are within others."""
        return other.least <= self.least and self.greatest <= other.greatest


def bounds_of(values: Values) -> Bounds:
    """Return the bounds of numbers or flags; NaN is no value."""
    if not len(values):
        return Bounds()
    if values.dtype == np.bool_:
        return Bounds(float(values.all()), float(values.any()))
    numbers = values.astype(np.float64, copy=False)
    least = float(np.fmin.reduce(numbers))
    return Bounds() if np.isnan(least) else Bounds(least, float(np.fmax.reduce(numbers)))


def is_present(values: Values) -> npt.NDArray[np.bool_]:
    """Return a mask of present values."""
    if values.dtype == np.bool_:
        return np.ones(len(values), np.bool_)
    present: npt.NDArray[np.bool_] = (
        np.array([value is not None for value in values], np.bool_)
        if values.dtype == np.object_
        else ~np.isnan(values)
    )
    return present


class Column:
    """One value per message. Its bounds are often known without computing the values.

    Args:
        values: computes the values: numbers, flags, or texts and None.
        bounds: computes bounds of the numbers. They may be wider than the values.
        presence: computes bounds of 1 for each value that is there and 0 for each that is not.
    """

    def __init__(
        self,
        values: Callable[[], Values],
        bounds: Callable[[], Bounds] | None = None,
        presence: Callable[[], Bounds] | None = None,
    ) -> None:
        self._values = values
        self._bounds = bounds
        self._presence = presence

    @cached_property
    def values(self) -> Values:
        """Return all values."""
        return self._values()

    @cached_property
    def bounds(self) -> Bounds:
        """Return bounds of the numbers."""
        return bounds_of(self.values) if self._bounds is None else self._bounds()

    @cached_property
    def presence(self) -> Bounds:
        """Return bounds of the presence."""
        return bounds_of(is_present(self.values)) if self._presence is None else self._presence()


class ValidationFrame:
    """The columns of a batch, one row per message."""

    def __init__(self, count: int, columns: Mapping[str, Column]) -> None:
        self._count = count
        self._columns = columns
        self._differences: dict[tuple[str, str], Bounds] = {}

    def __len__(self) -> int:
        return self._count

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __getitem__(self, name: str) -> Column:
        return self._columns[name]

    def difference(self, larger: str, smaller: str) -> Bounds:
        """Return the bounds of the difference of two columns."""
        names = larger, smaller
        if names not in self._differences:
            self._differences[names] = bounds_of(self[larger].values - self[smaller].values)
        return self._differences[names]

    def to_pandas(self, names: Sequence[str]) -> pd.DataFrame:
        """Return the named columns as far as they exist."""
        import pandas as pd

        found = {name: self._columns[name].values for name in names if name in self._columns}
        return pd.DataFrame(found, index=range(self._count))
