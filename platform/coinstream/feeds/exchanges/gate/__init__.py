"""Connect to Gate: spot, perpetual contracts and futures.

Source: "Gate API v4" (https://www.gate.com/docs/developers/apiv4/en/): one address for spot and one per
settlement currency for contracts; a request carries its time; the server pings on the protocol's level.
Whole books of 20 levels are subscribed, which need no snapshot over REST.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import httpx
import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, TradesRequest, register_adapter
from coinstream.feeds.exchanges.connections import Connection, Limits, plan_connections, redirected
from coinstream.feeds.exchanges.gate import instruments as names
from coinstream.feeds.exchanges.gate.futures import GateParser
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Gap

_SHARED: Final = {"level1": "book_ticker", "price": "tickers", "trade": "trades"}
"""Channels that take a list of names."""
_FUTURES: Final = {"derivativeticker": "tickers", "liquidation": "public_liquidates"}


@register_adapter
class GateAdapter(ExchangeAdapter):
    """Gate's websocket v4 of all markets."""

    exchange = "gate"
    hosts: ClassVar[tuple[str, ...]] = ("gate.io", "gate.com", "gateio.ws", "gateio.live")
    channels = (
        Channel("spot.tickers", ("price",), "recording"),
        Channel("spot.trades", ("trade", "price"), "recording"),
        Channel("spot.order_book_update", ("level1", "book"), "recording"),
        Channel("spot.candlesticks", ("ohlcv",), "recording"),
        Channel("spot.book_ticker", ("level1",), "documentation"),
        Channel("spot.order_book", ("level1", "book"), "documentation"),
        Channel("futures.book_ticker", ("level1",), "recording"),
        Channel("futures.candlesticks", ("ohlcv",), "recording"),
        Channel("futures.order_book_update", ("level1", "book"), "recording"),
        Channel("futures.trades", ("trade", "price"), "documentation"),
        Channel("futures.tickers", ("price", "derivativeticker"), "documentation"),
        Channel("futures.order_book", ("level1", "book"), "documentation"),
        Channel("futures.public_liquidates", ("liquidation",), "documentation"),
    )
    limits = Limits(symbols_per_connection=100, symbols_per_request=50, requests_per_second=10)
    instruments_urls = (
        "https://api.gateio.ws/api/v4/spot/currency_pairs",
        "https://api.gateio.ws/api/v4/futures/usdt/contracts",
        "https://api.gateio.ws/api/v4/futures/btc/contracts",
        "https://api.gateio.ws/api/v4/delivery/usdt/contracts",
    )
    parser_class = GateParser

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of a list of pairs or contracts."""
        return (names.read_instrument(url, entry) for entry in reply)

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        url = redirected("https://api.gateio.ws/api/v4/spot/time", self.rest)
        return await server_time_ms(http, url, "server_time")

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        market, _, name = instrument.id.partition(".")
        if market == "spot":
            url, params = "https://api.gateio.ws/api/v4/spot/trades", {"currency_pair": name}
        else:
            line = "delivery" if instrument.kind == "future" else "futures"
            url = f"https://api.gateio.ws/api/v4/{line}/{instrument.settle.lower()}/trades"
            params = {"contract": name}
        return TradesRequest(redirected(url, self.rest), params | {"limit": "1000"})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        channel = f"{instrument.id.partition('.')[0]}.trades"
        rows = sorted(reply, key=lambda row: int(row["id"]))
        results = rows if instrument.kind == "spot" else [rows]
        return [{"channel": channel, "event": "update", "result": result} for result in results]

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """Return the connections of each address that the instruments need."""
        by_url: dict[str, list[Instrument]] = {}
        for instrument in instruments:
            by_url.setdefault(_address(instrument), []).append(instrument)
        found = []
        for url, some in by_url.items():
            target = redirected(url, self.ws)
            found += plan_connections(target, some, self.limits, lambda batch: _requests(batch, types))
        return found


def _address(instrument: Instrument) -> str:
    if instrument.kind == "spot":
        return "wss://api.gateio.ws/ws/v4/"
    line = "delivery/" if instrument.kind == "future" else ""
    return f"wss://fx-ws.gateio.ws/v4/ws/{line}{instrument.settle.lower()}"


def _requests(batch: Sequence[Instrument], types: frozenset[str]) -> list[bytes]:
    market = batch[0].id.partition(".")[0]
    ids = [instrument.id.partition(".")[2] for instrument in batch]
    kinds = {**_SHARED, **(_FUTURES if market == "futures" else {})}
    channels = dict.fromkeys(channel for kind, channel in kinds.items() if kind in types)
    wanted: list[tuple[str, list[str]]] = [(channel, ids) for channel in channels]
    if "book" in types:
        interval = "100ms" if market == "spot" else "0"
        wanted += [("order_book", [name, "20", interval]) for name in ids]
    if "ohlcv" in types:
        wanted += [("candlesticks", ["1m", name]) for name in ids]
    now = int(time.time())
    return [
        msgspec.json.encode(
            {"time": now, "channel": f"{market}.{channel}", "event": "subscribe", "payload": payload}
        )
        for channel, payload in wanted
    ]
