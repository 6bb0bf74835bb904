"""Describe the levels of order books, one figure per book."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.expectations.column import Numbers
from coinstream.expectations.decimals import to_floats

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
