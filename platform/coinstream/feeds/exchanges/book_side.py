"""Keep the levels of one side of an order book in the order of their prices."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

T = TypeVar("T")


class BookSide(Generic[T]):
    """Bids or asks of one book: a value per price, and the prices in order.

    The best price is read in constant time. Inserting a price shifts the better prices.

    Args:
        descending: True for bids, whose best price is the highest.
    """

    __slots__ = ("_levels", "_ranks", "_sign")

    def __init__(self, *, descending: bool) -> None:
        self._sign = 1.0 if descending else -1.0
        self._levels: dict[float, T] = {}
        # Prices of bids, negative prices of asks: the best is last, where changes are most frequent.
        self._ranks: list[float] = []

    def __len__(self) -> int:
        """Count the levels."""
        return len(self._levels)

    def replace(self, levels: Mapping[float, T]) -> None:
        """Replace all levels."""
        self._levels = dict(levels)
        self._ranks = sorted(levels) if self._sign > 0 else sorted([-price for price in levels])

    def update(self, levels: Iterable[tuple[float, T]], empty: T) -> None:
        """Set levels; a level with the value `empty` is removed."""
        known, ranks, sign = self._levels, self._ranks, self._sign
        for price, value in levels:
            if value != empty:
                if price not in known:
                    insort(ranks, price * sign)
                known[price] = value
            elif price in known:
                del known[price]
                del ranks[bisect_left(ranks, price * sign)]

    def cut(self, depth: int) -> None:
        """Remove the worst levels so that at most `depth` stay."""
        worst = self._ranks[: max(len(self._ranks) - depth, 0)]
        for rank in worst:
            del self._levels[rank * self._sign]
        del self._ranks[: len(worst)]

    def top(self, otherwise: T) -> tuple[float, T]:
        """Return the best level, or 0 and `otherwise` if the side is empty."""
        if not self._ranks:
            return 0.0, otherwise
        price = self._ranks[-1] * self._sign
        return price, self._levels[price]

    def best(self, count: int) -> list[tuple[float, T]]:
        """Return at most `count` levels, best first."""
        prices = [rank * self._sign for rank in reversed(self._ranks[-count:])] if count > 0 else []
        return [(price, self._levels[price]) for price in prices]
