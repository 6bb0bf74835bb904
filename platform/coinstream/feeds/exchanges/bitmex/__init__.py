"""Connect to BitMEX.

Source: "BitMEX API: WebSocket" (https://www.bitmex.com/app/wsAPI): one address, `ping` as plain text, 720
subscriptions per hour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
from coinstream.feeds.exchanges.bitmex.parser import BitmexParser, read_instrument
from coinstream.feeds.exchanges.connections import Heartbeat, Limits, redirected
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Gap

_BOOK: Final = "orderBookL2_25"


@register_adapter
class BitmexAdapter(ExchangeAdapter):
    """BitMEX's realtime websocket."""

    exchange = "bitmex"
    hosts: ClassVar[tuple[str, ...]] = ("bitmex.com",)
    channels = (
        Channel("quote", ("level1",), "recording"),
        Channel("trade", ("trade", "price"), "recording"),
        Channel("orderBookL2", ("level1", "book"), "recording"),
        Channel("orderBookL2_25", ("level1", "book"), "documentation"),
        Channel("orderBook10", ("level1", "book"), "documentation"),
        Channel("tradeBin1m", ("ohlcv",), "documentation"),
        Channel("instrument", ("price", "derivativeticker"), "documentation"),
        Channel("liquidation", ("liquidation",), "documentation"),
    )
    limits = Limits(symbols_per_connection=60, symbols_per_request=10, requests_per_second=1)
    heartbeat = Heartbeat(b"ping", 20.0)
    instruments_urls = ("https://www.bitmex.com/api/v1/instrument/active",)
    parser_class = BitmexParser
    address = "wss://ws.bitmex.com/realtime"
    subscriptions: ClassVar[Subscriptions] = {
        "quote": ("level1",),
        "instrument": ("price", "derivativeticker"),
        "trade": ("trade",),
        _BOOK: ("book",),
        "tradeBin1m": ("ohlcv",),
        "liquidation": ("liquidation",),
    }

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of `/api/v1/instrument/active`."""
        return (read_instrument(entry) for entry in reply)

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        url = redirected("https://www.bitmex.com/api/v1", self.rest)
        return await server_time_ms(http, url, "timestamp")

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        if gap.since is None:
            return None
        params = {"symbol": instrument.id, "count": "1000", "startTime": gap.since.isoformat()}
        url = redirected("https://www.bitmex.com/api/v1/trade", self.rest)
        return TradesRequest(url, params)

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        rows = sorted(reply, key=lambda row: str(row["timestamp"]))
        return [{"table": "trade", "action": "insert", "data": rows}]

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return the requests that make the exchange resend the book of a symbol."""
        arguments = [f"{_BOOK}:{instrument.id}"]
        return tuple(msgspec.json.encode({"op": op, "args": arguments}) for op in RENEW)

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        arguments = [f"{table}:{instrument.id}" for table in channels for instrument in instruments]
        return [msgspec.json.encode({"op": "subscribe", "args": arguments})]
