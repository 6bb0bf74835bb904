"""Read KuCoin's instruments: spot pairs and contracts."""

from __future__ import annotations

from typing import Any, Final

from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import from_ms

_ALIASES: Final = {"BCHSV": "BSV"}
_LINEAR: Final = {"XBTUSDTM": 0.001, "XBTUSDCM": 0.001, "ETHUSDTM": 0.01, "ETHUSDCM": 0.01}
"""Base currency that a contract is worth, as the exchange documents it."""
_INVERSE: Final = ("XBTUSDM", "ETHUSDM")
"""Contracts that are worth one dollar."""


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
    """Return the spot market of a name that is not listed, or one of the oldest contracts.

    The size of any other contract is not in its name.
    """
    base = name[:3]
    if name in _INVERSE:
        return derivative(name, base, "USD", base, inverse=True)
    if name in _LINEAR:
        quote = name[3:7]
        return derivative(name, base, quote, quote, contract_size=_LINEAR[name])
    base, _, quote = name.partition("-")
    return spot(name, _name(base), _name(quote)) if base.isalnum() and quote.isalnum() else None


def _name(currency: str) -> str:
    return _ALIASES.get(currency, currency)
