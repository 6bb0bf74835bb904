"""Verify Kraken's books: keep the text of each level and compare the checksum."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterable
from typing import Final

from coinstream.feeds.exchanges.order_book import highest, lowest

_CHECKED: Final = 10
"""Levels per side that the checksum covers."""

TextLevel = tuple[str, str]
"""Price and size as the exchange writes them."""


class CheckedBook:
    """The text of the levels of one book, cut to its depth.

    Args:
        depth: levels per side that the exchange sends.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._bids: dict[float, TextLevel] = {}
        self._asks: dict[float, TextLevel] = {}

    def replace(self, bids: Iterable[TextLevel], asks: Iterable[TextLevel]) -> None:
        """Start from a snapshot."""
        self._bids, self._asks = {}, {}
        self.apply(bids, asks)

    def apply(self, bids: Iterable[TextLevel], asks: Iterable[TextLevel]) -> None:
        """Set levels; a size of zero removes one."""
        for rows, side in ((bids, self._bids), (asks, self._asks)):
            for price, size in rows:
                if float(size):
                    side[float(price)] = price, size
                else:
                    side.pop(float(price), None)
        for worst in heapq.nsmallest(len(self._bids) - self.depth, self._bids):
            del self._bids[worst]
        for worst in heapq.nlargest(len(self._asks) - self.depth, self._asks):
            del self._asks[worst]

    def crc32(self) -> int:
        """Return the checksum of the best levels."""
        best = [self._asks[price] for price in lowest(self._asks, _CHECKED)]
        best += [self._bids[price] for price in highest(self._bids, _CHECKED)]
        digits = [text.replace(".", "").lstrip("0") for level in best for text in level]
        return zlib.crc32("".join(digits).encode())
