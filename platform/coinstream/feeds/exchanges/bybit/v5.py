"""Parse Bybit's websocket v5.

Source: "Bybit API v5" (https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook, .../ticker,
.../trade, .../kline, .../all-liquidation):

- One connection carries one category (spot, linear, inverse, option); given by the URL. Without an
  address, only derivatives' trades have the tick direction `L` and only their tickers a best bid.
- Sizes and volumes of inverse contracts are dollars, their turnover is base currency.
- A ticker of a derivative is a snapshot and then only what changed.
- `u` of a book rises; 1 says that the service was restarted and that the frame is a snapshot.
- The side of a liquidation is that of the position: `Buy` means that a long position was sold.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from coinstream.feeds.exchanges.bybit import instruments as names
from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    UnknownSymbolError,
    ascending,
    each,
    levels,
    moment,
    number,
    optional,
    parsed,
    side_of,
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Parsed, from_ms, rejected

_TIMEFRAMES: Final = {"D": "1d", "W": "1w", "M": "1M"}
_DERIVATIVES: Final = ("linear", "inverse", "option")
_CONTROL: Final = frozenset({"subscribe", "unsubscribe", "auth", "COMMAND_RESP"})


class BybitV5Parser(ExchangeParser):
    """Read books, tickers, trades, candles and liquidations of v5."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.category = ""
        self._categories: tuple[str, ...] = names.CATEGORIES
        self._resolved: dict[tuple[tuple[str, ...], str], Instrument] = {}
        self._tickers: dict[str, dict[str, Any]] = {}

    def opened(self, url: str) -> None:
        """Set the category of the connection."""
        self.category = names.category_of(url)

    def renew(self) -> None:
        """Clear the books and partial tickers."""
        super().renew()
        self._tickers.clear()

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame by its topic."""
        topic = value.get("topic")
        if not topic:
            return self._control(value, frame, received)
        kind, _, rest = topic.partition(".")
        channel, data = f"{kind}.{rest.rpartition('.')[0]}", value.get("data")
        if kind == "orderbook":
            return parsed(self._book(channel, data, value, received))
        if kind == "tickers":
            return parsed(self._ticker(data, value, received))
        if kind == "publicTrade":
            rows = ascending(data, lambda row: row["T"])
            return each(rows, lambda row: self._trade(row, received))
        if kind == "kline":
            instrument = self.named(rest.rpartition(".")[2])
            return each(data, lambda row: self._candle(instrument, row, received))
        if kind in ("liquidation", "allLiquidation"):
            rows = data if isinstance(data, list) else [data]
            return each(rows, lambda row: self._liquidation(row, received))
        known = kind.startswith(("kline_lt", "tickers_lt", "lt", "adl", "priceLimit", "system", "insurance"))
        return rejected(Reason.OTHER_CHANNEL if known else Reason.UNKNOWN, f"topic {topic!r}")

    def named(self, name: str) -> Instrument:
        """Return the instrument of a name in the category of this connection.

        Raises:
            UnknownSymbolError: no category has it, or several have it.
        """
        categories = (self.category,) if self.category else self._categories
        resolved = self._resolved.get((categories, name))
        if resolved is not None:
            return resolved
        found = names.candidates(self.instruments, name, categories)
        if len(found) == 1:
            self._resolved[categories, name] = found[0]
            return found[0]
        if not found:
            where = self.category or "any category"
            raise UnknownSymbolError(f"{name!r} is not in the instruments of {where} of {self.exchange}")
        meant = ", ".join(instrument.symbol for instrument in found)
        raise UnknownSymbolError(
            f"{name!r} may be {meant} of {self.exchange}; the address of the session is missing"
        )

    def _infer(self, *, is_spot: bool) -> None:
        """Note what only spot or only derivatives send, for sessions without an address."""
        self._categories = ("spot",) if is_spot else _DERIVATIVES

    def _control(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        if value.get("op") in ("ping", "pong") or value.get("ret_msg") == "pong":
            return HEARTBEAT
        if value.get("success") is not None:
            refused = rejected(Reason.REFUSED, str(value.get("ret_msg", value)))
            return ACKNOWLEDGED if value["success"] else refused
        if value.get("retCode"):
            return rejected(Reason.REFUSED, str(value.get("retMsg", value)))
        if value.get("type") in _CONTROL or value.get("op") in _CONTROL:
            return ACKNOWLEDGED
        if frame.url is not None and "/orderbook" in frame.url:
            return parsed(self._book("rest", value["result"], {"type": "snapshot"}, received))
        return STATUS if frame.url is not None else rejected(Reason.UNKNOWN, "neither topic nor reply")

    def _book(self, channel: str, data: Any, value: Any, received: datetime) -> Found:
        instrument, number_ = self.named(data["s"]), data.get("u")
        stamp = value.get("cts") or value.get("ts") or data.get("ts")
        at = moment(stamp) if stamp else received
        bids, asks = levels(data.get("b", ())), levels(data.get("a", ()))
        book = self.state.order_book(channel, instrument)
        whole = value.get("type") == "snapshot" or number_ == 1
        if channel == "orderbook.1":
            if not whole and not book.is_synced:
                yield Reason.BOOK_UNSYNCED
                return
            if whole:
                book.replace(bids, asks)
            else:
                book.apply(bids, asks)
            bid, ask, bid_size, ask_size = book.top
            yield self.state.quote(instrument, bid, ask, bid_size, ask_size, at, received, channel)
        elif whole:
            book.unsync()
            sequence = -1 if number_ is None else number_
            yield from self.state.book_snapshot(
                channel, instrument, bids, asks, at, received, sequence=sequence
            )
        elif not book.is_synced:
            yield Reason.BOOK_UNSYNCED
        elif number_ is not None and number_ == book.sequence:
            yield Reason.DUPLICATE
        else:
            yield from self.state.book_change(channel, instrument, bids, asks, at, received, last=number_)

    def _ticker(self, data: Any, value: Any, received: datetime) -> Found:
        name = data["symbol"]
        if {"bid1Price", "fundingRate", "bidPrice", "markPrice"} & data.keys():
            self._infer(is_spot=False)
        elif value.get("type") == "snapshot":
            self._infer(is_spot=True)
        before = self._tickers.get(name)
        if value.get("type") == "delta":
            if before is None:
                yield Reason.INCOMPLETE
                return
            before.update(data)
        else:
            self._tickers[name] = before = dict(data)
        instrument = self.named(name)
        at = from_ms(value["ts"]) if value.get("ts") else received
        if instrument.kind != "spot":
            bid, ask = before.get("bid1Price", before.get("bidPrice")), before.get("ask1Price")
            ask = before.get("askPrice") if ask is None else ask
            sizes = before.get("bid1Size", before.get("bidSize")), before.get("ask1Size")
            ask_size = before.get("askSize") if sizes[1] is None else sizes[1]
            yield self.state.quote(
                instrument,
                *(optional(bid), optional(ask), optional(sizes[0]), optional(ask_size)),
                *(at, received, "tickers"),
            )
            yield self._figures(instrument, before, at, received)
        if "lastPrice" in data:
            volume = before.get("turnover24h" if instrument.inverse else "volume24h")
            change = signed(before.get("price24hPcnt", before.get("change24h")))
            yield self.state.ticker(
                instrument,
                *(optional(before["lastPrice"]), at, received, optional(volume)),
                None if change is None else change * 100,
            )

    def _figures(self, instrument: Instrument, told: Any, at: datetime, received: datetime) -> Any:
        mark, due = optional(told.get("markPrice")), told.get("nextFundingTime")
        interest = optional(told.get("openInterest"))
        if interest is not None:
            interest = instrument.base_size(interest, mark or optional(told.get("lastPrice")) or 0.0)
        return self.state.derivative(
            instrument,
            at,
            received,
            mark_price=mark,
            index_price=optional(told.get("indexPrice")) or None,
            last_price=optional(told.get("lastPrice")) or None,
            funding_rate=signed(told.get("fundingRate")),
            next_funding_time=moment(due) if due and due != "0" else None,
            open_interest=interest,
        )

    def _trade(self, row: Any, received: datetime) -> Found:
        name = row["s"]
        self._infer(is_spot="L" not in row and "-" not in name)
        yield from self.state.trade(
            self.named(name),
            number(row["p"]),
            number(row["v"]),
            moment(row["T"]),
            received,
            side=side_of(row["S"]),
            trade_id=row.get("i"),
        )

    def _candle(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        prices = number(row["open"]), number(row["high"]), number(row["low"]), number(row["close"])
        volume = number(row["turnover" if instrument.inverse else "volume"])
        opened = moment(row["start"])
        yield self.state.candle(instrument, timeframe(row["interval"]), opened, prices, volume, received)

    def _liquidation(self, row: Any, received: datetime) -> Found:
        name = row.get("s") or row["symbol"]
        self._infer(is_spot=False)
        position = side_of(row.get("S") or row["side"])
        yield self.state.liquidation(
            self.named(name),
            number(row.get("p") or row["price"]),
            number(row.get("v") or row.get("size") or row["qty"]),
            "sell" if position == "buy" else "buy",
            moment(row.get("T") or row.get("updatedTime") or row["time"]),
            received,
        )


def timeframe(interval: str) -> str:
    """Return the timeframe of an interval: minutes, or `D`, `W`, `M`.

    Raises:
        ValueError: it is none of these.
    """
    if interval in _TIMEFRAMES:
        return _TIMEFRAMES[interval]
    minutes = int(interval)
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"
