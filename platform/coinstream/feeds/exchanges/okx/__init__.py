"""Connect to OKX and OKCoin.

Source: "OKX API v5" (https://www.okx.com/docs-v5/en/, sections "Overview", "Public Data" and "Order Book
Trading"): 3 requests per second and 480 subscriptions per hour on one connection, `ping` at
least every 30 s, candles on the `business` address, all other public channels on `public`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import httpx
import msgspec

from coinstream.feeds.exchanges.base import RENEW, Channel, ExchangeAdapter, TradesRequest, register_adapter
from coinstream.feeds.exchanges.connections import Connection, Heartbeat, Limits, plan_connections, redirected
from coinstream.feeds.exchanges.okx import instruments as names
from coinstream.feeds.exchanges.okx.v3 import OkxParser
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Gap

_CHANNELS: Final = {
    "level1": ("bbo-tbt",),
    "price": ("tickers",),
    "trade": ("trades",),
    "book": ("books",),
    "derivativeticker": ("mark-price", "funding-rate", "open-interest"),
}
_KINDS: Final = {"swap": "SWAP", "future": "FUTURES", "option": "OPTION"}


@register_adapter
class OkxAdapter(ExchangeAdapter):
    """OKX: spot, perpetual contracts, futures and options."""

    exchange = "okx"
    hosts: ClassVar[tuple[str, ...]] = ("okx.com", "okex.com", "okx-aws.com", "aws.okex.com")
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("bbo-tbt", ("level1",), "documentation"),
        Channel("tickers", ("level1", "price", "derivativeticker"), "recording"),
        Channel("trades", ("trade", "price"), "recording"),
        Channel("books", ("level1", "book"), "recording"),
        Channel("candle1m", ("ohlcv",), "documentation"),
        Channel("mark-price", ("derivativeticker",), "documentation"),
        Channel("funding-rate", ("derivativeticker",), "documentation"),
        Channel("open-interest", ("derivativeticker",), "documentation"),
        Channel("index-tickers", ("derivativeticker",), "documentation"),
        Channel("liquidation-orders", ("liquidation",), "documentation"),
    )
    limits = Limits(symbols_per_connection=100, symbols_per_request=25, requests_per_second=2.5)
    heartbeat = Heartbeat(b"ping", 20.0)
    instruments_urls: ClassVar[tuple[str, ...]] = tuple(
        f"https://www.okx.com/api/v5/public/instruments?instType={kind}"
        for kind in ("SPOT", "SWAP", "FUTURES", "OPTION&uly=BTC-USD", "OPTION&uly=ETH-USD")
    )
    address: ClassVar[str] = "wss://ws.okx.com:8443/ws/v5"
    parser_class = OkxParser

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of a reply of `/api/v5/public/instruments`."""
        return (names.read_instrument(entry) for entry in reply["data"])

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        url = redirected("https://www.okx.com/api/v5/public/time", self.rest)
        return await server_time_ms(http, url, "data", 0, "ts")

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return the requests that make the exchange resend the book of a symbol."""
        arguments = [{"channel": "books", "instId": instrument.id}]
        return tuple(msgspec.json.encode({"op": op, "args": arguments}) for op in RENEW)

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        url = redirected("https://www.okx.com/api/v5/market/history-trades", self.rest)
        params = {"instId": instrument.id, "type": "1", "limit": "100", "after": str(gap.last + 1)}
        return TradesRequest(url, params)

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        rows = sorted(reply["data"], key=lambda row: int(row["tradeId"]))
        return [{"arg": {"channel": "trades", "instId": instrument.id}, "data": rows}]

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """Return connections to the public and, for candles, to the business address."""
        channels = [name for kind, some in _CHANNELS.items() if kind in types for name in some]
        found = plan_connections(
            redirected(f"{self.address}/public", self.ws),
            instruments,
            self.limits,
            lambda batch: _requests(batch, channels, "liquidation" in types),
        )
        if "ohlcv" in types:
            url = redirected(f"{self.address}/business", self.ws)
            found += plan_connections(
                url, instruments, self.limits, lambda batch: _requests(batch, ["candle1m"], False)
            )
        return found


def _requests(batch: Sequence[Instrument], channels: Sequence[str], liquidations: bool) -> list[bytes]:
    arguments: list[dict[str, Any]] = [
        {"channel": channel, "instId": instrument.id}
        for instrument in batch
        for channel in channels
        if _has(channel, instrument)
    ]
    if "mark-price" in channels:
        underlyings = {
            "-".join(instrument.id.split("-")[:2]): None for instrument in batch if instrument.kind != "spot"
        }
        arguments += [{"channel": "index-tickers", "instId": name} for name in underlyings]
    if liquidations:
        kinds = {_KINDS[instrument.kind]: None for instrument in batch if instrument.kind in _KINDS}
        arguments += [{"channel": "liquidation-orders", "instType": kind} for kind in kinds]
    return [msgspec.json.encode({"op": "subscribe", "args": arguments})] if arguments else []


def _has(channel: str, instrument: Instrument) -> bool:
    if channel == "funding-rate":
        return instrument.kind == "swap"
    return instrument.kind != "spot" or channel not in ("mark-price", "open-interest")


@register_adapter
class OkcoinAdapter(OkxAdapter):
    """OKCoin: spot markets in dollars and euro over the same protocol."""

    exchange = "okcoin"
    hosts = ("okcoin.com", "okcoin.com.hk")
    channels = tuple(
        channel._replace(evidence="documentation")
        for channel in OkxAdapter.channels
        if set(channel.types) - {"derivativeticker", "liquidation"}
    )
    instruments_urls = ("https://www.okcoin.com/api/v5/public/instruments?instType=SPOT",)
    address = "wss://real.okcoin.com:8443/ws/v5"
