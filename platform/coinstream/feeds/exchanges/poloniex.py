"""Connect to Poloniex: websocket of the spot platform since 2022, and the array protocol before it.

Source: "Poloniex Spot API", <https://api-docs.poloniex.com/spot/websocket/market-data>, and "Legacy API",
<https://docs.legacy.poloniex.com/#websocket-api>, as of 2026-02; checked against a session of 2022-08-21.

- `book_lv2` sends a snapshot of 20 levels, then changes in which `lastId` is the `id` of the previous one. A
  level beyond the 20 gets no removal. Each frame of `book` contains the complete book.
- Numbers are text. `quantity` is in base currency, `amount` in quote currency. `takerSide` is in lower case
  on the websocket and in upper case over REST.
- The array protocol names markets quote first (`USDT_BTC`) and by a number that an `i` entry, or the name at
  the end of the frame, resolves. Its frames are numbered by one per market.
- The client sends `ping` within 30 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

import httpx
import msgspec

from coinstream.feeds.exchanges.base import (
    RENEW,
    Channel,
    ExchangeAdapter,
    Subscriptions,
    TradesRequest,
    register_adapter,
)
from coinstream.feeds.exchanges.connections import Heartbeat, Limits, redirected
from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    ascending,
    each,
    levels,
    moment,
    number,
    optional,
    optional_side,
    signed,
)
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected

WS: Final = "wss://ws.poloniex.com/ws/public"
REST: Final = "https://api.poloniex.com"
DEPTH: Final = 20
_UNITS: Final = {"minute": "m", "hour": "h", "day": "d", "week": "w", "month": "M"}
_HEARTBEAT: Final = 1010
_MARKETS_FROM: Final = 1000
"""Numbers of the array protocol from here on are channels of the whole exchange."""


class PoloniexParser(ExchangeParser):
    """Parser of Poloniex's frames: books, trades, tickers, candles."""

    def __init__(
        self, exchange: str, instruments: InstrumentList, types: frozenset[str] | None = None
    ) -> None:
        super().__init__(exchange, instruments, types)
        self._names: dict[int, str] = {}

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return STATUS
        if isinstance(value, list):
            return self._array(value, received)
        event = value.get("event")
        if event == "pong":
            return HEARTBEAT
        if event == "error":
            return rejected(Reason.REFUSED, str(value.get("message"))[:200])
        if event:
            return ACKNOWLEDGED
        channel, data = value["channel"], value["data"]
        match channel:
            case "trades":
                rows = ascending(data[::-1], lambda row: (row["ts"], int(row["id"])))
                return each(rows, lambda row: self._trade(row, received))
            case "book_lv2":
                begins = value["action"] == "snapshot"
                return each(data, lambda row: self._chained(row, begins, received))
            case "book":
                return each(data, lambda row: self._whole(row, received))
            case "ticker":
                return each(data, lambda row: self._ticker(row, received))
        if channel.startswith("candles_"):
            unit, _, count = channel.removeprefix("candles_").partition("_")
            return each(data, lambda row: self._candle(count + _UNITS[unit], row, received))
        return rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: `BTC_USDT`, `BTC_USDT_PERP`."""
        parts = name.split("_")
        if len(parts) == 3 and parts[2] == "PERP" and all(parts):
            return derivative(name, parts[0], parts[1], parts[1])
        return spot(name, *parts) if len(parts) == 2 and all(parts) else None

    def _trade(self, row: Any, received: datetime) -> Found:
        return self.state.trade(
            self.instrument(row["symbol"]),
            number(row["price"]),
            number(row["quantity"]),
            moment(row["createTime"]),
            received,
            side=optional_side(row["takerSide"]),
            trade_id=row["id"],
        )

    def _chained(self, row: Any, begins: bool, received: datetime) -> Found:
        instrument, last, at = self.instrument(row["symbol"]), int(row["id"]), moment(row["ts"])
        sides = levels(row["bids"]), levels(row["asks"])
        if begins:
            return self.state.book_snapshot(
                "book_lv2", instrument, *sides, at, received, sequence=last, depth=DEPTH
            )
        first = int(row["lastId"]) + 1
        return self.state.book_change("book_lv2", instrument, *sides, at, received, first=first, last=last)

    def _whole(self, row: Any, received: datetime) -> Found:
        sides = levels(row["bids"]), levels(row["asks"])
        instrument, at = self.instrument(row["symbol"]), moment(row["ts"])
        return self.state.book_snapshot("book", instrument, *sides, at, received)

    def _ticker(self, row: Any, received: datetime) -> Found:
        change, volume = signed(row.get("dailyChange")), optional(row.get("quantity"))
        yield self.state.ticker(
            self.instrument(row["symbol"]),
            number(row["close"]),
            moment(row["ts"]),
            received,
            volume,
            None if change is None else change * 100,
        )

    def _candle(self, timeframe: str, row: Any, received: datetime) -> Found:
        prices = (number(row["open"]), number(row["high"]), number(row["low"]), number(row["close"]))
        instrument, opened = self.instrument(row["symbol"]), moment(row["startTime"])
        yield self.state.candle(instrument, timeframe, opened, prices, number(row["quantity"]), received)

    # The array protocol

    def _array(self, value: Any, received: datetime) -> Parsed:
        channel = int(value[0])
        if channel == _HEARTBEAT:
            return HEARTBEAT
        if channel >= _MARKETS_FROM or len(value) < 3:
            return STATUS if channel >= _MARKETS_FROM else ACKNOWLEDGED
        count, events = int(value[1]), value[2]
        if len(value) > 3:
            self._names[channel] = value[3]
        for event in events:
            if event[0] == "i":
                self._names[channel] = event[1]["currencyPair"]
        name = self._names.get(channel)
        if name is None:
            return rejected(Reason.INCOMPLETE, f"market {channel} was not named")
        quote, _, base = name.partition("_")
        instrument = self.instrument(f"{base}_{quote}")
        changes = [event for event in events if event[0] == "o"]
        others = [event for event in events if event[0] != "o"]
        begins = any(event[0] == "i" for event in others)
        # Frames without changes have numbers too, so each frame updates the sequence of the book.
        entries = others if begins else [("o", changes), *others]
        return each(entries, lambda event: self._event(instrument, event, count, received))

    def _event(self, instrument: Instrument, event: Any, count: int, received: datetime) -> Found:
        if event[0] == "i":
            asks, bids = event[1]["orderBook"]
            sides = levels(bids.items()), levels(asks.items())
            return self.state.book_snapshot("array", instrument, *sides, received, received, sequence=count)
        if event[0] == "o":
            bids, asks = (
                [(number(row[2]), number(row[3])) for row in event[1] if row[1] == side] for side in (1, 0)
            )
            return self.state.book_change(
                "array", instrument, bids, asks, received, received, first=count, last=count
            )
        if event[0] != "t":
            return (Reason.UNKNOWN,)
        _, identity, side, price, size, at = event[:6]
        return self.state.trade(
            instrument,
            number(price),
            number(size),
            moment(event[6] if len(event) > 6 else at),
            received,
            side="buy" if side == 1 else "sell",
            trade_id=identity,
        )


@register_adapter
class PoloniexAdapter(ExchangeAdapter):
    """Adapter of Poloniex: spot markets."""

    exchange = "poloniex"
    hosts: ClassVar[tuple[str, ...]] = ("poloniex.com",)
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("book_lv2", ("level1", "book"), "recording"),
        Channel("book", ("level1", "book"), "documentation"),
        Channel("trades", ("trade", "price"), "recording"),
        Channel("ticker", ("price",), "documentation"),
        Channel("candles_minute_1", ("ohlcv",), "documentation"),
        Channel("array protocol", ("level1", "book", "trade", "price"), "recording"),
    )
    limits = Limits(symbols_per_connection=200, symbols_per_request=200, requests_per_second=10.0)
    instruments_urls: ClassVar[tuple[str, ...]] = (f"{REST}/markets",)
    heartbeat = Heartbeat(b'{"event":"ping"}', 20.0)
    parser_class = PoloniexParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {
        "trades": ("trade",),
        "book_lv2": ("level1", "book"),
        "ticker": ("price",),
        "candles_minute_1": ("ohlcv",),
    }

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        url = redirected(f"{REST}/markets/{instrument.id}/trades", self.rest)
        return TradesRequest(url, {"limit": "1000"})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        rows = sorted(reply, key=lambda row: int(row["id"]))
        return [{"channel": "trades", "data": [{"symbol": instrument.id, **row} for row in rows]}]

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        symbols = [instrument.id for instrument in instruments]
        return [
            msgspec.json.encode({"event": "subscribe", "channel": [name], "symbols": symbols})
            for name in channels
        ]

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return the requests that make the exchange resend the book of a symbol."""
        fields = {"channel": ["book_lv2"], "symbols": [instrument.id]}
        return tuple(msgspec.json.encode({"event": event, **fields}) for event in RENEW)

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        return await server_time_ms(http, redirected(f"{REST}/timestamp", self.rest), "serverTime")

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the markets of `markets`."""
        for row in reply:
            active = row.get("state") == "NORMAL"
            yield spot(row["symbol"], row["baseCurrencyName"], row["quoteCurrencyName"], active=active)
