"""Define the columns of rules: lazy values with bounds, decimals as floats, and levels of order books."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.lake.schemas import SCALE

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


_WORD: Final = 2**64
_UNIT: Final = float(10**SCALE)


def to_floats(decimals: pa.ChunkedArray | pa.Array) -> Numbers:
    """Return decimals of the tables' scale as floats; NaN where there is none.

    A larger decimal never becomes a smaller float, so comparisons of floats hold for the decimals too.
    """
    parts: list[Numbers] = []
    for words, absent in _words(decimals):
        negative = words[:, 1] >> np.uint64(63) != 0
        if not negative.any():
            floats: Numbers = _scaled(words[:, 0], words[:, 1])
        else:
            # The bits of a negative number stand for that number plus 2**128.
            low = np.where(negative, ~words[:, 0] + np.uint64(1), words[:, 0])
            high = np.where(negative, ~words[:, 1] + (words[:, 0] == 0), words[:, 1])
            floats = np.where(negative, -_scaled(low, high), _scaled(low, high))
        if absent is not None:
            floats[absent] = np.nan
        parts.append(floats)
    return np.concatenate(parts) if parts else np.zeros(0)


def has_at_most(decimals: pa.ChunkedArray | pa.Array, places: int) -> npt.NDArray[np.bool_]:
    """Return a mask of decimals with at most `places` digits after the point, including absent ones.

    Args:
        decimals: of the tables' scale.
        places: 5 to 18. Fewer do not fit into the arithmetic of 64 bits.
    """
    # A number is a multiple of 10**n where it is one of 2**n, which its lowest bits tell, and of 5**n.
    zeros = SCALE - places
    five = 5**zeros
    modulus, carry = np.uint64(five), np.uint64(_WORD % five)
    parts = []
    for words, absent in _words(decimals):
        low, high = words[:, 0], words[:, 1]
        shift = np.where(high >> np.uint64(63) != 0, np.uint64(-(_WORD**2) % five), np.uint64(0))
        rest = _rest(_rest(low, modulus) + _rest(high, modulus) * carry + shift, modulus)
        fits = (rest == 0) & (low & np.uint64(2**zeros - 1) == 0)
        parts.append(fits if absent is None else fits | absent)
    return np.concatenate(parts) if parts else np.zeros(0, np.bool_)


def _rest(values: npt.NDArray[np.uint64], modulus: np.uint64) -> npt.NDArray[np.uint64]:
    """Return the remainders of a division, which NumPy vectorizes, unlike its remainder."""
    return values - values // modulus * modulus


def _scaled(low: npt.NDArray[np.uint64], high: npt.NDArray[np.uint64]) -> Numbers:
    return np.asarray((high * float(_WORD) + low) / _UNIT, np.float64)


def _words(
    decimals: pa.ChunkedArray | pa.Array,
) -> Iterator[tuple[npt.NDArray[np.uint64], npt.NDArray[np.bool_] | None]]:
    """Yield the lower and upper 64 bits of each decimal of a chunk, and which of them are absent."""
    for chunk in decimals.chunks if isinstance(decimals, pa.ChunkedArray) else [decimals]:
        words = np.frombuffer(chunk.buffers()[1] or b"", np.dtype("<u8")).reshape(-1, 2)
        absent = np.asarray(pc.is_null(chunk)) if chunk.null_count else None
        yield words[chunk.offset : chunk.offset + len(chunk)], absent


Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Side:
    """One side of each book of a batch, level by level.

    Attributes:
        books: how many books the batch has.
        row: the book that a level belongs to.
        price: the price of each level as it is stored.
        prices: the same as floats; NaN where a level has none.
        sizes: the size of each level; NaN where it has none.
    """

    books: int
    row: Ints
    price: pa.Array
    prices: Numbers
    sizes: Numbers

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> Side:
        """Take a column of levels apart."""
        books = column.combine_chunks()
        if isinstance(books, pa.ChunkedArray):
            books = pa.concat_arrays(books.chunks) if books.num_chunks else pa.array([], column.type)
        row = np.asarray(pc.list_parent_indices(books), np.int64)
        levels = pc.list_flatten(books)
        counts = np.asarray(pc.fill_null(pc.list_value_length(levels), 0), np.int64)
        numbers = pc.list_flatten(levels)
        starts = np.concatenate([[0], np.cumsum(counts)])[:-1]
        price = _at(numbers, starts, counts > 0)
        size = _at(numbers, starts + 1, counts > 1)
        prices, sizes = to_floats(price), to_floats(size)
        return cls(len(books), row, price, prices, sizes)

    def lowest(self, values: Numbers) -> Numbers:
        """Return the lowest value of each book; NaN for one without levels."""
        lowest = np.full(self.books, np.nan)
        np.fmin.at(lowest, self.row, values)
        return lowest

    def best(self) -> Numbers:
        """Return the price of the first level of each book; NaN for one without levels."""
        best = np.full(self.books, np.nan)
        rows, first = np.unique(self.row, return_index=True)
        best[rows] = self.prices[first]
        return best

    def depth(self) -> Ints:
        """Return the number of levels of each book."""
        return np.bincount(self.row, minlength=self.books).astype(np.int64)

    def is_sorted(self, *, rising: bool) -> Flags:
        """Return whether the prices of each book rise (or fall) from level to level."""
        steps = np.diff(self.prices) * (1 if rising else -1)
        wrong = (np.diff(self.row) == 0) & ~(steps > 0)
        fine = np.ones(self.books, np.bool_)
        fine[self.row[1:][wrong]] = False
        return fine


def _at(numbers: pa.Array, places: Ints, known: Flags) -> pa.Array:
    return numbers.take(pa.array(np.where(known, places, 0), pa.int64(), mask=~known))
