"""Connect to Kraken spot: websocket v2 live, v1 and v2 from recordings, order books over REST.

Source: "Spot WebSocket v1", "Spot WebSocket v2" and "Book checksum" (https://docs.kraken.com/api/, read
2026-11-26):

- v1 frames are `[channel id, payload..., channel name, pair]`. A book starts with `as` and `bs` and changes
  with `a`, `b` or both as two objects. v2 frames are objects with `channel`, `type` and `data`.
- A level beyond the subscribed depth gets no removal: the client cuts the book to its depth.
- The checksum is the CRC-32 of the best ten asks and bids as text, without point and leading zeros.
- v2 trade ids grow by one per symbol. A ticker of v1 has no time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
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
from coinstream.feeds.exchanges.connections import Heartbeat, Limits
from coinstream.feeds.exchanges.kraken.parser import KrakenParser
from coinstream.feeds.instruments import Instrument, spot
from coinstream.feeds.parser import Gap

WS: Final = "wss://ws.kraken.com"
REST: Final = "https://api.kraken.com"
BOOK_DEPTH: Final = 25
_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "ticker": {"event_trigger": "bbo"},
    "trade": {"snapshot": False},
    "book": {"depth": BOOK_DEPTH},
    "ohlc": {"interval": 1},
}
_FIAT: Final = frozenset({"ZUSD", "ZEUR", "ZGBP", "ZCAD", "ZJPY", "ZAUD"})
_SIDES: Final = {"b": "buy", "s": "sell"}


@register_adapter
class KrakenAdapter(ExchangeAdapter):
    """Kraken spot."""

    exchange = "kraken"
    hosts = ("kraken.com",)
    channels = (
        Channel("ticker", ("level1", "price"), "recording"),
        Channel("trade", ("trade", "price"), "recording"),
        Channel("book", ("level1", "book"), "recording"),
        Channel("spread", ("level1",), "documentation"),
        Channel("ohlc", ("ohlcv",), "documentation"),
    )
    limits = Limits(symbols_per_connection=200, symbols_per_request=50, requests_per_second=4.0)
    heartbeat = Heartbeat(b'{"method":"ping"}', 30.0)
    instruments_urls = (f"{REST}/0/public/AssetPairs",)
    parser_class = KrakenParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {
        "ticker": ("level1", "price"),
        "trade": ("trade",),
        "book": ("book",),
        "ohlc": ("ohlcv",),
    }

    def url(self) -> str:
        """Return the URL of v2 below `ws`, which may have a path."""
        return f"{self.ws or WS}/v2"

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        return [_request("subscribe", channel, instruments) for channel in channels]

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return the requests that make the exchange resend the book of a symbol."""
        return _request("unsubscribe", "book", [instrument]), _request("subscribe", "book", [instrument])

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the markets of `AssetPairs`, under each of their three names."""
        return (market for key, pair in reply["result"].items() for market in _markets(key, pair))

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        url = f"{self.rest or REST}/0/public/Trades"
        # REST has neither the names of the websocket nor the suffix of dark pools.
        pair = instrument.id.removesuffix(".d").replace("/", "")
        params = {"pair": pair, "count": "1000"}
        if gap.since is not None:
            params["since"] = str(int(gap.since.timestamp() * 1_000_000_000) - 1)
        return TradesRequest(url, params)

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        (rows,) = (rows for name, rows in reply["result"].items() if name != "last")
        trades = [
            {
                **{"symbol": instrument.symbol, "price": float(row[0]), "qty": float(row[1])},
                **{"side": _SIDES[row[3]], "trade_id": row[6]},
                "timestamp": datetime.fromtimestamp(row[2], UTC),
            }
            for row in rows
        ]
        return ({"channel": "trade", "type": "update", "data": [trade]} for trade in trades)

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """Ask for the server time, which is in whole seconds: take the middle of the second."""
        reply = (await http.get(f"{self.rest or REST}/0/public/Time")).raise_for_status()
        told = float(msgspec.json.decode(reply.content)["result"]["unixtime"])
        return told * 1000 + (500 if told.is_integer() else 0)


def _request(method: str, channel: str, instruments: Sequence[Instrument]) -> bytes:
    # v2 names markets by their unified symbols.
    symbols = [instrument.symbol for instrument in instruments]
    params = {"channel": channel, **_PARAMETERS[channel], "symbol": symbols}
    return msgspec.json.encode({"method": method, "params": params})


def _markets(key: str, pair: dict[str, Any]) -> list[Instrument]:
    active = pair.get("status", "online") == "online"
    base, slash, quote = str(pair.get("wsname") or "").partition("/")
    if not slash:
        base, quote = _plain(pair["base"]), _plain(pair["quote"])
    names = dict.fromkeys([key, pair["altname"], f"{base}/{quote}"])
    return [spot(name, base, quote, active=active) for name in names]


def _plain(asset: str) -> str:
    """Return the common name of an asset: old ones have a leading X, currencies of states a Z."""
    return asset[1:] if asset in _FIAT or (len(asset) == 4 and asset[0] == "X") else asset
