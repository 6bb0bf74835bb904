"""Keep one order book from snapshots and changes, and give its best levels."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from typing import Final, NamedTuple

MAX_PENDING: Final = 2_000
"""Changes of one book kept until its snapshot arrives; the oldest are dropped first."""

Levels = Sequence[tuple[float, float]]
"""Price and size of each level."""


_SORTED_FASTER: Final = 1_000
"""Prices up to which sorting all of them is faster than selecting the best."""


def highest(prices: Collection[float], count: int) -> list[float]:
    """Return the `count` highest prices, highest first."""
    if len(prices) > _SORTED_FASTER:
        return heapq.nlargest(count, prices)
    return sorted(prices, reverse=True)[:count]


def lowest(prices: Collection[float], count: int) -> list[float]:
    """Return the `count` lowest prices, lowest first."""
    if len(prices) > _SORTED_FASTER:
        return heapq.nsmallest(count, prices)
    return sorted(prices)[:count]


class BookChange(NamedTuple):
    """One numbered change of a book: the sequence numbers it covers and the levels it sets."""

    first: int | None
    last: int
    bids: Levels
    asks: Levels


class BookGap(NamedTuple):
    """Sequence numbers that a book did not receive. The book is unsynced until its next snapshot."""

    first: int
    last: int


class OrderBook:
    """The order book of one channel and symbol. A size of 0 removes a level.

    Args:
        depth: levels kept per side, where the exchange sends no removal for a level that falls out of it.
    """

    def __init__(self, depth: int | None = None) -> None:
        self.is_synced = False
        self.sequence = -1
        self.depth = depth
        self._bids: dict[float, float] = {}
        self._asks: dict[float, float] = {}
        self._bid = self._ask = 0.0
        self._pending: deque[BookChange] = deque(maxlen=MAX_PENDING)

    def replace(
        self, bids: Iterable[tuple[float, float]], asks: Iterable[tuple[float, float]], sequence: int = -1
    ) -> bool:
        """Start from a snapshot, then apply the pending changes that go beyond it.

        Returns:
            False when the snapshot is older than the book; nothing is changed then.
        """
        if self.is_synced and 0 <= sequence < self.sequence:
            return False
        self._bids = {price: size for price, size in bids if size}
        self._asks = {price: size for price, size in asks if size}
        self.is_synced, self.sequence = True, sequence
        self._trim()
        pending, self._pending = self._pending, deque(maxlen=MAX_PENDING)
        for change in pending:
            if self.is_synced:
                self.change(change)
        return True

    def change(self, change: BookChange) -> BookGap | bool | None:
        """Apply a numbered change.

        Returns:
            True when it was applied; False when it is a repeat or older than the book; None when the book
            awaits its snapshot (the change is kept); a `BookGap`, which unsyncs the book, when numbers
            are missing before it.
        """
        if not self.is_synced:
            self._pending.append(change)
            return None
        if 0 <= change.last <= self.sequence:
            return False
        if change.first is not None and self.sequence >= 0 and change.first > self.sequence + 1:
            gap = BookGap(self.sequence + 1, change.first - 1)
            self.is_synced = False
            self._pending.append(change)
            return gap
        self.sequence = change.last
        self.apply(change.bids, change.asks)
        return True

    def apply(self, bids: Iterable[tuple[float, float]], asks: Iterable[tuple[float, float]]) -> None:
        """Set levels, without sequence numbers."""
        for price, size in bids:
            self._set_bid(price, size)
        for price, size in asks:
            self._set_ask(price, size)
        if self.depth is not None and (len(self._bids) > self.depth or len(self._asks) > self.depth):
            self._trim()

    @property
    def top(self) -> tuple[float, float, float, float]:
        """Best bid, best ask, bid size, ask size; zeros for an empty side."""
        return self._bid, self._ask, self._bids.get(self._bid, 0.0), self._asks.get(self._ask, 0.0)

    def best(self, depth: int) -> tuple[Levels, Levels]:
        """Return the best `depth` bids and asks, best first."""
        bids, asks = self._bids, self._asks
        return (
            [(price, bids[price]) for price in highest(bids, depth)],
            [(price, asks[price]) for price in lowest(asks, depth)],
        )

    def unsync(self) -> None:
        """Drop the book; its next snapshot starts it again."""
        self.is_synced, self.sequence = False, -1
        self._pending.clear()

    def _set_bid(self, price: float, size: float) -> None:
        if size:
            self._bids[price] = size
            self._bid = max(self._bid, price)
        elif self._bids.pop(price, None) is not None and price >= self._bid:
            self._bid = max(self._bids, default=0.0)

    def _set_ask(self, price: float, size: float) -> None:
        if size:
            self._asks[price] = size
            self._ask = min(self._ask or price, price)
        elif self._asks.pop(price, None) is not None and price <= self._ask:
            self._ask = min(self._asks, default=0.0)

    def _trim(self) -> None:
        if self.depth is not None:
            if len(self._bids) > self.depth:
                self._bids = {price: self._bids[price] for price in highest(self._bids, self.depth)}
            if len(self._asks) > self.depth:
                self._asks = {price: self._asks[price] for price in lowest(self._asks, self.depth)}
        self._bid, self._ask = max(self._bids, default=0.0), min(self._asks, default=0.0)
