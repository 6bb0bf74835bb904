"""Maintain an order book from snapshots and changes, and the text of its levels for checksums."""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Final, Generic, NamedTuple, TypeVar

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


_NONE: Final = ("", "")


class TextBook:
    """The text of prices and sizes of one book, which checksums are computed over.

    Args:
        depth: maximum levels per side; None for all.
    """

    def __init__(self, depth: int | None = None) -> None:
        self.depth = depth
        self._bids = BookSide[tuple[str, str]](descending=True)
        self._asks = BookSide[tuple[str, str]](descending=False)

    def clear(self) -> None:
        """Drop all levels."""
        self._bids.replace({})
        self._asks.replace({})

    def apply(self, bids: Iterable[Any], asks: Iterable[Any]) -> None:
        """Set levels such as `["price", "size", ...]`; a size of zero removes one."""
        for rows, side in ((bids, self._bids), (asks, self._asks)):
            texts = [(str(row[0]), str(row[1])) for row in rows]
            side.update([(float(text[0]), text if float(text[1]) else _NONE) for text in texts], _NONE)
            if self.depth is not None:
                side.cut(self.depth)

    def best(self, depth: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Return the text of the best `depth` bids and asks, best first."""
        return [text for _, text in self._bids.best(depth)], [text for _, text in self._asks.best(depth)]

    def crc32(self, depth: int = 25) -> int:
        """Return the signed CRC-32 of the best levels, as OKX and Bitget compute it.

        The text is `bid:size:ask:size:...`, bids and asks in turn, of the best `depth` levels each.
        """
        parts = [text for pair in zip_longest(*self.best(depth)) for level in pair if level for text in level]
        found = zlib.crc32(":".join(parts).encode())
        return found - (1 << 32) if found >= 1 << 31 else found
