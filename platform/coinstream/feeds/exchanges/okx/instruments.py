"""Read OKX's instruments: `GET /api/v5/public/instruments`, and names that are not in the list."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot
from coinstream.feeds.parser import from_ms

_INVERSE_SIZES: Final = {"BTC": 100.0}
_INVERSE_SIZE: Final = 10.0
"""Dollars that a coin-margined contract is worth: 100 of Bitcoin, 10 of all others."""


def read_instrument(entry: Any) -> Instrument | None:
    """Return the instrument of an entry; None for a kind that has no unified symbol."""
    name, kind = entry["instId"], entry["instType"]
    active = entry.get("state", "live") == "live"
    if kind in ("SPOT", "MARGIN"):
        return spot(name, entry["baseCcy"], entry["quoteCcy"], active=active)
    if kind not in ("SWAP", "FUTURES", "OPTION"):
        return None
    base, _, quote = (entry.get("uly") or entry.get("instFamily") or name).partition("-")
    quote = quote.partition("-")[0].partition("_")[0]
    settle = entry["settleCcy"] or (base if quote == "USD" else quote)
    expiry = from_ms(float(entry["expTime"])) if entry.get("expTime") else None
    size = float(entry.get("ctVal") or 1) * float(entry.get("ctMult") or 1)
    if kind == "OPTION":
        return derivative(
            *(name, base, quote, settle),
            expiry=expiry,
            strike=entry["stk"],
            option="C" if entry["optType"] == "C" else "P",
            contract_size=size,
            price_currency=settle if settle != quote else "",
            active=active,
        )
    return derivative(
        *(name, base, quote, settle),
        expiry=expiry if kind == "FUTURES" else None,
        contract_size=size,
        inverse=entry.get("ctType") == "inverse",
        active=active,
    )


def derived(name: str, known: InstrumentList) -> Instrument | None:
    """Return the instrument that a name itself describes, or None.

    OKX separates the parts of its names, so the name describes a market that is no longer listed. The size of
    a contract is that of the other contracts of its family in the list, or the one that OKX documents for
    coin-margined contracts.
    """
    parts = name.upper().split("-")
    if not 2 <= len(parts) <= 5 or not all(part.isalnum() for part in parts):
        return None
    base, quote = parts[:2]
    if len(parts) == 2:
        return spot(name, base, quote)
    settle = base if quote == "USD" else quote
    kind = "option" if len(parts) == 5 else "future"
    size = _family_size(f"{base}-{quote}-", kind, known)
    expiry = None if parts[2] == "SWAP" else _expiry(parts[2])
    if size is None and kind != "option" and quote == "USD":
        size = _INVERSE_SIZES.get(base, _INVERSE_SIZE)
    if size is None or (expiry is None and parts[2] != "SWAP") or len(parts) == 4:
        return None
    if kind == "option":
        return derivative(
            *(name, base, quote, settle),
            expiry=expiry,
            strike=parts[3],
            option="C" if parts[4] == "C" else "P",
            contract_size=size,
            price_currency=settle if settle != quote else "",
        )
    return derivative(*(name, base, quote, settle), expiry=expiry, contract_size=size, inverse=quote == "USD")


def _family_size(prefix: str, kind: str, known: InstrumentList) -> float | None:
    for instrument in known:
        is_option = instrument.kind == "option"
        if instrument.id.startswith(prefix) and is_option == (kind == "option"):
            return instrument.contract_size
    return None


def _expiry(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
