"""What the direct path must know of an exchange beyond its parser: addresses, requests, recovery."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

import httpx
import msgspec

from coinstream.errors import FeedError
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers import Gap, Parser
from coinstream.feeds.parsers.base import from_ms, trade_price
from coinstream.feeds.protocols import new_parser
from coinstream.messages import Message

MOST_RECOVERED: Final = 1000
"""Trades fetched to fill one hole; the newest ones of a larger hole."""
_MOST_STREAMS: Final = 100
_encode = msgspec.json.Encoder().encode


class Dialect(Protocol):
    """An exchange of the direct path."""

    exchange: str

    @property
    def ws_url(self) -> str:
        """Where to connect."""
        ...

    def parser(self) -> Parser:
        """For all connections of a feed."""
        ...

    def subscribe(self, symbols: Sequence[str]) -> Iterator[bytes]:
        """The requests that subscribe to symbols."""
        ...

    def unsubscribe(self, symbols: Sequence[str]) -> Iterator[bytes]:
        """The requests that end it."""
        ...

    async def recover(self, http: httpx.AsyncClient, gap: Gap) -> list[Message]:
        """What a hole in one symbol's stream has swallowed, by REST; empty when there is no way."""
        ...

    async def is_listed(self, http: httpx.AsyncClient, symbol: str) -> bool:
        """Whether the exchange still has the symbol."""
        ...

    async def clock_ms(self, http: httpx.AsyncClient) -> float:
        """The exchange's clock."""
        ...


class BinanceDialect:
    """Binance spot: bookTicker to Level1; aggTrade to Price, where asked for."""

    exchange = "binance"

    def __init__(self, types: Sequence[str], ws: str | None = None, rest: str | None = None) -> None:
        self._kinds = [
            kind for name, kind in (("level1", "bookTicker"), ("price", "aggTrade")) if name in types
        ]
        self._ws = (ws or "wss://stream.binance.com:9443").rstrip("/")
        self._rest = (rest or "https://api.binance.com").rstrip("/")
        self._id = 0

    @property
    def ws_url(self) -> str:
        """See `Dialect.ws_url`: frames without an envelope cost less to read."""
        return f"{self._ws}/ws"

    def parser(self) -> Parser:
        """See `Dialect.parser`."""
        return new_parser(self.exchange, types=frozenset({"level1", "price"}))

    def subscribe(self, symbols: Sequence[str]) -> Iterator[bytes]:
        """See `Dialect.subscribe`."""
        return self._requests("SUBSCRIBE", symbols)

    def unsubscribe(self, symbols: Sequence[str]) -> Iterator[bytes]:
        """See `Dialect.unsubscribe`."""
        return self._requests("UNSUBSCRIBE", symbols)

    def _requests(self, method: str, symbols: Sequence[str]) -> Iterator[bytes]:
        streams = [f"{_joined(symbol).lower()}@{kind}" for symbol in symbols for kind in self._kinds]
        for begin in range(0, len(streams), _MOST_STREAMS):
            self._id += 1
            params = streams[begin : begin + _MOST_STREAMS]
            yield _encode({"method": method, "params": params, "id": self._id})

    async def recover(self, http: httpx.AsyncClient, gap: Gap) -> list[Message]:
        """See `Dialect.recover`: aggregate trades by their number."""
        first = max(gap.first, gap.last - MOST_RECOVERED + 1)
        query: dict[str, Any] = {
            **{"symbol": _joined(gap.symbol), "fromId": first},
            "limit": gap.last - first + 1,
        }
        trades = await _json(http, f"{self._rest}/api/v3/aggTrades", query)
        found = [
            trade_price(self.exchange, gap.symbol, float(trade["p"]), from_ms(trade["T"]))
            for trade in trades
            if first <= trade["a"] <= gap.last
        ]
        return [message for message in found if not isinstance(message, Reason)]

    async def is_listed(self, http: httpx.AsyncClient, symbol: str) -> bool:
        """See `Dialect.is_listed`."""
        reply = await http.get(f"{self._rest}/api/v3/exchangeInfo", params={"symbol": _joined(symbol)})
        if reply.status_code == httpx.codes.BAD_REQUEST:
            return False
        listed = reply.raise_for_status().json()["symbols"]
        return any(entry.get("status") == "TRADING" for entry in listed)

    async def clock_ms(self, http: httpx.AsyncClient) -> float:
        """See `Dialect.clock_ms`."""
        return float((await _json(http, f"{self._rest}/api/v3/time", {}))["serverTime"])


class KrakenDialect:
    """Kraken v2: the ticker, on every change of the best bid or ask."""

    exchange = "kraken"

    def __init__(self, types: Sequence[str], ws: str | None = None, rest: str | None = None) -> None:
        self._channels = ["ticker"] if {"level1", "price"} & set(types) else []
        self._ws = (ws or "wss://ws.kraken.com").rstrip("/")
        self._rest = (rest or "https://api.kraken.com").rstrip("/")

    @property
    def ws_url(self) -> str:
        """See `Dialect.ws_url`."""
        return f"{self._ws}/v2"

    def parser(self) -> Parser:
        """See `Dialect.parser`."""
        return new_parser(self.exchange, types=frozenset({"level1", "price"}))

    def subscribe(self, symbols: Sequence[str]) -> Iterator[bytes]:
        """See `Dialect.subscribe`."""
        return self._requests("subscribe", symbols)

    def unsubscribe(self, symbols: Sequence[str]) -> Iterator[bytes]:
        """See `Dialect.unsubscribe`."""
        return self._requests("unsubscribe", symbols)

    def _requests(self, method: str, symbols: Sequence[str]) -> Iterator[bytes]:
        for channel in self._channels:
            for begin in range(0, len(symbols), _MOST_STREAMS):
                params: dict[str, Any] = {
                    "channel": channel,
                    "symbol": list(symbols[begin : begin + _MOST_STREAMS]),
                    "event_trigger": "bbo",
                }
                yield _encode({"method": method, "params": params})

    async def recover(self, http: httpx.AsyncClient, gap: Gap) -> list[Message]:
        """See `Dialect.recover`: tickers are not numbered, each one replaces the one before."""
        return []

    async def is_listed(self, http: httpx.AsyncClient, symbol: str) -> bool:
        """See `Dialect.is_listed`."""
        reply = await _json(http, f"{self._rest}/0/public/AssetPairs", {"pair": _joined(symbol)})
        return any(pair.get("status", "online") == "online" for pair in (reply.get("result") or {}).values())

    async def clock_ms(self, http: httpx.AsyncClient) -> float:
        """See `Dialect.clock_ms`: whole seconds, so the middle of the second."""
        told = float((await _json(http, f"{self._rest}/0/public/Time", {}))["result"]["unixtime"])
        return told * 1000 + (500 if told.is_integer() else 0)


DIALECTS: Final[dict[str, Callable[..., Dialect]]] = {"binance": BinanceDialect, "kraken": KrakenDialect}
"""Exchanges of the direct path. Add one with `register_dialect`."""


def register_dialect(exchange: str, make: Callable[..., Dialect]) -> None:
    """Make an exchange known to `source: direct`; `make` is given types and the two addresses, or None.

    Raises:
        ValueError: the exchange has another dialect.
    """
    if DIALECTS.get(exchange, make) is not make:
        raise ValueError(f"exchange {exchange!r} has a dialect already")
    DIALECTS[exchange] = make


def new_dialect(
    exchange: str, types: Sequence[str], ws: str | None = None, rest: str | None = None
) -> Dialect:
    """The dialect of an exchange.

    Raises:
        FeedError: the direct path does not know it.
    """
    make = DIALECTS.get(exchange)
    if make is None:
        raise FeedError(
            f"no direct path to exchange {exchange!r}; known: {', '.join(sorted(DIALECTS))}; use source: ccxt"
        )
    return make(types, ws, rest)


async def clock_ahead_ms(dialect: Dialect, http: httpx.AsyncClient, samples: int = 3) -> float:
    """How far the exchange's clock runs ahead of this machine's: the sample that took the shortest way."""
    best: tuple[float, float] | None = None
    for _ in range(samples):
        before = time.time()
        told = await dialect.clock_ms(http)
        after = time.time()
        sample = (after - before, told - (before + after) / 2 * 1000)
        best = sample if best is None else min(best, sample)
    assert best is not None
    return best[1]


async def _json(http: httpx.AsyncClient, url: str, query: dict[str, Any]) -> Any:
    reply = (await http.get(url, params=query)).raise_for_status()
    return msgspec.json.decode(reply.content)


def _joined(symbol: str) -> str:
    return symbol.replace("/", "")
