"""Read BitMEX's instruments, also from the frames of its `instrument` table.

Three kinds of contract: inverse ones are worth a dollar or euro, linear ones a fraction of the base currency,
and quanto ones a fixed number of satoshi per point of their price. `homeNotional` of trades and
`quoteToSettleMultiplier` give the base currency that a quanto contract is worth.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime
from typing import Any, Final

from coinstream.feeds.exchanges.parsing import moment
from coinstream.feeds.instruments import Instrument, derivative, spot

_SPOT: Final = frozenset({"IFXXXP"})
_PERPETUAL: Final = frozenset({"FFWCSX", "FFWCSF"})
_FUTURE: Final = frozenset({"FFCCSX", "FFICSX", "FFSCSX"})
_SETTLED: Final = {"XBt": "BTC", "USDt": "USDT", "BMEx": "BMEX", "Gwei": "ETH"}
_MONTHS: Final = "FGHJKMNQUVXZ"
_DATED: Final = re.compile(r"([A-Z]{2,6}?)(EUR)?([FGHJKMNQUVXZ])(\d{2})")


def read(entry: Any) -> Instrument | None:
    """Return the instrument of an entry; None for indices, options and other kinds."""
    kind, name = entry["typ"], entry["symbol"]
    base, quote = entry["underlying"], entry["quoteCurrency"]
    active = entry.get("state", "Open") == "Open"
    per_base = entry.get("underlyingToPositionMultiplier")
    size = 1 / per_base if per_base else 1.0
    if kind in _SPOT:
        found = spot(name, base, quote, active=active)
        return Instrument(found.id, found.symbol, found.base, found.quote, contract_size=size, active=active)
    if kind not in _PERPETUAL and kind not in _FUTURE:
        return None
    if entry.get("isQuanto") and not per_base:
        size = abs(entry["multiplier"]) / (entry.get("quoteToSettleMultiplier") or abs(entry["multiplier"]))
    settle = entry.get("settlCurrency") or "XBt"
    return derivative(
        name,
        *(base, quote, _SETTLED.get(settle, settle)),
        expiry=moment(entry["expiry"]) if kind in _FUTURE and entry.get("expiry") else None,
        contract_size=1.0 if entry.get("isInverse") else size,
        inverse=bool(entry.get("isInverse")),
        active=active,
    )


def unlisted(name: str) -> Instrument | None:
    """Return the future of a name with a month code, or None if the name is ambiguous.

    Futures of Bitcoin are worth a dollar or euro; those of other currencies are quoted in Bitcoin and worth
    one unit.
    """
    found = _DATED.fullmatch(name)
    if found is None or found[1].endswith("USD"):
        return None
    year, month = 2000 + int(found[4]), _MONTHS.index(found[3]) + 1
    day = max(week[calendar.FRIDAY] for week in calendar.monthcalendar(year, month))
    expiry = datetime(year, month, day, 12, tzinfo=UTC)
    inverse = found[1] == "XBT"
    quote = (found[2] or "USD") if inverse else "XBT"
    return derivative(name, found[1], quote, "BTC", expiry=expiry, inverse=inverse)
