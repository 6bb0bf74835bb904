"""Maintain an order book from snapshots and changes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from coinstream.feeds.exchanges.book_side import BookSide

MAX_PENDING: Final = 2_000
"""Maximum changes of a book kept until its snapshot arrives; the oldest are dropped first."""

Levels = Sequence[tuple[float, float]]
"""Price and size of each level."""


class BookChange(NamedTuple):
    """Change of a book with its sequence numbers and levels."""

    first: int | None
    last: int
    bids: Levels
    asks: Levels


class BookGap(NamedTuple):
    """Missing sequence numbers of a book. The book is unsynced until its next snapshot."""

    first: int
    last: int


class OrderBook:
    """Order book of one channel and symbol. A size of 0 removes a level.

    Args:
        depth: maximum levels per side, for exchanges that send no removal of levels beyond the depth.
    """

    def __init__(self, depth: int | None = None) -> None:
        self.is_synced = False
        self.sequence = -1
        self.depth = depth
        self._bids = BookSide[float](descending=True)
        self._asks = BookSide[float](descending=False)
        self._pending: deque[BookChange] = deque(maxlen=MAX_PENDING)

    def replace(
        self, bids: Iterable[tuple[float, float]], asks: Iterable[tuple[float, float]], sequence: int = -1
    ) -> bool:
        """Replace the book by a snapshot, then apply pending changes after it.

        Returns:
            False if the snapshot is older than the book, which is then unchanged.
        """
        if self.is_synced and 0 <= sequence < self.sequence:
            return False
        self._bids.replace({price: size for price, size in bids if size})
        self._asks.replace({price: size for price, size in asks if size})
        self.is_synced, self.sequence = True, sequence
        if self.depth is not None:
            self._trim(self.depth)
        pending, self._pending = self._pending, deque(maxlen=MAX_PENDING)
        for change in pending:
            if self.is_synced:
                self.change(change)
        return True

    def change(self, change: BookChange) -> BookGap | bool | None:
        """Apply a numbered change.

        Returns:
            True if it was applied; False if it is a duplicate or older than the book; None if the book awaits
            its snapshot (the change is kept); a `BookGap` if numbers are missing, which unsyncs the book.
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
        """Set levels without sequence numbers."""
        if bids:
            self._bids.update(bids, 0.0)
        if asks:
            self._asks.update(asks, 0.0)
        if self.depth is not None:
            self._trim(self.depth)

    @property
    def top(self) -> tuple[float, float, float, float]:
        """Return best bid, best ask, bid size and ask size; zeros for an empty side."""
        bid, bid_size = self._bids.top(0.0)
        ask, ask_size = self._asks.top(0.0)
        return bid, ask, bid_size, ask_size

    def best(self, depth: int) -> tuple[Levels, Levels]:
        """Return the best `depth` bids and asks, best first."""
        return self._bids.best(depth), self._asks.best(depth)

    def unsync(self) -> None:
        """Clear the book until its next snapshot."""
        self.is_synced, self.sequence = False, -1
        self._pending.clear()

    def _trim(self, depth: int) -> None:
        self._bids.cut(depth)
        self._asks.cut(depth)
