"""Verify Kraken's books: keep the text of each level and compare the checksum."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

from coinstream.feeds.exchanges.book_side import BookSide

_CHECKED: Final = 10
"""Levels per side that the checksum covers."""

TextLevel = tuple[str, str]
"""Price and size as the exchange writes them."""

_NONE: Final = ("", "")


class CheckedBook:
    """The text of the levels of one book, cut to its depth.

    Args:
        depth: levels per side that the exchange sends.
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self._bids = BookSide[TextLevel](descending=True)
        self._asks = BookSide[TextLevel](descending=False)

    def replace(self, bids: Iterable[TextLevel], asks: Iterable[TextLevel]) -> None:
        """Start from a snapshot."""
        self._bids.replace({})
        self._asks.replace({})
        self.apply(bids, asks)

    def apply(self, bids: Iterable[TextLevel], asks: Iterable[TextLevel]) -> None:
        """Set levels; a size of zero removes one."""
        for rows, side in ((bids, self._bids), (asks, self._asks)):
            side.update([(float(text[0]), text if float(text[1]) else _NONE) for text in rows], _NONE)
            side.cut(self.depth)

    def crc32(self) -> int:
        """Return the checksum of the best levels."""
        best = [text for _, text in self._asks.best(_CHECKED)]
        best += [text for _, text in self._bids.best(_CHECKED)]
        digits = [text.replace(".", "").lstrip("0") for level in best for text in level]
        return zlib.crc32("".join(digits).encode())
