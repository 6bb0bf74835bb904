"""Read Bybit's instruments and resolve instrument names in frames.

Spot, linear and inverse markets share names such as `BTCUSDT`, so the id of an instrument here is the
category and the name: `linear.BTCUSDT`.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from coinstream.feeds.instrument_lists import split_by_quotes
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot
from coinstream.feeds.parser import from_ms

CATEGORIES: Final = ("spot", "linear", "inverse", "option")
MONTH_CODES: Final = "FGHJKMNQUVXZ"
"""Month codes of futures contracts, from January."""
_QUOTES: Final = ("USDT", "USDC", "BTC", "ETH", "DAI", "EUR", "BRZ", "BRL", "PLN", "TRY", "USDE", "MNT")
"""Quote currencies of spot."""
_OPTION: Final = re.compile(r"([A-Z0-9]+)-(\d{1,2}[A-Z]{3}\d{2})-([0-9.]+)-([CP])(?:-(USDT|USDC))?")
_DATED: Final = re.compile(r"([A-Z0-9]+?)(USDT)?-(\d{1,2}[A-Z]{3}\d{2})")
_CODED: Final = re.compile(r"([A-Z0-9]+)USD([FGHJKMNQUVXZ])(\d{2})")
_ENDINGS: Final = {"linear": (("USDT", "USDT"), ("PERP", "USDC")), "inverse": (("USD", "USD"),)}
"""Ends of the names of perpetual contracts of a category, with the quote currency that each stands for."""


def category_of(url: str) -> str:
    """Return the category of a URL, or an empty string if the URL has none."""
    path = urlsplit(url).path
    for category in CATEGORIES:
        if path.startswith(f"/v5/public/{category}"):
            return category
    if path.startswith("/spot"):
        return "spot"
    if path.startswith(("/realtime_public", "/contract/usdt", "/contract/usdc", "/perpetual")):
        return "linear"
    if path.startswith(("/realtime", "/contract/inverse")):
        return "inverse"
    return "option" if path.startswith(("/trade/option", "/option")) else ""


def read_instrument(url: str, entry: Any) -> Instrument | None:
    """Return the instrument of an entry of `/v5/market/instruments-info` or `/v2/public/symbols`."""
    if "name" in entry:
        name, base, quote = entry["name"], entry["base_currency"], entry["quote_currency"]
        category = "inverse" if quote == "USD" else "linear"
        code = _CODED.fullmatch(name)
        expiry = _last_friday(code[2], code[3]) if code else None
        return _contract(category, name, base, quote, base if quote == "USD" else quote, expiry)
    category = parse_qs(urlsplit(url).query).get("category", ["linear"])[0]
    name, base, quote = entry["symbol"], entry["baseCoin"], entry["quoteCoin"]
    active = entry.get("status", "Trading") == "Trading"
    if category == "spot":
        return spot(f"spot.{name}", base, quote, active=active)
    if category == "option":
        return _option(name)
    due = float(entry.get("deliveryTime") or 0)
    expiry = from_ms(due) if due > 0 else None
    settle = entry.get("settleCoin") or quote
    quote = "USDC" if settle == "USDC" and quote == "USD" else quote
    return _contract(category, name, base, quote, settle, expiry, active=active)


def found_in(known: InstrumentList, name: str, category: str) -> Instrument | None:
    """Return the instrument of a name in a category, from the list or from the name itself.

    A name determines its currencies, because each category has few quote currencies, of which none ends in
    another one.
    """
    found = known.get(f"{category}.{name}")
    if found is None and name:
        found = _derived(name, category)
        if found is not None:
            known.add([found])
    return found


def candidates(known: InstrumentList, name: str, categories: tuple[str, ...]) -> list[Instrument]:
    """Return what a name may mean in these categories, one instrument per category that has it."""
    found = (found_in(known, name, category) for category in categories)
    return [instrument for instrument in found if instrument is not None]


def _contract(
    category: str,
    name: str,
    base: str,
    quote: str,
    settle: str,
    expiry: datetime | None,
    *,
    active: bool = True,
) -> Instrument:
    inverse = category == "inverse"
    return derivative(
        *(f"{category}.{name}", base, quote, settle), expiry=expiry, inverse=inverse, active=active
    )


def _derived(name: str, category: str) -> Instrument | None:
    if category == "spot":
        parts = split_by_quotes(name, _QUOTES)
        return spot(f"spot.{name}", *parts) if parts else None
    if category == "option":
        return _option(name)
    if category == "inverse" and (code := _CODED.fullmatch(name)):
        return _contract(category, name, code[1], "USD", code[1], _last_friday(code[2], code[3]))
    if category == "linear" and (dated := _DATED.fullmatch(name)):
        quote = dated[2] or "USDC"
        return _contract(category, name, dated[1], quote, quote, _day(dated[3]))
    for ending, quote in _ENDINGS.get(category, ()):
        if name.endswith(ending) and len(name) > len(ending):
            base = name.removesuffix(ending)
            return _contract(category, name, base, quote, base if quote == "USD" else quote, None)
    return None


def _option(name: str) -> Instrument | None:
    found = _OPTION.fullmatch(name)
    if found is None:
        return None
    quote = found[5] or "USDC"
    return derivative(
        *(f"option.{name}", found[1], quote, quote),
        expiry=_day(found[2]),
        strike=found[3],
        option="C" if found[4] == "C" else "P",
    )


def _day(text: str) -> datetime:
    return datetime.strptime(text.title(), "%d%b%y").replace(tzinfo=UTC)


def _last_friday(code: str, year: str) -> datetime:
    month = MONTH_CODES.index(code) + 1
    weeks = calendar.monthcalendar(2000 + int(year), month)
    day = max(week[calendar.FRIDAY] for week in weeks)
    return datetime(2000 + int(year), month, day, 8, tzinfo=UTC)
