"""Connect to Binance: spot, Binance.US, Binance TR, USD-M and COIN-M futures, and European options.

Source: "Web Socket Streams for Binance", "USDS-M Futures", "COIN-M Futures" and "European Options"
(https://developers.binance.com/docs, read 2026-11-26):

- A spot bookTicker has no event time; `u` is the update id of the book and grows per symbol.
- Trade ids and aggregate trade ids grow by one per symbol and stream, so a jump is a loss.
- A depth event covers the update ids `U` to `u`. On spot, `U` follows the `u` before; on futures, `pu` is
  the `u` before. A book starts from the REST snapshot, whose `lastUpdateId` is the last id it holds.
- COIN-M counts sizes in contracts of a fixed number of dollars.
- A connection carries at most 1,024 streams and takes 5 requests per second.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal

import httpx
import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, TradesRequest, register_adapter
from coinstream.feeds.exchanges.binance.parser import BinanceParser
from coinstream.feeds.exchanges.connections import Connection, Limits, in_batches
from coinstream.feeds.exchanges.rest import fetch_frame
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot
from coinstream.feeds.parser import Frame, Gap

MAX_RECOVERED: Final = 1000
"""Trades fetched to fill one gap; the newest ones of a larger gap."""
_STREAMS_PER_REQUEST: Final = 100
_STREAMS: Final = {
    "level1": ("bookTicker",),
    "price": ("aggTrade",),
    "trade": ("aggTrade",),
    "ohlcv": ("kline_1m",),
    "book": ("depth@100ms",),
    "derivativeticker": ("markPrice@1s",),
    "liquidation": ("forceOrder",),
}
_SPOT: Final = (
    Channel("bookTicker", ("level1",), "recording"),
    Channel("trade", ("trade", "price"), "recording"),
    Channel("aggTrade", ("trade", "price"), "recording"),
    Channel("kline_1m", ("ohlcv",), "recording"),
    Channel("depth@100ms", ("book",), "recording"),
    Channel("24hrTicker", ("price",), "documentation"),
    Channel("!miniTicker@arr", ("price",), "documentation"),
)
_FUTURES: Final = (
    *_SPOT,
    Channel("markPrice@1s", ("derivativeticker",), "documentation"),
    Channel("forceOrder", ("liquidation",), "documentation"),
)


class _Adapter(ExchangeAdapter):
    """Base of the segments' adapters."""

    limits = Limits(symbols_per_connection=200, symbols_per_request=50, requests_per_second=4.0)
    types: ClassVar[frozenset[str]] = frozenset({"level1", "price", "trade", "ohlcv", "book"})
    settle: ClassVar[Literal["", "quote", "base"]] = ""
    rest_address: ClassVar[str]
    path: ClassVar[str] = "/api/v3"

    @property
    def _api(self) -> str:
        return f"{self.rest or self.rest_address}{self.path}"

    def parser(self, instruments: InstrumentList, types: frozenset[str] | None = None) -> BinanceParser:
        """See `ExchangeAdapter.parser`."""
        return BinanceParser(self.exchange, instruments, types, settle=self.settle)

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """Return connections that subscribe by request; frames without an envelope cost less to read."""
        kinds = list(dict.fromkeys(k for name, some in _STREAMS.items() if name in types for k in some))
        found, number = [], 0
        for chunk in in_batches(instruments, self.limits.symbols_per_connection):
            streams = [f"{one.id.lower()}@{kind}" for one in chunk for kind in kinds]
            requests = []
            for begin in range(0, len(streams), _STREAMS_PER_REQUEST):
                number += 1
                params = streams[begin : begin + _STREAMS_PER_REQUEST]
                request = {"method": "SUBSCRIBE", "params": params, "id": number}
                requests.append(msgspec.json.encode(request))
            symbols = tuple(one.symbol for one in chunk)
            found.append(Connection(f"{self.ws or self.address}/ws", tuple(requests), symbols))
        return found

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of a reply of `exchangeInfo`."""
        return (self.instrument(entry) for entry in reply["symbols"])

    def instrument(self, entry: Any) -> Instrument:
        """Return the instrument of an entry of `exchangeInfo`."""
        active = entry.get("status", entry.get("contractStatus")) == "TRADING"
        return spot(entry["symbol"], entry["baseAsset"], entry["quoteAsset"], active=active)

    async def snapshot(self, http: httpx.AsyncClient, instrument: Instrument) -> Frame | None:
        """Fetch the book of a symbol."""
        return await fetch_frame(http, f"{self._api}/depth", {"symbol": instrument.id, "limit": "1000"})

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        first = max(gap.first, gap.last - MAX_RECOVERED + 1)
        params = {"symbol": instrument.id, "fromId": str(first), "limit": str(gap.last - first + 1)}
        return TradesRequest(f"{self._api}/aggTrades", params) if gap.first >= 0 else None

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        for row in reply:
            whole = {key: int(row[key]) for key in ("a", "f", "l", "T")}
            if gap.first <= whole["a"] <= gap.last:
                yield {"e": "aggTrade", "E": whole["T"], "s": instrument.id, **row, **whole}

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """Ask for the server time."""
        reply = (await http.get(f"{self._api}/time")).raise_for_status()
        return float(msgspec.json.decode(reply.content)["serverTime"])


class _Spot(_Adapter):
    channels = _SPOT

    @classmethod
    def is_foreign(cls, payload: bytes) -> bool:
        """Return whether only a futures stream sends such a frame."""
        return b'"e":"bookTicker"' in payload or b'"pu":' in payload or b'"ps":' in payload


@register_adapter
class BinanceAdapter(_Spot):
    """Binance spot."""

    exchange = "binance"
    hosts = ("binance.com", "binance.vision")
    instruments_urls = ("https://api.binance.com/api/v3/exchangeInfo",)
    address = "wss://stream.binance.com:9443"
    rest_address = "https://api.binance.com"


@register_adapter
class BinanceUsAdapter(_Spot):
    """Binance.US."""

    exchange = "binanceus"
    hosts = ("binance.us",)
    instruments_urls = ("https://api.binance.us/api/v3/exchangeInfo",)
    address = "wss://stream.binance.us:9443"
    rest_address = "https://api.binance.us"


@register_adapter
class BinanceTrAdapter(_Spot):
    """Binance TR."""

    exchange = "binancetr"
    hosts = ("trbinance.com", "binance.tr", "binance.me")
    instruments_urls = ("https://api.binance.me/api/v3/exchangeInfo",)
    address = "wss://stream-cloud.trbinance.com"
    rest_address = "https://api.binance.me"


class _Futures(_Adapter):
    channels: ClassVar[tuple[Channel, ...]] = _FUTURES
    types = _Adapter.types | {"derivativeticker", "liquidation"}

    def instrument(self, entry: Any) -> Instrument:
        """Return the perpetual contract or dated future of an entry; COIN-M contracts are inverse."""
        name, is_inverse = entry["symbol"], self.settle == "base"
        return derivative(
            *(name, entry["baseAsset"], entry["quoteAsset"], entry["marginAsset"]),
            expiry=_expiry(name),
            contract_size=float(entry["contractSize"]) if is_inverse else 1.0,
            inverse=is_inverse,
            active=entry.get("contractStatus" if is_inverse else "status") == "TRADING",
        )


@register_adapter
class BinanceUsdMAdapter(_Futures):
    """Binance USD-M futures."""

    exchange = "binanceusdm"
    hosts: ClassVar[tuple[str, ...]] = ("fstream.binance.com", "fapi.binance.com", "fstream-auth.binance.com")
    instruments_urls = ("https://fapi.binance.com/fapi/v1/exchangeInfo",)
    address = "wss://fstream.binance.com"
    rest_address = "https://fapi.binance.com"
    path = "/fapi/v1"
    settle = "quote"

    @classmethod
    def is_foreign(cls, payload: bytes) -> bool:
        """Return whether only a spot or a COIN-M stream sends such a frame."""
        is_spot_quote = b'"u":' in payload and b'"B":' in payload and b'"e":' not in payload
        return b'"ps":' in payload or b'"M":' in payload or is_spot_quote


@register_adapter
class BinanceCoinMAdapter(_Futures):
    """Binance COIN-M futures."""

    exchange = "binancecoinm"
    hosts = ("dstream.binance.com", "dapi.binance.com", "dstream-auth.binance.com")
    instruments_urls = ("https://dapi.binance.com/dapi/v1/exchangeInfo",)
    address = "wss://dstream.binance.com"
    rest_address = "https://dapi.binance.com"
    path = "/dapi/v1"
    settle = "base"

    @classmethod
    def is_foreign(cls, payload: bytes) -> bool:
        """Return whether only a spot or a USD-M stream sends such a frame."""
        is_quote = b'"B":' in payload and b'"A":' in payload and b'"u":' in payload
        return b'"M":' in payload or (is_quote and b'"ps":' not in payload)


@register_adapter
class BinanceOptionsAdapter(_Adapter):
    """Binance European options."""

    exchange = "binanceoptions"
    hosts = ("nbstream.binance.com", "vstream.binance.com", "eapi.binance.com")
    channels = (
        Channel("bookTicker", ("level1",), "documentation"),
        Channel("optionTrade", ("trade", "price"), "documentation"),
    )
    instruments_urls = ("https://eapi.binance.com/eapi/v1/exchangeInfo",)
    address = "wss://nbstream.binance.com/eoptions"
    rest_address = "https://eapi.binance.com"
    path = "/eapi/v1"
    settle = "quote"

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the options of a reply of `exchangeInfo`."""
        parser = self.parser(InstrumentList())
        return (parser.unlisted(entry["symbol"]) for entry in reply["optionSymbols"])

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        return None  # options have no aggregate trades

    @classmethod
    def is_foreign(cls, payload: bytes) -> bool:
        """Return whether a frame names no option."""
        return b'-C"' not in payload and b'-P"' not in payload and b'"s":' in payload


def _expiry(name: str) -> datetime | None:
    date = name.partition("_")[2]
    return datetime.strptime(date, "%y%m%d").replace(tzinfo=UTC) if date.isdigit() else None
