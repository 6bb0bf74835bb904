"""Connect to Bitget: spot and futures.

Source: "Bitget API v2" (https://www.bitget.com/api-doc/common/websocket-intro): `ping` every 30 s, at most
10 messages per second, 240 subscriptions per hour and fewer than 50 channels on one connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import httpx
import msgspec

from coinstream.feeds.exchanges.base import RENEW, Channel, ExchangeAdapter, TradesRequest, register_adapter
from coinstream.feeds.exchanges.bitget.parser import BitgetParser, read_instrument
from coinstream.feeds.exchanges.connections import Connection, Heartbeat, Limits, plan_connections, redirected
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Gap

_CHANNELS: Final = {
    "level1": "books1",
    "price": "ticker",
    "trade": "trade",
    "book": "books",
    "ohlcv": "candle1m",
    "derivativeticker": "ticker",
}
_LINES: Final = {"USDT": "USDT-FUTURES", "USDC": "USDC-FUTURES"}


@register_adapter
class BitgetAdapter(ExchangeAdapter):
    """Bitget's websocket v2, and v1 and v3 of recordings."""

    exchange = "bitget"
    hosts: ClassVar[tuple[str, ...]] = ("bitget.com",)
    channels = (
        Channel("books", ("level1", "book"), "recording"),
        Channel("trade", ("trade", "price"), "recording"),
        Channel("ticker", ("level1", "price", "derivativeticker"), "recording"),
        Channel("candle1m", ("ohlcv",), "recording"),
        Channel("books1", ("level1",), "documentation"),
        Channel("liquidation", ("liquidation",), "documentation"),
    )
    limits = Limits(symbols_per_connection=10, symbols_per_request=10, requests_per_second=5)
    heartbeat = Heartbeat(b"ping", 25.0)
    instruments_urls = (
        "https://api.bitget.com/api/v2/spot/public/symbols",
        *(
            f"https://api.bitget.com/api/v2/mix/market/contracts?productType={line}-futures"
            for line in ("usdt", "usdc", "coin")
        ),
    )
    parser_class = BitgetParser

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of a list of spot markets or futures."""
        return (read_instrument(url, entry) for entry in reply["data"])

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        url = redirected("https://api.bitget.com/api/v2/public/time", self.rest)
        return await server_time_ms(http, url, "data", "serverTime")

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        name, line = instrument.id.partition(".")[2], _line(instrument)
        if line == "SPOT":
            url, params = "https://api.bitget.com/api/v2/spot/market/fills", {"symbol": name}
        else:
            url = "https://api.bitget.com/api/v2/mix/market/fills"
            params = {"symbol": name, "productType": line}
        return TradesRequest(redirected(url, self.rest), params | {"limit": "100"})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        arg = {"instType": _line(instrument), "channel": "trade", "instId": instrument.id.partition(".")[2]}
        rows = [{**row, "side": row["side"].lower()} for row in reply["data"]]
        return [{"action": "update", "arg": arg, "data": rows}]

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return the requests that make the exchange resend the book of a symbol."""
        name = instrument.id.partition(".")[2]
        arguments = [{"instType": _line(instrument), "channel": "books", "instId": name}]
        return tuple(msgspec.json.encode({"op": op, "args": arguments}) for op in RENEW)

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """Return connections to v2, and to v3 for liquidations, which come for all contracts."""
        url = redirected("wss://ws.bitget.com/v2/ws/public", self.ws)
        found = plan_connections(url, instruments, self.limits, lambda batch: _requests(batch, types))
        lines = {_line(item).lower(): None for item in instruments if not item.id.startswith("spot.")}
        if "liquidation" in types and lines:
            arguments = [{"instType": line, "topic": "liquidation"} for line in lines]
            request = msgspec.json.encode({"op": "subscribe", "args": arguments})
            symbols = tuple(item.symbol for item in instruments if not item.id.startswith("spot."))
            url = redirected("wss://ws.bitget.com/v3/ws/public", self.ws)
            found.append(Connection(url, (request,), symbols))
        return found


def _line(instrument: Instrument) -> str:
    is_spot = instrument.id.startswith("spot.")
    return "SPOT" if is_spot else _LINES.get(instrument.quote, "COIN-FUTURES")


def _requests(batch: Sequence[Instrument], types: frozenset[str]) -> list[bytes]:
    arguments: dict[tuple[str, str, str], None] = {}
    for instrument in batch:
        market, _, name = instrument.id.partition(".")
        line = _line(instrument)
        for kind, channel in _CHANNELS.items():
            if kind in types and (market != "spot" or kind != "derivativeticker"):
                arguments[line, channel, name] = None
    some = [{"instType": line, "channel": channel, "instId": name} for line, channel, name in arguments]
    return [msgspec.json.encode({"op": "subscribe", "args": some})] if some else []
