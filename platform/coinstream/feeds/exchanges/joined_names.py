"""Split joined names of an exchange whose quote currencies are documented."""

from __future__ import annotations

from collections.abc import Iterable


def split_by_quotes(name: str, quotes: Iterable[str]) -> tuple[str, str] | None:
    """Split a joined name such as `RENDERUSDT` by the quote currencies that its exchange documents.

    Args:
        name: as the exchange writes it.
        quotes: all quote currencies of the market segment.

    Returns:
        Base and quote; None where no quote currency ends the name, or several do.
    """
    upper = name.upper()
    found = [quote for quote in quotes if upper.endswith(quote) and len(upper) > len(quote)]
    return (upper.removesuffix(found[0]), found[0]) if len(found) == 1 and upper.isalnum() else None
