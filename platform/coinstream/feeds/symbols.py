"""Read unified symbols: `BASE/QUOTE`, and `BASE/QUOTE:SETTLE` for derivatives, as ccxt writes them."""

from __future__ import annotations

from functools import lru_cache

from coinstream.feeds.instruments import DOLLARS


@lru_cache(maxsize=65_536)
def is_in_dollars(symbol: str) -> bool:
    """Return whether prices of this unified symbol are in dollars or a dollar-pegged currency.

    An option that settles in its base currency is priced in that currency.
    """
    quote, _, settle = symbol.partition("/")[2].partition(":")
    is_option = symbol.count("-") >= 3
    return (settle.partition("-")[0] if is_option and settle else quote) in DOLLARS
