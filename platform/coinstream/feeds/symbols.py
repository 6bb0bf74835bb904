"""Symbols as `BASE/QUOTE`, the unified form that ccxt uses; derivatives as `BASE/QUOTE:SETTLE`."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

DOLLARS: Final = frozenset(
    {"USD", "USDT", "USDC", "FDUSD", "BUSD", "TUSD", "DAI", "USDP", "PAX", "GUSD", "PYUSD", "USDE", "USD1"}
)
"""Quote currencies that are the US dollar or pegged to it: a trade in them has a `usdPrice`."""

QUOTES: Final = (
    *("FDUSD", "PYUSD", "USDT", "USDC", "BUSD", "TUSD", "GUSD", "USDP", "USD1", "USDE", "USDS", "BIDR"),
    *("IDRT", "BVND", "EURI", "AEUR", "EURC", "EURT", "DOGE", "UAH", "NGN", "BKRW", "VAI", "PAX"),
    *("USD", "EUR", "GBP", "JPY", "TRY", "BRL", "AUD", "CAD", "CHF", "RUB", "ZAR", "PLN", "RON", "ARS"),
    *("MXN", "COP", "CZK", "KRW", "SGD", "HKD", "INR", "IDR", "THB", "AED", "NZD", "DAI", "BTC", "ETH"),
    *("BNB", "TRX", "XRP", "DOT", "SOL", "LTC", "BCH", "XBT", "FIL", "KCS", "HT", "OKB", "MNT"),
)
"""Quote currencies by which a joined symbol such as `BTCUSDT` is split, longest first."""

_ALIASES: Final = {"XBT": "BTC", "XDG": "DOGE"}
_LONGEST_FIRST: Final = sorted(QUOTES, key=len, reverse=True)


@lru_cache(maxsize=65_536)
def split_joined(joined: str) -> str | None:
    """`BTCUSDT` as `BTC/USDT`; None when no known quote currency ends it."""
    upper = joined.upper()
    for quote in _LONGEST_FIRST:
        if upper.endswith(quote) and len(upper) > len(quote):
            return f"{_plain(upper[: -len(quote)])}/{_plain(quote)}"
    return None


@lru_cache(maxsize=65_536)
def split_at(text: str, separator: str) -> str | None:
    """`BTC-USD` or `XBT/USD` as `BTC/USD`; None when the separator does not part it in two."""
    base, found, quote = text.upper().partition(separator)
    if not (found and base and quote) or separator in quote:
        return None
    return f"{_plain(base)}/{_plain(quote)}"


@lru_cache(maxsize=65_536)
def is_in_dollars(symbol: str) -> bool:
    """Whether prices of this unified symbol are in dollars or a dollar-pegged currency."""
    return symbol.partition("/")[2].partition(":")[0] in DOLLARS


def _plain(currency: str) -> str:
    return _ALIASES.get(currency, currency)
