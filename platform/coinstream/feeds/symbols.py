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

_OVERLAPPING: Final = {"TUSD": "USD", "GUSD": "USD", "BUSD": "USD", "BKRW": "KRW"}
"""Quote currencies that end in another one: `OMGUSD` is OMG/USD, not OM/GUSD."""
_ENDING_ALIKE: Final = frozenset(
    (
        *("USDT", "XBT", "DOT", "BAT", "GRT", "ANT", "FTT", "LPT", "OXT", "BTT", "BNT", "QNT", "HOT", "LIT"),
        *("SNT", "GMT", "VET", "FET", "JST", "APT", "NFT", "DENT", "MDT", "NOT", "PNUT", "GOAT", "UST"),
        *("BIT", "ALT", "MINT", "DNT", "AST", "FLT", "HFT", "ACT", "CVT", "RLT", "CAT", "STPT", "WAXT"),
        *("BNB", "SHIB", "OKB", "TLB", "RLB"),
        *("OMG", "ENG", "STG", "YGG", "DOG", "RPG", "WING", "LONG", "PSG"),
    )
)
"""Currencies whose last letter and a shorter quote currency look like a longer one."""

_ALIASES: Final = {"XBT": "BTC", "XDG": "DOGE"}
_SHORTEST: Final = 3
_LONGEST_FIRST: Final = sorted(QUOTES, key=len, reverse=True)


@lru_cache(maxsize=65_536)
def split_joined(joined: str) -> str | None:
    """`BTCUSDT` as `BTC/USDT`; None when no known quote currency ends it."""
    upper = joined.upper()
    for quote in _LONGEST_FIRST:
        if upper.endswith(quote) and len(upper) > len(quote):
            shorter = _OVERLAPPING.get(quote)
            if shorter is not None and _is_meant(upper, quote, shorter):
                quote = shorter
            return f"{_plain(upper[: -len(quote)])}/{_plain(quote)}"
    return None


def _is_meant(joined: str, longer: str, shorter: str) -> bool:
    if joined[: -len(shorter)] in _ENDING_ALIKE:
        return True
    # Currencies of two letters are traded against BUSD, hardly against the others.
    return longer != "BUSD" and len(joined) - len(longer) < _SHORTEST


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
