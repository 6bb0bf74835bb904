"""Verify a book against the checksum that an exchange sends with each change.

The checksum is computed over the text of prices and sizes, so the text of each level is kept.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any, Final

from coinstream.feeds.exchanges.book_side import BookSide

_NONE: Final = ("", "")


class TextBook:
    """The text of the levels of one book, by price."""

    def __init__(self) -> None:
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

    def crc32(self, depth: int = 25) -> int:
        """Return the signed CRC-32 of the best levels, as OKX and Bitget compute it.

        The text is `bid:size:ask:size:...`, bids and asks in turn, of the best `depth` levels each.
        """
        bids = [text for _, text in self._bids.best(depth)]
        asks = [text for _, text in self._asks.best(depth)]
        parts = [text for pair in zip_longest(bids, asks) for level in pair if level for text in level]
        found = zlib.crc32(":".join(parts).encode())
        return found - (1 << 32) if found >= 1 << 31 else found
