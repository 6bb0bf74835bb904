"""Derive Binance's instruments from names that the instrument list does not have."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from coinstream.feeds.instrument_lists import split_uniquely
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot

_OPTION_PARTS: Final = 4


def unlisted(name: str, instruments: InstrumentList, settle: str) -> Instrument | None:
    """Return an option or a dated future by its name, or a joined name with one possible split.

    Args:
        name: name in frames.
        instruments: instrument list of the segment.
        settle: how the segment settles; empty for spot.
    """
    parts = name.upper().split("-")
    if len(parts) == _OPTION_PARTS and parts[3] in ("C", "P"):
        expiry = datetime.strptime(parts[1], "%y%m%d").replace(tzinfo=UTC)
        option = "C" if parts[3] == "C" else "P"
        return derivative(name, parts[0], "USDT", "USDT", expiry=expiry, strike=parts[2], option=option)  # type: ignore[arg-type]
    pair, _, date = name.upper().partition("_")
    if date.isdigit() and settle:
        return _dated(name, pair, date, instruments)
    if not pair.isalnum() or date or settle == "base":
        return None
    split = split_uniquely(pair, instruments)
    if split is None:
        return None
    return derivative(name, *split, split[1]) if settle else spot(name, *split)


def _dated(name: str, pair: str, date: str, instruments: InstrumentList) -> Instrument | None:
    like = instruments.get(pair) or instruments.get(f"{pair}_PERP")
    if like is None:
        return None
    return derivative(
        *(name, like.base, like.quote, like.settle),
        expiry=datetime.strptime(date, "%y%m%d").replace(tzinfo=UTC),
        contract_size=like.contract_size,
        inverse=like.inverse,
    )
