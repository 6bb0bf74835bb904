"""Parse BitMEX's websocket.

Source: "BitMEX API: WebSocket" (https://www.bitmex.com/app/wsAPI):

- A table sends `partial` first, then `insert`, `update` (the key and what changed) and `delete`.
- Levels of `orderBookL2` are identified by `id`; until 2022 an update and a delete had no price.
- The time of a bin (`tradeBin1m`) is its end. `homeNotional` is base currency.
- `instrument` has mark price, funding rate and open interest (in contracts), also of indices, whose names
  begin with a dot.
- Inverse contracts are worth a dollar or euro, linear ones a fraction of the base currency, and quanto ones a
  fixed number of satoshi per point of their price.
"""

from __future__ import annotations

import calendar
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    each,
    levels,
    moment,
    number,
    optional,
    side_of,
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected

_SPOT: Final = frozenset({"IFXXXP"})
_PERPETUAL: Final = frozenset({"FFWCSX", "FFWCSF"})
_FUTURE: Final = frozenset({"FFCCSX", "FFICSX", "FFSCSX"})
_SETTLED: Final = {"XBt": "BTC", "USDt": "USDT", "BMEx": "BMEX", "Gwei": "ETH"}
_MONTHS: Final = "FGHJKMNQUVXZ"
_DATED: Final = re.compile(r"([A-Z]{2,6}?)(EUR)?([FGHJKMNQUVXZ])(\d{2})")


def read_instrument(entry: Any) -> Instrument | None:
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


def instrument_named(name: str) -> Instrument | None:
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


_QUIET: Final = frozenset({"funding", "insurance", "settlement", "announcement", "connected"})
_UNREAD: Final = frozenset({"chat", "publicNotifications"})
_BINS: Final = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}


class BitmexParser(ExchangeParser):
    """Read quotes, trades, books, bins, instruments and liquidations."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._prices: dict[tuple[str, str], dict[int, float]] = {}
        self._worth: dict[str, float] = {}

    def renew(self) -> None:
        """Clear the books and the prices of their levels."""
        super().renew()
        self._prices.clear()

    def read(self, frame: Frame) -> Parsed:
        """Read a frame; `pong` is plain text."""
        return HEARTBEAT if frame.payload.strip() in (b"pong", b"ping") else super().read(frame)

    def unlisted(self, name: str) -> Instrument | None:
        """Return the future that a name describes."""
        return instrument_named(name)

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame by its table."""
        if isinstance(value, list):
            return STATUS if frame.url is not None else rejected(Reason.UNKNOWN, "a list")
        if "error" in value:
            return rejected(Reason.REFUSED, str(value["error"]))
        if "info" in value:
            return STATUS
        if "success" in value or "subscribe" in value:
            return ACKNOWLEDGED
        table, rows, action = value.get("table", ""), value.get("data"), value.get("action", "insert")
        if table in _QUIET:
            return STATUS
        if table in _UNREAD:
            return rejected(Reason.OTHER_CHANNEL)
        if table and rows == []:
            return STATUS
        if table == "quote":
            return each(rows, lambda row: self._quote(row, received))
        if table == "trade":
            return each(rows, lambda row: self._trade(row, received))
        if table in ("orderBookL2", "orderBookL2_25"):
            return self._book(table, action, rows, received)
        if table == "orderBook10":
            return each(rows, lambda row: self._whole(row, received))
        if table.startswith(("tradeBin", "quoteBin")):
            if table.startswith("quoteBin"):
                return rejected(Reason.OTHER_CHANNEL)
            length = table.removeprefix("tradeBin")
            return each(rows, lambda row: self._candle(length, row, received))
        if table == "instrument":
            return each(rows, lambda row: self._instrument(row, received))
        if table == "liquidation":
            return each(rows, lambda row: self._liquidation(action, row, received))
        return rejected(Reason.UNKNOWN, f"table {table!r}")

    def sized(self, name: str) -> Instrument:
        """Return the instrument of a name with what one contract is worth by the newest trade."""
        found = self.instrument(name)
        worth = self._worth.get(found.symbol)
        if worth is None:
            return found
        return Instrument(
            *(found.id, found.symbol, found.base, found.quote, found.kind, found.settle),
            contract_size=worth,
        )

    def _quote(self, row: Any, received: datetime) -> Found:
        yield self.state.quote(
            self.sized(row["symbol"]),
            *(optional(row.get("bidPrice")), optional(row.get("askPrice"))),
            *(optional(row.get("bidSize")), optional(row.get("askSize"))),
            moment(row["timestamp"]),
            received,
            "quote",
        )

    def _trade(self, row: Any, received: datetime) -> Found:
        found, contracts, base = self.instrument(row["symbol"]), number(row["size"]), row.get("homeNotional")
        if base and contracts and not found.inverse:
            self._worth[found.symbol] = number(base) / contracts
        yield from self.state.trade(
            self.sized(row["symbol"]),
            number(row["price"]),
            contracts,
            moment(row["timestamp"]),
            received,
            side=side_of(row["side"]),
            trade_id=row.get("trdMatchID"),
        )

    def _book(self, table: str, action: str, rows: Any, received: datetime) -> Parsed:
        by_name: dict[str, list[Any]] = {}
        for row in rows:
            by_name.setdefault(row["symbol"], []).append(row)
        return each(by_name, lambda name: self._levels(table, action, name, by_name[name], received))

    def _levels(self, table: str, action: str, name: str, rows: Any, received: datetime) -> Found:
        instrument = self.sized(name)
        book = self.state.order_book(table, instrument)
        prices = self._prices.setdefault((table, instrument.symbol), {})
        stamp = rows[-1].get("timestamp")
        at = moment(stamp) if stamp else received
        if action == "partial":
            prices.clear()
        elif not book.is_synced:
            yield Reason.BOOK_UNSYNCED
            return
        bids: list[tuple[float, float]] = []
        asks: list[tuple[float, float]] = []
        for row in rows:
            price = number(row["price"]) if "price" in row else prices.get(row["id"])
            if price is None:
                book.unsync()
                yield Gap(instrument.symbol, row["id"], row["id"])
                yield Reason.BOOK_UNSYNCED
                return
            prices[row["id"]] = price
            if action == "delete":
                del prices[row["id"]]
            side = bids if side_of(row["side"]) == "buy" else asks
            side.append((price, 0.0 if action == "delete" else number(row["size"])))
        give = self.state.book_snapshot if action == "partial" else self.state.book_change
        yield from give(table, instrument, bids, asks, at, received)

    def _whole(self, row: Any, received: datetime) -> Found:
        instrument, at = self.sized(row["symbol"]), moment(row["timestamp"])
        bids, asks = levels(row["bids"]), levels(row["asks"])
        yield from self.state.book_snapshot("orderBook10", instrument, bids, asks, at, received)

    def _candle(self, length: str, row: Any, received: datetime) -> Found:
        if row.get("open") is None:
            yield Reason.NO_PRICE
            return
        instrument = self.sized(row["symbol"])
        prices = number(row["open"]), number(row["high"]), number(row["low"]), number(row["close"])
        base = optional(row.get("homeNotional"))
        if base is None:
            base = (
                instrument.base_size(number(row.get("volume")), number(row.get("vwap")) or prices[3]) or 0.0
            )
        opened = moment(row["timestamp"]) - _BINS[length]
        yield self.state.candle(instrument, length, opened, prices, base, received)

    def _instrument(self, row: Any, received: datetime) -> Found:
        name = row["symbol"]
        if name.startswith("."):
            yield Reason.OTHER_INSTRUMENT
            return
        if "typ" in row:
            found = read_instrument(row)
            if found is None:
                yield Reason.OTHER_INSTRUMENT
                return
            self.instruments.add([found])
        instrument, at = self.sized(name), moment(row["timestamp"]) if row.get("timestamp") else received
        due, mark, last = row.get("fundingTimestamp"), optional(row.get("markPrice")), row.get("lastPrice")
        contracts, interest = optional(row.get("openInterest")), None
        if contracts is not None:
            interest = instrument.base_size(contracts, mark or optional(last) or 0.0)
        figures = {
            "mark_price": mark,
            "index_price": optional(row.get("indicativeSettlePrice")),
            "last_price": optional(last),
            "funding_rate": signed(row.get("fundingRate")),
            "next_funding_time": moment(due) if due else None,
            "open_interest": interest,
        }
        known = any(value is not None for value in figures.values())
        if instrument.kind != "spot" and known:
            yield self.state.derivative(instrument, at, received, **figures)
        if last is not None:
            change = signed(row.get("lastChangePcnt"))
            yield self.state.ticker(
                instrument,
                *(number(last), at, received, optional(row.get("homeNotional24h"))),
                None if change is None else change * 100,
            )
        elif not known:
            yield Reason.STATUS

    def _liquidation(self, action: str, row: Any, received: datetime) -> Found:
        if action not in ("insert", "partial"):
            yield Reason.STATUS
            return
        yield self.state.liquidation(
            self.sized(row["symbol"]),
            number(row["price"]),
            number(row["leavesQty"]),
            side_of(row["side"]),
            received,
            received,
            row.get("orderID"),
        )
