"""Read KuCoin's instruments: spot pairs and contracts."""

from __future__ import annotations

from typing import Any, Final

from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parsers.base import from_ms

_ALIASES: Final = {"BCHSV": "BSV"}


def read(entry: Any) -> Instrument:
    """Return the instrument of an entry of `/api/v1/symbols` or `/api/v1/contracts/active`."""
    base, quote = _name(entry["baseCurrency"]), _name(entry["quoteCurrency"])
    if "settleCurrency" not in entry:
        return spot(entry["symbol"], base, quote, active=entry.get("enableTrading", True))
    inverse = bool(entry.get("isInverse"))
    expiry = entry.get("expireDate")
    return derivative(
        entry["symbol"],
        *(base, quote, entry["settleCurrency"]),
        expiry=from_ms(float(expiry)) if expiry else None,
        contract_size=abs(float(entry["multiplier"])),
        inverse=inverse,
        active=entry.get("status", "Open") == "Open",
    )


def unlisted(name: str) -> Instrument | None:
    """Return the spot market of a name that is not listed; the size of a contract is not in its name."""
    base, _, quote = name.partition("-")
    return spot(name, _name(base), _name(quote)) if base.isalnum() and quote.isalnum() else None


def _name(currency: str) -> str:
    return _ALIASES.get(currency, currency)
