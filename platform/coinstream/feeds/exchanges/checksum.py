"""Verify a book against the checksum that an exchange sends with each change.

The checksum is computed over the text of prices and sizes, so the text of each level is kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from coinstream.feeds.exchanges.order_book import highest, lowest


class TextBook:
    """The text of the levels of one book, by price."""

    def __init__(self) -> None:
        self._bids: dict[float, tuple[str, str]] = {}
        self._asks: dict[float, tuple[str, str]] = {}

    def clear(self) -> None:
        """Drop all levels."""
        self._bids.clear()
        self._asks.clear()

    def apply(self, bids: Iterable[Any], asks: Iterable[Any]) -> None:
        """Set levels such as `["price", "size", ...]`; a size of zero removes one."""
        for rows, side in ((bids, self._bids), (asks, self._asks)):
            for row in rows:
                price, size = str(row[0]), str(row[1])
                if float(size):
                    side[float(price)] = price, size
                else:
                    side.pop(float(price), None)

    def crc32(self, depth: int = 25) -> int:
        """Return the signed CRC-32 of the best levels, as OKX and Bitget compute it.

        The text is `bid:size:ask:size:...`, bids and asks in turn, of the best `depth` levels each.
        """
        bids = [self._bids[price] for price in highest(self._bids, depth)]
        asks = [self._asks[price] for price in lowest(self._asks, depth)]
        parts = [text for pair in zip_longest(bids, asks) for level in pair if level for text in level]
        found = zlib.crc32(":".join(parts).encode())
        return found - (1 << 32) if found >= 1 << 31 else found
