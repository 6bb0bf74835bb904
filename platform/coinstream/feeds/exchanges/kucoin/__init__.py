"""Connect to KuCoin: spot and contracts.

Source: "KuCoin API: WebSocket" (https://www.kucoin.com/docs-new/websocket-api/base-info/introduction): a
public token per market over REST, at most 100 topics in one subscription and 400 on one connection, 100
messages in 10 s, `ping` every 18 s. Whole books of 50 levels are subscribed: no snapshot is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, ClassVar, Final

import httpx
import msgspec

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, TradesRequest, register_adapter
from coinstream.feeds.exchanges.connections import Connection, Heartbeat, Limits, plan_connections, redirected
from coinstream.feeds.exchanges.kucoin.futures import KucoinParser
from coinstream.feeds.exchanges.kucoin.spot import read_instrument
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Gap

_REST: Final = {"spot": "https://api.kucoin.com", "futures": "https://api-futures.kucoin.com"}
_SOCKETS: Final = {"spot": "wss://ws-api-spot.kucoin.com", "futures": "wss://ws-api-futures.kucoin.com"}
_TOPICS: Final = {
    "spot": {
        "level1": "/spotMarket/level1:{}",
        "price": "/market/snapshot:{}",
        "trade": "/market/match:{}",
        "book": "/spotMarket/level2Depth50:{}",
        "ohlcv": "/market/candles:{}_1min",
    },
    "futures": {
        "level1": "/contractMarket/tickerV2:{}",
        "price": "/contractMarket/ticker:{}",
        "trade": "/contractMarket/execution:{}",
        "book": "/contractMarket/level2Depth50:{}",
        "ohlcv": "/contractMarket/limitCandle:{}_1min",
        "derivativeticker": "/contract/instrument:{}",
    },
}


@register_adapter
class KucoinAdapter(ExchangeAdapter):
    """KuCoin's websockets of spot and contracts."""

    exchange = "kucoin"
    hosts: ClassVar[tuple[str, ...]] = ("kucoin.com",)
    channels = (
        Channel("/market/ticker", ("level1", "price"), "recording"),
        Channel("/market/level2", ("level1", "book"), "recording"),
        Channel("/market/match", ("trade", "price"), "recording"),
        Channel("/market/candles", ("ohlcv",), "recording"),
        Channel("/market/snapshot", ("price",), "documentation"),
        Channel("/spotMarket/level1", ("level1",), "documentation"),
        Channel("/spotMarket/level2Depth50", ("level1", "book"), "documentation"),
        Channel("/contractMarket/tickerV2", ("level1",), "documentation"),
        Channel("/contractMarket/ticker", ("level1", "price"), "documentation"),
        Channel("/contractMarket/level2", ("level1", "book"), "documentation"),
        Channel("/contractMarket/level2Depth50", ("level1", "book"), "documentation"),
        Channel("/contractMarket/execution", ("trade", "price"), "documentation"),
        Channel("/contractMarket/limitCandle", ("ohlcv",), "documentation"),
        Channel("/contract/instrument", ("derivativeticker",), "documentation"),
    )
    limits = Limits(symbols_per_connection=60, symbols_per_request=60, requests_per_second=5)
    heartbeat = Heartbeat(b'{"id":"ping","type":"ping"}', 18.0)
    instruments_urls = (f"{_REST['spot']}/api/v1/symbols", f"{_REST['futures']}/api/v1/contracts/active")

    def __init__(self, ws: str | None = None, rest: str | None = None) -> None:
        super().__init__(ws, rest)
        self._sockets = dict(_SOCKETS)

    parser_class = KucoinParser

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of a list of pairs or contracts."""
        return (read_instrument(entry) for entry in reply["data"])

    async def prepare(self, http: httpx.AsyncClient) -> None:
        """Fetch a public token and the address for each market.

        Raises:
            FeedError: the exchange returns no token.
        """
        for market, rest in _REST.items():
            url = redirected(f"{rest}/api/v1/bullet-public", self.rest)
            reply = await http.post(url)
            reply.raise_for_status()
            try:
                data = msgspec.json.decode(reply.content)["data"]
                endpoint, token = data["instanceServers"][0]["endpoint"], data["token"]
            except (msgspec.DecodeError, KeyError, IndexError, TypeError) as error:
                raise FeedError(f"kucoin: no token at {url}: {error}") from error
            self._sockets[market] = f"{endpoint}?token={token}&connectId=coinstream"

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        if instrument.kind == "spot":
            url = f"{_REST['spot']}/api/v1/market/histories"
        else:
            url = f"{_REST['futures']}/api/v1/trade/history"
        return TradesRequest(redirected(url, self.rest), {"symbol": instrument.id})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        topic = _TOPICS["spot" if instrument.kind == "spot" else "futures"]["trade"].format(instrument.id)
        subject = "trade.l3match" if instrument.kind == "spot" else "match"
        for row in sorted(reply["data"], key=lambda row: int(row["sequence"])):
            data = {"symbol": instrument.id, **row}
            yield {"type": "message", "topic": topic, "subject": subject, "data": data}

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        url = redirected("https://api.kucoin.com/api/v1/timestamp", self.rest)
        return await server_time_ms(http, url, "data")

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """Return the connections of each market; `prepare` fetches their tokens first."""
        found = []
        for market, topics in _TOPICS.items():
            some = [item for item in instruments if (item.kind == "spot") == (market == "spot")]
            wanted = [topic for kind, topic in topics.items() if kind in types]
            url = redirected(self._sockets[market], self.ws)
            found += plan_connections(url, some, self.limits, partial(_requests, wanted))
        return found


def _requests(topics: Sequence[str], batch: Sequence[Instrument]) -> list[bytes]:
    found = []
    for topic in topics:
        prefix, _, suffix = topic.partition(":{}")
        names_ = ",".join(f"{instrument.id}{suffix}" for instrument in batch)
        request = {"id": "1", "type": "subscribe", "topic": f"{prefix}:{names_}", "response": True}
        found.append(msgspec.json.encode(request))
    return found
