"""Connect to Bybit: spot, linear and inverse contracts, options.

Source: "Bybit API v5" (https://bybit-exchange.github.io/docs/v5/ws/connect, .../v5/market/instrument): one
address per category, at most 10 topics in a subscription of spot, `{"op":"ping"}` every 20 s, 500
connections in 5 minutes. Options are subscribed by base coin for trades and by name otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import httpx
import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, TradesRequest, register_adapter
from coinstream.feeds.exchanges.bybit import instruments as names
from coinstream.feeds.exchanges.bybit.v2 import BybitParser
from coinstream.feeds.exchanges.connections import Connection, Heartbeat, Limits, plan_connections, redirected
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Gap

_TOPICS_PER_REQUEST: Final = 10
_RECENT: Final = {"spot": "60", "linear": "1000", "inverse": "1000", "option": "1000"}
"""Most trades of one reply."""
_CHANNELS: Final = {
    "level1": ("orderbook.1", "orderbook.1", "tickers"),
    "price": ("tickers", "tickers", "tickers"),
    "trade": ("publicTrade", "publicTrade", "publicTrade"),
    "book": ("orderbook.50", "orderbook.50", "orderbook.25"),
    "ohlcv": ("kline.1", "kline.1", ""),
    "derivativeticker": ("", "tickers", "tickers"),
    "liquidation": ("", "allLiquidation", ""),
}
"""Topics of each message type: of spot, of linear and inverse contracts, of options."""


@register_adapter
class BybitAdapter(ExchangeAdapter):
    """Bybit's websocket v5, and the older protocols of recordings."""

    exchange = "bybit"
    hosts: ClassVar[tuple[str, ...]] = ("bybit.com", "bytick.com", "bybit.eu", "bybit.nl")
    channels = (
        Channel("orderbook", ("level1", "book"), "documentation"),
        Channel("tickers", ("level1", "price", "derivativeticker"), "documentation"),
        Channel("publicTrade", ("trade", "price"), "documentation"),
        Channel("kline", ("ohlcv",), "documentation"),
        Channel("allLiquidation", ("liquidation",), "documentation"),
        Channel("orderBookL2_25", ("level1", "book"), "recording"),
        Channel("trade", ("trade", "price"), "recording"),
        Channel("instrument_info", ("price", "derivativeticker"), "documentation"),
    )
    limits = Limits(symbols_per_connection=150, symbols_per_request=50, requests_per_second=5)
    heartbeat = Heartbeat(b'{"op":"ping"}', 20.0)
    instruments_urls = tuple(
        f"https://api.bybit.com/v5/market/instruments-info?category={query}"
        for query in (
            *("spot", "linear&limit=1000", "inverse&limit=1000"),
            *("option&baseCoin=BTC&limit=1000", "option&baseCoin=ETH&limit=1000"),
        )
    )
    parser_class = BybitParser

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of `/v5/market/instruments-info` or `/v2/public/symbols`."""
        result = reply["result"]
        entries = result if isinstance(result, list) else result["list"]
        category = result.get("category", "") if isinstance(result, dict) else ""
        address = url if "category=" in url else f"{url}?category={category}"
        return (names.read_instrument(address, entry) for entry in entries)

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        url = redirected("https://api.bybit.com/v5/market/time", self.rest)
        return await server_time_ms(http, url, "time")

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        category, _, name = instrument.id.partition(".")
        url = redirected("https://api.bybit.com/v5/market/recent-trade", self.rest)
        return TradesRequest(url, {"category": category, "symbol": name, "limit": _RECENT[category]})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        result = reply["result"]
        rows = [
            {
                **{"i": row["execId"], "s": row["symbol"], "p": row["price"], "v": row["size"]},
                **{"S": row["side"], "T": int(row["time"])},
                **({} if result["category"] == "spot" else {"L": ""}),
            }
            for row in reversed(result["list"])
        ]
        return [{"topic": f"publicTrade.{instrument.id.partition('.')[2]}", "type": "snapshot", "data": rows}]

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """Return the connections of each category that the instruments need."""
        found = []
        for category in names.CATEGORIES:
            some = [item for item in instruments if item.id.startswith(f"{category}.")]
            url = redirected(f"wss://stream.bybit.com/v5/public/{category}", self.ws)
            found += plan_connections(url, some, self.limits, lambda batch: _requests(batch, types))
        return found


def _requests(batch: Sequence[Instrument], types: frozenset[str]) -> list[bytes]:
    topics: dict[str, None] = {}
    for instrument in batch:
        category, _, name = instrument.id.partition(".")
        column = {"spot": 0, "option": 2}.get(category, 1)
        for kind, channels in _CHANNELS.items():
            channel = channels[column] if kind in types else ""
            if channel == "publicTrade" and category == "option":
                topics[f"publicTrade.{instrument.base}"] = None
            elif channel:
                topics[f"{channel}.{name}"] = None
    some = list(topics)
    return [
        msgspec.json.encode({"op": "subscribe", "args": some[begin : begin + _TOPICS_PER_REQUEST]})
        for begin in range(0, len(some), _TOPICS_PER_REQUEST)
    ]
