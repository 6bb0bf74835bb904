"""Connect to dYdX v4: websocket of the indexer, perpetual contracts.

Source: "Indexer WebSockets", <https://docs.dydx.xyz/indexer-client/websockets>, and "How to uncross the
orderbook", <https://docs.dydx.xyz>, as of 2026-06; frames of 2024-08-23.

- `BTC-USD` is the contract quoted and settled in USDC; sizes are in base currency.
- `subscribed` contains the state of a channel, `channel_data` a change, `channel_batch_data` several.
- `message_id` counts the frames of a connection; after a gap its books are out of date.
- Changes may cross a book. The newest level is valid; older levels that it crosses are removed.
- Trades are sent newest first. `type` is `LIQUIDATED` or `DELEVERAGED` if the taker was liquidated.
- The oracle price is used as mark price and index price. `nextFundingRate` is the rate of one hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Final

import httpx
import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, Subscriptions, register_adapter
from coinstream.feeds.exchanges.connections import Limits, redirected
from coinstream.feeds.exchanges.order_book import Levels
from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    ascending,
    each,
    levels,
    moment,
    number,
    optional,
    side_of,
    signed,
)
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative
from coinstream.feeds.parser import ACKNOWLEDGED, STATUS, Frame, Gap, Parsed, rejected

WS: Final = "wss://indexer.dydx.trade/v4/ws"
REST: Final = "https://indexer.dydx.trade"
_QUOTE: Final = "USDC"
_MARKETS: Final = "v4_markets"
_CANDLES: Final = "v4_candles"
_LIQUIDATIONS: Final = frozenset({"LIQUIDATED", "DELEVERAGED"})
_PERIODS: Final = {
    **{"1MIN": "1m", "5MINS": "5m", "15MINS": "15m", "30MINS": "30m", "1HOUR": "1h", "4HOURS": "4h"},
    **{"1DAY": "1d"},
}
_ALL: Final = 100_000


class DydxParser(ExchangeParser):
    """Parser of the indexer's frames: trades, books, candles, markets."""

    def __init__(
        self, exchange: str, instruments: InstrumentList, types: frozenset[str] | None = None
    ) -> None:
        super().__init__(exchange, instruments, types)
        self._connection: tuple[str, int] = ("", -1)

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return STATUS
        gap = self._numbered(value)
        found = self._frame(value, received)
        return found.with_gaps(gap)

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: a ticker such as `BTC-USD` says its market by itself."""
        return _perpetual(name) if name.endswith("-USD") and len(name) > len("-USD") else None

    def _numbered(self, value: Any) -> Gap | None:
        connection, count = value.get("connection_id", ""), value.get("message_id", -1)
        before, self._connection = self._connection, (connection, count)
        if not connection or connection != before[0] or count <= before[1] + 1:
            return None
        self.state.renew()
        return Gap("", before[1] + 1, count - 1)

    def _frame(self, value: Any, received: datetime) -> Parsed:
        kind = value["type"]
        if kind in ("connected", "unsubscribed"):
            return ACKNOWLEDGED
        if kind == "error":
            return rejected(Reason.REFUSED, str(value.get("message"))[:200])
        channel, contents = value["channel"], value["contents"]
        begins = kind == "subscribed"
        changes = contents if isinstance(contents, list) else [contents]
        match channel:
            case "v4_trades":
                instrument = self.instrument(value["id"])
                trades = [row for change in changes for row in change["trades"]]
                # Newest first: reversed before sorting, so that trades of one time keep their order.
                rows = ascending(trades[::-1], lambda row: row["createdAt"])
                return each(rows, lambda row: self._trade(instrument, row, received))
            case "v4_orderbook":
                instrument = self.instrument(value["id"])
                return each(changes, lambda row: self._book(instrument, row, begins, received))
            case "v4_candles":
                rows = [row for change in changes for row in change.get("candles", [change])]
                return each(ascending(rows, lambda row: row["startedAt"]), partial(self._candle, received))
            case "v4_markets":
                entries = [entry for change in changes for entry in _markets(change)]
                return each(entries, lambda entry: self._market(entry[0], entry[1], received))
        return STATUS if channel.startswith("v4_") else rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def _trade(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        price, size = number(row["price"]), number(row["size"])
        at, side = moment(row["createdAt"]), side_of(row["side"])
        identity = row["id"]
        told = list(self.state.trade(instrument, price, size, at, received, side=side, trade_id=identity))
        yield from told
        if row.get("type") in _LIQUIDATIONS and Reason.DUPLICATE not in told:
            yield self.state.liquidation(instrument, price, size, side, at, received, identity)

    def _book(self, instrument: Instrument, row: Any, begins: bool, received: datetime) -> Found:
        bids, asks = levels(row.get("bids") or ()), levels(row.get("asks") or ())
        if begins:
            return self.state.book_snapshot("v4_orderbook", instrument, bids, asks, received, received)
        book = self.state.order_book("v4_orderbook", instrument)
        known_bids, known_asks = book.best(_ALL) if _may_cross(book.top, bids, asks) else ((), ())
        lowest = min((price for price, size in asks if size), default=None)
        highest = max((price for price, size in bids if size), default=None)
        crossed_bids = [(price, 0.0) for price, _ in known_bids if lowest is not None and price >= lowest]
        crossed_asks = [(price, 0.0) for price, _ in known_asks if highest is not None and price <= highest]
        changes: tuple[Levels, Levels] = ([*crossed_bids, *bids], [*crossed_asks, *asks])
        return self.state.book_change("v4_orderbook", instrument, *changes, received, received)

    def _candle(self, received: datetime, row: Any) -> Found:
        prices = (number(row["open"]), number(row["high"]), number(row["low"]), number(row["close"]))
        volume, instrument = number(row["baseTokenVolume"]), self.instrument(row["ticker"])
        timeframe, opened = _PERIODS[row["resolution"]], moment(row["startedAt"])
        yield self.state.candle(instrument, timeframe, opened, prices, volume, received)

    def _market(self, name: str, row: Any, received: datetime) -> Found:
        oracle = optional(row.get("oraclePrice"))
        yield self.state.derivative(
            self.instrument(name),
            moment(row["effectiveAt"]) if "effectiveAt" in row else received,
            received,
            mark_price=oracle,
            index_price=oracle,
            funding_rate=signed(row.get("nextFundingRate")),
            open_interest=optional(row.get("openInterest")),
        )


def _markets(change: Any) -> list[tuple[str, Any]]:
    """Return the markets of a frame: all of them at first, then those that trade or have a new price."""
    return [
        (name, row)
        for key in ("markets", "trading", "oraclePrices")
        for name, row in change.get(key, {}).items()
    ]


def _may_cross(top: tuple[float, float, float, float], bids: Levels, asks: Levels) -> bool:
    bid, ask, *_ = top
    return any(size and price >= ask > 0 for price, size in bids) or any(
        size and price <= bid for price, size in asks
    )


@register_adapter
class DydxAdapter(ExchangeAdapter):
    """Adapter of dYdX v4: perpetual contracts."""

    exchange = "dydx"
    hosts: ClassVar[tuple[str, ...]] = ("dydx.trade", "dydx.exchange")
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("v4_orderbook", ("level1", "book"), "recording"),
        Channel("v4_trades", ("trade", "price", "liquidation"), "recording"),
        Channel("v4_markets", ("derivativeticker",), "recording"),
        Channel("v4_candles", ("ohlcv",), "documentation"),
    )
    limits = Limits(symbols_per_connection=30, symbols_per_request=30, requests_per_second=2.0)
    instruments_urls: ClassVar[tuple[str, ...]] = (f"{REST}/v4/perpetualMarkets",)
    parser_class = DydxParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {
        _MARKETS: ("derivativeticker",),
        "v4_orderbook": ("level1", "book"),
        "v4_trades": ("trade", "price", "liquidation"),
        _CANDLES: ("ohlcv",),
    }

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        wanted = [{"channel": _MARKETS}] if _MARKETS in channels else []
        wanted += [
            {"channel": channel, "id": f"{instrument.id}/1MIN" if channel == _CANDLES else instrument.id}
            for instrument in instruments
            for channel in channels
            if channel != _MARKETS
        ]
        return [msgspec.json.encode({"type": "subscribe", **channel}) for channel in wanted]

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`; the indexer returns seconds."""
        return 1000 * await server_time_ms(http, redirected(f"{REST}/v4/time", self.rest), "epoch")

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the markets of `perpetualMarkets`."""
        for name, row in reply["markets"].items():
            found = _perpetual(row.get("ticker") or name)
            yield msgspec.structs.replace(found, active=row.get("status") == "ACTIVE")


def _perpetual(name: str) -> Instrument:
    base = name.rpartition("-")[0].partition(",")[0]
    return derivative(name, base, _QUOTE, _QUOTE)
