"""Read Gate's instruments and resolve instrument names in frames.

Spot and futures share names such as `BTC_USDT`, so the id of an instrument here is the market and the name:
`spot.BTC_USDT`, `futures.BTC_USDT`, `options.BTC_USDT-20240628-50000-C`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import from_ms

_OPTION: Final = re.compile(r"([A-Z0-9]+)_(USDT)-(\d{8})-([0-9.]+)-([CP])")


def read_instrument(url: str, entry: Any) -> Instrument | None:
    """Return the instrument of an entry of spot pairs, perpetual contracts, futures or options."""
    if "base" in entry:
        active = entry.get("trade_status", "tradable") == "tradable"
        return spot(f"spot.{entry['id']}", entry["base"], entry["quote"], active=active)
    if "/options/" in url:
        return option(entry["name"], float(entry.get("multiplier") or 1))
    base, quote = entry["name"].split("_")[:2]
    settle = url.partition("/futures/")[2] or url.partition("/delivery/")[2]
    settle = settle.partition("/")[0].upper() or quote
    inverse = entry.get("type") == "inverse"
    expiry = entry.get("expire_time")
    return derivative(
        f"futures.{entry['name']}",
        base,
        quote,
        settle,
        expiry=from_ms(float(expiry) * 1000) if expiry else None,
        contract_size=1.0 if inverse else float(entry["quanto_multiplier"]),
        inverse=inverse,
        active=not entry.get("in_delisting", False),
    )


def option(name: str, size: float) -> Instrument | None:
    """Return the option of a name, or None if it is not one."""
    found = _OPTION.fullmatch(name)
    if found is None:
        return None
    return derivative(
        *(f"options.{name}", found[1], found[2], found[2]),
        expiry=datetime.strptime(found[3], "%Y%m%d").replace(tzinfo=UTC),
        strike=found[4],
        option="C" if found[5] == "C" else "P",
        contract_size=size,
    )


def instrument_named(identity: str) -> Instrument | None:
    """Return the spot market of a name that is not listed, or the inverse contract of Bitcoin.

    The size of any other contract is not in its name.
    """
    market, _, name = identity.partition(".")
    if identity == "futures.BTC_USD":
        return derivative(identity, "BTC", "USD", "BTC", inverse=True)
    base, _, quote = name.rpartition("_")
    if market != "spot" or not (base.isalnum() and quote.isalnum()):
        return None
    return spot(identity, base, quote)
