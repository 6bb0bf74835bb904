"""Connect to Bitstamp: websocket API v2 and REST order books, spot and perpetual markets.

Source: "WebSocket API v2" and "Public data functions", <https://www.bitstamp.net/websocket/v2/> and
<https://www.bitstamp.net/api/>, as of 2026-06; checked against a session of 2022-01-05.

- Each frame of `order_book_*` and `detail_order_book_*` contains the best 100 levels.
- `diff_order_book_*` changes the book of REST. Changes are ordered by `microtimestamp` and have no numbers.
- The `type` of `live_trades_*` is 0 if the taker buys and 1 if it sells.
- No channel has candles; REST lists them (`ohlc`). Candles built from trades are available instead.
- The exchange may request a new connection (`bts:request_reconnect`) and then closes this one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

import httpx
import msgspec

from coinstream.feeds.exchanges.base import (
    Channel,
    ExchangeAdapter,
    Subscriptions,
    TradesRequest,
    register_adapter,
)
from coinstream.feeds.exchanges.connections import Heartbeat, Limits, redirected
from coinstream.feeds.exchanges.parsing import ExchangeParser, Found, levels, moment, number, parsed
from coinstream.feeds.exchanges.rest import fetch_frame, path_after
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, DEPTH, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected

WS: Final = "wss://ws.bitstamp.net"
REST: Final = "https://www.bitstamp.net"
_ORDERS: Final = frozenset({"order_created", "order_changed", "order_deleted"})
_SIDES: Final[dict[int, Literal["buy", "sell"]]] = {0: "buy", 1: "sell"}
_MICROSECONDS: Final = 1_000_000


class BitstampParser(ExchangeParser):
    """Frames of Bitstamp: books to Level1 and Book, trades to Trade and Price."""

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return self._reply(value, frame.url, received)
        event = value["event"]
        if event in ("data", "trade", "snapshot"):
            return parsed(self._data(event, value["channel"], value["data"], received))
        if event == "bts:heartbeat":
            return HEARTBEAT
        if event in ("bts:subscription_succeeded", "bts:unsubscription_succeeded"):
            return ACKNOWLEDGED
        if event == "bts:request_reconnect":
            return STATUS
        if event == "bts:error":
            return rejected(Reason.REFUSED, str(value.get("data"))[:200])
        if event in _ORDERS:
            return DEPTH
        return rejected(Reason.UNKNOWN, f"event {event!r}")

    def _data(self, event: str, channel: str, data: Any, received: datetime) -> Found:
        kind, _, pair = channel.rpartition("_")
        match kind:
            case "diff_order_book" | "order_book" | "detail_order_book":
                if kind == "diff_order_book" and event == "data":
                    return self._change(self.instrument(pair), data, received)
                name = "diff_order_book" if event == "snapshot" else kind
                return self._snapshot(name, self.instrument(pair), data, received)
            case "live_trades":
                return self._trade(self.instrument(pair), data, received)
            case "live_orders" | "funding_rate":
                return (Reason.DEPTH if kind == "live_orders" else Reason.INCOMPLETE,)
        return (Reason.UNKNOWN,)

    def _trade(self, instrument: Instrument, data: Any, received: datetime) -> Found:
        return self.state.trade(
            instrument,
            number(data.get("price_str") or data["price"]),
            number(data.get("amount_str") or data["amount"]),
            moment(data.get("microtimestamp") or data["timestamp"]),
            received,
            side=_SIDES.get(int(data["type"])),
            trade_id=data["id"],
        )

    def _change(self, instrument: Instrument, data: Any, received: datetime) -> Found:
        at = int(data["microtimestamp"])
        return self.state.book_change(
            "diff_order_book",
            instrument,
            levels(data["bids"]),
            levels(data["asks"]),
            moment(at),
            received,
            last=at,
        )

    def _snapshot(self, channel: str, instrument: Instrument, data: Any, received: datetime) -> Found:
        at = int(data.get("microtimestamp") or int(data["timestamp"]) * _MICROSECONDS)
        return self.state.book_snapshot(
            channel,
            instrument,
            levels(data["bids"]),
            levels(data["asks"]),
            moment(at),
            received,
            sequence=at,
        )

    def _reply(self, value: Any, url: str, received: datetime) -> Parsed:
        pair = path_after(url, "/order_book/")
        if pair and isinstance(value, dict) and "bids" in value:
            return parsed(self._snapshot("diff_order_book", self.instrument(pair), value, received))
        if isinstance(value, dict) and (value.get("error") or value.get("status") == "error"):
            return rejected(Reason.REFUSED, str(value)[:200])
        return STATUS


@register_adapter
class BitstampAdapter(ExchangeAdapter):
    """Bitstamp, spot and perpetual markets."""

    exchange = "bitstamp"
    hosts = ("bitstamp.net",)
    channels = (
        Channel("diff_order_book", ("level1", "book"), "recording"),
        Channel("order_book", ("level1", "book"), "documentation"),
        Channel("live_trades", ("trade", "price"), "recording"),
    )
    limits = Limits(symbols_per_connection=100, symbols_per_request=100, requests_per_second=20.0)
    instruments_paths = ("/api/v2/markets",)
    instruments_urls = (f"{REST}/api/v2/trading-pairs-info/",)
    heartbeat = Heartbeat(b'{"event":"bts:heartbeat"}', 20.0)
    parser_class = BitstampParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {
        "diff_order_book": ("level1", "book"),
        "live_trades": ("trade", "price"),
    }

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        names = [f"{channel}_{each.id}" for channel in channels for each in instruments]
        return [msgspec.json.encode({"event": "bts:subscribe", "data": {"channel": name}}) for name in names]

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the markets of `trading-pairs-info` or of the newer `markets`."""
        for row in reply:
            identity = row.get("url_symbol") or row["market_symbol"]
            base, _, quote = row["name"].partition("/")
            quote = quote.removesuffix("-PERP")
            active = row.get("trading") == "Enabled"
            if identity.endswith("-perp"):
                yield derivative(identity, base, quote, quote, active=active)
            else:
                yield spot(identity, base, quote, active=active)

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        url = redirected(f"{REST}/api/v2/transactions/{instrument.id}/", self.rest)
        return TradesRequest(url, {"time": "hour"})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        for row in sorted(reply, key=lambda row: (int(row["date"]), int(row["tid"]))):
            data = {"id": row["tid"], "timestamp": row["date"], "price": row["price"]}
            data |= {"amount": row["amount"], "type": int(row["type"])}
            yield {"event": "trade", "channel": f"live_trades_{instrument.id}", "data": data}

    async def snapshot(self, http: httpx.AsyncClient, instrument: Instrument) -> Frame | None:
        """Fetch the whole book, which `diff_order_book` changes."""
        return await fetch_frame(http, redirected(f"{REST}/api/v2/order_book/{instrument.id}/", self.rest))
