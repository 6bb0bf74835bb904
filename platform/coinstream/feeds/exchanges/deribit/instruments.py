"""Resolve Deribit's names, which describe perpetuals, futures, options and spot completely."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from coinstream.feeds.instruments import Instrument, derivative, spot

_NAME: Final = re.compile(
    r"(?P<base>[A-Z0-9]+)(_(?P<quote>[A-Z0-9]+))?"
    r"(-(?P<due>PERPETUAL|\d{1,2}[A-Z]{3}\d{2})(-(?P<strike>\d+(d\d+)?)-(?P<side>[CP]))?)?"
)


def named(name: str, *, active: bool = True) -> Instrument | None:
    """Return the instrument of a name; None for combos, indices and names of another form.

    Amounts of inverse contracts are dollars; those of options, linear contracts and spot are base currency.
    Options that are not settled in USDC are priced in their base currency. `1d02` is a strike of 1.02.
    """
    found = _NAME.fullmatch(name)
    if found is None or not (found["quote"] or found["due"]):
        return None
    base, quote = found["base"], found["quote"] or "USD"
    if found["due"] is None:
        return spot(name, base, quote, active=active)
    settle = found["quote"] or base
    try:
        expiry = None if found["due"] == "PERPETUAL" else _day(found["due"])
    except ValueError:
        return None
    if found["strike"] is None:
        inverse = found["quote"] is None
        return derivative(name, base, quote, settle, expiry=expiry, inverse=inverse, active=active)
    if expiry is None:
        return None
    return derivative(
        *(name, base, quote, settle),
        expiry=expiry,
        strike=found["strike"].replace("d", "."),
        option="C" if found["side"] == "C" else "P",
        price_currency="" if found["quote"] else base,
        active=active,
    )


def read(entry: Any) -> Instrument | None:
    """Return the instrument of an entry of `public/get_instruments`; None for combos."""
    if entry["kind"].endswith("_combo"):
        return None
    return named(entry["instrument_name"], active=entry.get("is_active", True))


def _day(text: str) -> datetime:
    return datetime.strptime(text.title(), "%d%b%y").replace(hour=8, tzinfo=UTC)
