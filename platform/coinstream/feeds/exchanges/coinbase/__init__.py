"""Connect to Coinbase: Advanced Trade, Exchange and International.

Source: "Coinbase Developer Platform" (https://docs.cdp.coinbase.com/): Advanced Trade takes one channel
per request and closes silent connections, which `heartbeats` prevents; the Exchange takes many channels.
International needs a signed subscription, so it is read from recordings only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import httpx
import msgspec

from coinstream.feeds.exchanges.base import (
    Channel,
    ExchangeAdapter,
    Subscriptions,
    TradesRequest,
    register_adapter,
)
from coinstream.feeds.exchanges.coinbase.advanced import CoinbaseParser
from coinstream.feeds.exchanges.coinbase.exchange import read_instrument
from coinstream.feeds.exchanges.coinbase.international import CoinbaseInternationalParser
from coinstream.feeds.exchanges.connections import Limits, redirected
from coinstream.feeds.exchanges.parsing import ExchangeParser
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Gap

_MOST_TRADES: Final = 1000


@register_adapter
class CoinbaseAdapter(ExchangeAdapter):
    """Coinbase Advanced Trade; its parser also reads recordings of the Exchange."""

    exchange = "coinbase"
    hosts: ClassVar[tuple[str, ...]] = ("coinbase.com", "gdax.com")
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("ticker", ("level1", "price"), "recording"),
        Channel("matches", ("trade", "price"), "recording"),
        Channel("level2", ("level1", "book"), "recording"),
        Channel("l2_data", ("level1", "book"), "documentation"),
        Channel("market_trades", ("trade", "price"), "documentation"),
        Channel("candles", ("ohlcv",), "documentation"),
    )
    limits = Limits(symbols_per_connection=60, symbols_per_request=60, requests_per_second=4)
    instruments_urls: ClassVar[tuple[str, ...]] = (
        "https://api.coinbase.com/api/v3/brokerage/market/products",
    )
    parser_class: ClassVar[type[ExchangeParser]] = CoinbaseParser
    address = "wss://advanced-trade-ws.coinbase.com"
    subscriptions: ClassVar[Subscriptions] = {
        "ticker": ("level1", "price"),
        "market_trades": ("trade",),
        "level2": ("book",),
        "candles": ("ohlcv",),
    }

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of a list of products."""
        entries = reply["products"] if isinstance(reply, dict) else reply
        return (read_instrument(entry) for entry in entries)

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        url = redirected("https://api.coinbase.com/api/v3/brokerage/time", self.rest)
        return await server_time_ms(http, url, "epochMillis")

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        path = f"/api/v3/brokerage/market/products/{instrument.id}/ticker"
        params = {"limit": str(_MOST_TRADES)}
        if gap.since is not None and gap.until is not None:
            # Whole seconds around the gap.
            params["start"] = str(int(gap.since.timestamp()))
            params["end"] = str(int(gap.until.timestamp()) + 1)
        return TradesRequest(redirected(f"https://api.coinbase.com{path}", self.rest), params)

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        rows = sorted(reply["trades"], key=lambda row: int(row["trade_id"]))
        events = [{"type": "update", "trades": rows}]
        at = rows[-1]["time"] if rows else ""
        return [{"channel": "market_trades", "timestamp": at, "sequence_num": 0, "events": events}]

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        ids = [instrument.id for instrument in instruments]
        wanted = [{"type": "subscribe", "channel": channel, "product_ids": ids} for channel in channels]
        heartbeats: dict[str, Any] = {"type": "subscribe", "channel": "heartbeats"}
        return [msgspec.json.encode(request) for request in (*wanted, heartbeats)]


@register_adapter
class CoinbaseExchangeAdapter(CoinbaseAdapter):
    """Coinbase Exchange, whose feed numbers its trades by one."""

    exchange = "coinbaseexchange"
    hosts = ()
    channels = tuple(channel for channel in CoinbaseAdapter.channels if channel.evidence == "recording")
    instruments_urls = ("https://api.exchange.coinbase.com/products",)
    address = "wss://ws-feed.exchange.coinbase.com"
    subscriptions: ClassVar[Subscriptions] = {
        "ticker": ("level1", "price"),
        "matches": ("trade",),
        "level2_batch": ("book",),
    }

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        url = redirected("https://api.exchange.coinbase.com/time", self.rest)
        return await server_time_ms(http, url, "epoch") * 1000

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        count = gap.last - gap.first + 1
        if not 0 < count <= _MOST_TRADES:
            return None
        url = redirected(f"https://api.exchange.coinbase.com/products/{instrument.id}/trades", self.rest)
        return TradesRequest(url, {"after": str(gap.last + 1), "limit": str(count)})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        rows = sorted(reply, key=lambda row: int(row["trade_id"]))
        return ({**row, "type": "match", "product_id": instrument.id} for row in rows)

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        ids = [instrument.id for instrument in instruments]
        request = {"type": "subscribe", "product_ids": ids, "channels": [*channels, "heartbeat"]}
        return [msgspec.json.encode(request)]


@register_adapter
class CoinbaseInternationalAdapter(CoinbaseAdapter):
    """Coinbase International: perpetual contracts and spot in USDC."""

    exchange = "coinbaseinternational"
    live = False
    hosts = ("international.coinbase.com",)
    channels = (
        Channel("LEVEL1", ("level1",), "documentation"),
        Channel("LEVEL2", ("level1", "book"), "documentation"),
        Channel("MATCH", ("trade", "price"), "documentation"),
        Channel("FUNDING", ("derivativeticker",), "documentation"),
        Channel("RISK", ("derivativeticker",), "documentation"),
        Channel("CANDLES_ONE_MINUTE", ("ohlcv",), "documentation"),
    )
    instruments_urls = ("https://api.international.coinbase.com/api/v1/instruments",)
    parser_class = CoinbaseInternationalParser
    address = "wss://ws-md.international.coinbase.com"
    subscriptions: ClassVar[Subscriptions] = {
        "LEVEL1": ("level1",),
        "MATCH": ("price", "trade"),
        "LEVEL2": ("book",),
        "CANDLES_ONE_MINUTE": ("ohlcv",),
        "RISK": ("derivativeticker",),
        "FUNDING": ("derivativeticker",),
    }

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        return None

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        ids = [instrument.id for instrument in instruments]
        request = {"type": "SUBSCRIBE", "product_ids": ids, "channels": list(channels)}
        return [msgspec.json.encode(request)]
