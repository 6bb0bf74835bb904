"""Read HTX's instruments and resolve instrument names in frames.

Coin-margined futures are named by their period: `BTC_CW` is the future that expires on the next Friday. The
period and the time of a frame determine the contract.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from coinstream.feeds.instrument_lists import split_by_quotes
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot

_QUOTES: Final = ("USDT", "HUSD", "BTC", "ETH", "HT", "TRX", "USDC", "USDD")
"""Quote currencies of spot."""
_PERIOD: Final = re.compile(r"([A-Z0-9]+)(-USDT)?[_-](CW|NW|CQ|NQ)")
_DATED: Final = re.compile(r"([A-Z0-9]+?)(-USDT-)?(\d{6})")
_OPTION: Final = re.compile(r"([A-Z0-9]+)-USDT-(\d{6})-([CP])-([0-9.]+)")
_EXPIRY_HOUR: Final = 8
_SIZES: Final = {"BTC": 100.0}
_SIZE: Final = 10.0
"""Dollars that a coin-margined contract is worth: 100 of Bitcoin, 10 of all others."""


def read_instrument(entry: Any) -> Instrument:
    """Return the instrument of an entry of the spot symbols or of a `contract_info` list."""
    if "contract_code" not in entry:
        active = entry.get("state", "online") == "online"
        return spot(entry["symbol"], entry["base-currency"], entry["quote-currency"], active=active)
    code, base, size = entry["contract_code"], entry["symbol"], float(entry["contract_size"])
    active = entry.get("contract_status", 1) == 1
    dated = _DATED.fullmatch(code)
    if dated is not None:
        return _future(code, base, _day(dated[3]), size, linear=bool(dated[2]), active=active)
    linear = code.endswith("-USDT")
    quote = "USDT" if linear else "USD"
    return derivative(
        *(code, base, quote, quote if linear else base),
        contract_size=size,
        inverse=not linear,
        active=active,
    )


def contract(name: str, at: datetime, known: InstrumentList) -> Instrument | None:
    """Return the contract that a frame of some time names, or None where its size is not known."""
    period = _PERIOD.fullmatch(name)
    if period is not None:
        day = expiry(period[3], at)
        joint = "-USDT-" if period[2] else ""
        return contract(f"{period[1]}{joint}{day:%y%m%d}", at, known)
    found = known.get(name)
    if found is None:
        found = _unlisted(name, known)
        if found is not None:
            known.add([found])
    return found


def expiry(period: str, at: datetime) -> datetime:
    """Return when the future of a period expires: `CW`, `NW` (weeks), `CQ` or `NQ` (quarters).

    Futures expire on Fridays at 08:00 UTC. A quarter's future becomes the one of a week when two weeks are
    left, so the quarter is the first one whose last Friday is later than the next week's.
    """
    friday = (at + timedelta(days=(calendar.FRIDAY - at.weekday()) % 7)).replace(
        hour=_EXPIRY_HOUR, minute=0, second=0, microsecond=0
    )
    week = friday if friday > at else friday + timedelta(days=7)
    if period == "CW":
        return week
    following = week + timedelta(days=7)
    if period == "NW":
        return following
    quarters = [found for found in _quarters(at.year) if found > following]
    return quarters[0 if period == "CQ" else 1]


def _quarters(year: int) -> list[datetime]:
    found = []
    for each, month in ((year + add, month) for add in (0, 1) for month in (3, 6, 9, 12)):
        day = max(week[calendar.FRIDAY] for week in calendar.monthcalendar(each, month))
        found.append(datetime(each, month, day, _EXPIRY_HOUR, tzinfo=UTC))
    return found


def _unlisted(name: str, known: InstrumentList) -> Instrument | None:
    if name.islower() and name.isalnum():
        parts = split_by_quotes(name, _QUOTES)
        return spot(name, *parts) if parts else None
    option, dated = _OPTION.fullmatch(name), _DATED.fullmatch(name)
    if option is not None:
        size = _linear_size(option[1], known)
        return None if size is None else _option(name, option, size)
    if dated is not None:
        linear = bool(dated[2])
        size = _linear_size(dated[1], known) if linear else _SIZES.get(dated[1], _SIZE)
        return None if size is None else _future(name, dated[1], _day(dated[3]), size, linear=linear)
    base, _, quote = name.partition("-")
    if quote == "USD" and base.isalnum():
        return derivative(name, base, quote, base, contract_size=_SIZES.get(base, _SIZE), inverse=True)
    return None


def _linear_size(base: str, known: InstrumentList) -> float | None:
    swap = known.get(f"{base}-USDT")
    return None if swap is None else swap.contract_size


def _future(
    name: str, base: str, day: datetime, size: float, *, linear: bool, active: bool = True
) -> Instrument:
    quote = "USDT" if linear else "USD"
    return derivative(
        *(name, base, quote, quote if linear else base),
        expiry=day,
        contract_size=size,
        inverse=not linear,
        active=active,
    )


def _option(name: str, found: re.Match[str], size: float) -> Instrument:
    return derivative(
        *(name, found[1], "USDT", "USDT"),
        expiry=_day(found[2]),
        strike=found[4],
        option="C" if found[3] == "C" else "P",
        contract_size=size,
    )


def _day(text: str) -> datetime:
    return datetime.strptime(text, "%y%m%d").replace(tzinfo=UTC)
