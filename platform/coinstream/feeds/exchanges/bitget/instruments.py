"""Read Bitget's instruments and resolve instrument names in frames.

Spot and futures share names such as `BTCUSDT`, so the id of an instrument here is the market and the name:
`spot.BTCUSDT`, `mix.BTCUSDT`. Sizes of futures are base currency.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from coinstream.feeds.exchanges.joined_names import split_by_quotes
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import from_ms

_QUOTES: Final = ("USDT", "USDC", "BTC", "ETH", "EUR", "BRL", "BGB")
"""Quote currencies of spot."""
_ENDINGS: Final = (("USDT", "USDT"), ("PERP", "USDC"), ("USD", "USD"))
"""Ends of the names of futures, with the quote currency that each stands for."""
_DELIVERY: Final = re.compile(r"(\w+?)_(?:[A-Z]MCBL_)?(\d{6})")


def read(url: str, entry: Any) -> Instrument:
    """Return the instrument of an entry of the v1, v2 or v3 list of spot or futures."""
    symbol, base, quote = entry["symbol"], entry["baseCoin"], entry["quoteCoin"]
    if "/spot/" in url or entry.get("category") == "SPOT":
        name = entry.get("symbolName") or symbol.removesuffix("_SPBL")
        active = entry.get("status", "online") == "online"
        return spot(f"spot.{name}", base, quote, active=active)
    name, _, detail = symbol.partition("_")
    day = detail.partition("_")[2]
    due = entry.get("deliveryTime")
    expiry = from_ms(float(due)) if due else _day(day) if day else None
    quote = "USDC" if name.endswith("PERP") else quote
    settle = base if quote == "USD" else quote
    return derivative(f"mix.{name}_{day}" if day else f"mix.{name}", base, quote, settle, expiry=expiry)


def unlisted(market: str, name: str) -> Instrument | None:
    """Return the instrument of a name that is not listed, where the name leaves no doubt.

    A line of futures has one quote currency, which ends the name. Spot has the quote currencies of
    `_QUOTES`, of which none ends in another one.
    """
    if market == "spot":
        parts = split_by_quotes(name, _QUOTES)
        return spot(f"spot.{name}", *parts) if parts else None
    found = _DELIVERY.fullmatch(name)
    contract, expiry = (found[1], _day(found[2])) if found else (name, None)
    for ending, quote in _ENDINGS:
        base = contract.removesuffix(ending)
        if base and base != contract:
            settle = base if quote == "USD" else quote
            return derivative(f"mix.{name}", base, quote, settle, expiry=expiry)
    return None


def market_of(kind: str) -> str:
    """Return `spot` or `mix` for an `instType`.

    Raises:
        ValueError: the exchange documents no such type.
    """
    lower = kind.lower()
    if lower in ("sp", "spot"):
        return "spot"
    if lower == "mc" or lower.endswith("-futures"):
        return "mix"
    raise ValueError(f"{kind!r} is not an instrument type")


def _day(text: str) -> datetime:
    return datetime.strptime(text, "%y%m%d").replace(tzinfo=UTC)
