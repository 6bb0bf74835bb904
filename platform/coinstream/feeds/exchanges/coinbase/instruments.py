"""Read Coinbase's products and resolve instrument names in frames."""

from __future__ import annotations

from typing import Any

from coinstream.feeds.exchanges.parsing import moment
from coinstream.feeds.instruments import Instrument, derivative, spot


def read(entry: Any) -> Instrument | None:
    """Return the instrument of an entry of the Exchange's, Advanced Trade's or International's list."""
    if "base_asset_name" in entry:
        name, base, quote = entry["symbol"], entry["base_asset_name"], entry["quote_asset_name"]
        active = entry.get("trading_state", "TRADING") == "TRADING"
        if entry.get("type") == "SPOT":
            return spot(name, base, quote, active=active)
        return derivative(name, base, quote, quote, active=active)
    if "base_currency" in entry:
        active = entry.get("status", "online") == "online"
        return spot(entry["id"], entry["base_currency"], entry["quote_currency"], active=active)
    name, active = entry["product_id"], not entry.get("trading_disabled", False)
    if entry.get("product_type", "SPOT") == "SPOT":
        return spot(name, entry["base_currency_id"], entry["quote_currency_id"], active=active)
    return _contract(name, entry, active=active)


def unlisted(name: str) -> Instrument | None:
    """Return the product that a name describes, or None; the size of a dated future is not in its name."""
    parts = name.upper().split("-")
    if not all(part.isalnum() for part in parts):
        return None
    if parts[1:] in (["PERP"], ["PERP", "INTX"]):
        return derivative(name, parts[0], "USDC", "USDC")
    return spot(name, *parts) if len(parts) == 2 else None


def _contract(name: str, entry: Any, *, active: bool) -> Instrument | None:
    details = entry.get("future_product_details") or {}
    base, size = details.get("contract_root_unit"), details.get("contract_size")
    if not base or not size:
        return None
    quote = entry.get("quote_currency_id") or "USD"
    due = details.get("contract_expiry")
    expires = due and details.get("contract_expiry_type") != "PERPETUAL"
    return derivative(
        *(name, base, quote, quote),
        expiry=moment(due) if expires else None,
        contract_size=float(size),
        active=active,
    )
