"""Serve Binance's spot protocol: market streams and public REST endpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from coinstream.feeds.simulated.market import MINUTE_MS, Candle, Tick
from coinstream.feeds.simulated.venue import Reply, World, encode, fixed, ok

_NO_SUCH_SYMBOL: Final = Reply(400, b'{"code":-1121,"msg":"Invalid symbol."}')
_MAX_LIMIT: Final = 1000


class _Request(msgspec.Struct):
    method: str
    params: list[str] = []
    id: Any = None


_request: Final = msgspec.json.Decoder(_Request)


class BinanceSession:
    """Connection to `/ws` (plain frames) or `/stream` (frames in an envelope)."""

    def __init__(self, world: World, path: str, query: Mapping[str, str]) -> None:
        self._world = world
        self._in_envelope = path.startswith("/stream")
        named = query.get("streams", "") if self._in_envelope else path.removeprefix("/ws").strip("/")
        self._ids = {pair(symbol).lower(): symbol for symbol in world.market.symbols}
        self._streams: dict[str, list[tuple[str, Callable[[Tick], bytes]]]] = {}
        for stream in filter(None, named.split("/")):
            self._subscribe(stream)

    def on_open(self) -> Iterable[bytes]:
        """Return no frames: Binance sends nothing on open."""
        return ()

    def on_message(self, text: bytes) -> Iterable[bytes]:
        """Process SUBSCRIBE, UNSUBSCRIBE and LIST_SUBSCRIPTIONS; an unknown stream gets no data."""
        try:
            request = _request.decode(text)
        except msgspec.DecodeError as error:
            return (encode({"error": {"code": 2, "msg": f"Invalid request: {error}"}, "id": None}),)
        if request.method == "SUBSCRIBE":
            for stream in request.params:
                self._subscribe(stream)
        elif request.method == "UNSUBSCRIBE":
            for stream in request.params:
                self._unsubscribe(stream)
        elif request.method == "LIST_SUBSCRIPTIONS":
            names = [name for streams in self._streams.values() for name, _ in streams]
            return (encode({"result": names, "id": request.id}),)
        return (encode({"result": None, "id": request.id}),)

    def on_tick(self, tick: Tick) -> Iterator[bytes]:
        """See `Session.tell`."""
        for name, write in self._streams.get(tick.symbol, ()):
            if self._in_envelope:
                yield b'{"stream":"%b","data":%b}' % (name.encode(), write(tick))
            else:
                yield write(tick)

    def beat(self) -> Iterable[bytes]:
        """Return no frames: Binance sends pings instead."""
        return ()

    def _subscribe(self, stream: str) -> None:
        name, _, kind = stream.partition("@")
        symbol = self._ids.get(name)
        write = self._writer(kind.partition("@")[0])
        if symbol is None or write is None or symbol not in self._world.listed:
            return
        streams = self._streams.setdefault(symbol, [])
        if all(known != stream for known, _ in streams):
            streams.append((stream, write))

    def _unsubscribe(self, stream: str) -> None:
        for streams in self._streams.values():
            streams[:] = [entry for entry in streams if entry[0] != stream]

    def _writer(self, kind: str) -> Callable[[Tick], bytes] | None:
        if kind == "kline_1m":
            return self._kline
        writers = {
            **{"bookTicker": book_ticker, "trade": trade, "aggTrade": agg_trade},
            **{"ticker": self._ticker, "miniTicker": self._mini_ticker},
        }
        return writers.get(kind)

    def _kline(self, tick: Tick) -> bytes:
        candle = self._world.market.candles[tick.symbol][-1]
        return encode(
            {
                **{"e": "kline", "E": tick.at_ms, "s": pair(tick.symbol)},
                "k": {
                    **{"t": candle.open_ms, "T": candle.open_ms + MINUTE_MS - 1, "s": pair(tick.symbol)},
                    **{"i": "1m", "f": 0, "L": tick.number, "o": fixed(candle.open)},
                    **{"c": fixed(candle.close), "h": fixed(candle.high), "l": fixed(candle.low)},
                    **{"v": fixed(candle.volume), "n": candle.trades, "x": False, "q": "0", "V": "0"},
                    **{"Q": "0", "B": "0"},
                },
            }
        )

    def _mini_ticker(self, tick: Tick) -> bytes:
        opened, high, low, volume, _ = self._world.market.day(tick)
        return encode(
            {
                **{"e": "24hrMiniTicker", "E": tick.at_ms, "s": pair(tick.symbol), "c": fixed(tick.bid)},
                **{"o": fixed(opened), "h": fixed(high), "l": fixed(low)},
                **{"v": fixed(volume), "q": fixed(volume * tick.bid)},
            }
        )

    def _ticker(self, tick: Tick) -> bytes:
        opened, high, low, volume, change = self._world.market.day(tick)
        return encode(
            {
                **{"e": "24hrTicker", "E": tick.at_ms, "s": pair(tick.symbol), "P": fixed(change)},
                **{"p": fixed(tick.bid - opened), "w": fixed(tick.bid), "x": fixed(opened)},
                **{"c": fixed(tick.bid), "Q": "0.001", "b": fixed(tick.bid), "B": fixed(tick.bid_size)},
                **{"a": fixed(tick.ask), "A": fixed(tick.ask_size), "o": fixed(opened)},
                **{"h": fixed(high), "l": fixed(low), "v": fixed(volume), "q": fixed(volume * tick.bid)},
                **{"O": tick.at_ms - 86_400_000, "C": tick.at_ms, "F": 1, "L": tick.number, "n": tick.number},
            }
        )


def pair(symbol: str) -> str:
    """Return `BTC/USDT` as `BTCUSDT`."""
    return symbol.replace("/", "")


def book_ticker(tick: Tick) -> bytes:
    """Return a bookTicker frame, without an event time as on the real spot market."""
    return b'{"u":%d,"s":"%b","b":"%.8f","B":"%.8f","a":"%.8f","A":"%.8f"}' % (
        tick.number,
        pair(tick.symbol).encode(),
        *(tick.bid, tick.bid_size, tick.ask, tick.ask_size),
    )


def agg_trade(tick: Tick) -> bytes:
    """Return an aggTrade frame."""
    return (
        b'{"e":"aggTrade","E":%d,"s":"%b","a":%d,"p":"%.8f","q":"0.00100000","f":%d,"l":%d,"T":%d,"m":true}'
        % (
            tick.at_ms,
            pair(tick.symbol).encode(),
            tick.number,
            tick.bid,
            *(tick.number, tick.number, tick.at_ms),
        )
    )


def trade(tick: Tick) -> bytes:
    """Return a trade frame."""
    return b'{"e":"trade","E":%d,"s":"%b","t":%d,"p":"%.8f","q":"0.00100000","T":%d,"m":true}' % (
        tick.at_ms,
        pair(tick.symbol).encode(),
        tick.number,
        tick.bid,
        tick.at_ms,
    )


class Binance:
    """See `Venue`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._replies: dict[str, Callable[[Mapping[str, str]], Reply]] = {
            "/api/v3/ping": lambda query: ok({}),
            "/api/v3/time": lambda query: ok({"serverTime": self._now_ms()}),
            "/api/v3/exchangeInfo": self._exchange_info,
            "/api/v3/ticker/bookTicker": self._book_tickers,
            "/api/v3/aggTrades": self._agg_trades,
            "/api/v3/klines": self._klines,
            "/api/v3/depth": self._depth,
        }

    def session(self, path: str, query: Mapping[str, str]) -> BinanceSession:
        """See `Venue.session`."""
        return BinanceSession(self._world, path, query)

    def reply(self, path: str, query: Mapping[str, str]) -> Reply:
        """See `Venue.reply`."""
        answer = self._replies.get(path)
        return answer(query) if answer else Reply(404, b'{"code":-1,"msg":"no such endpoint"}')

    def _now_ms(self) -> int:
        return int(time.time() * 1000 + self._world.faults.skew_ms)

    def _symbol(self, query: Mapping[str, str]) -> str | None:
        wanted = query.get("symbol", "")
        return next((symbol for symbol in self._world.listed if pair(symbol) == wanted), None)

    def _exchange_info(self, query: Mapping[str, str]) -> Reply:
        symbols = self._world.listed
        if "symbol" in query:
            one = self._symbol(query)
            if one is None:
                return _NO_SUCH_SYMBOL
            symbols = (one,)
        return ok(
            {
                **{"timezone": "UTC", "serverTime": self._now_ms(), "rateLimits": [], "exchangeFilters": []},
                "symbols": [_listing(symbol) for symbol in symbols],
            }
        )

    def _book_tickers(self, query: Mapping[str, str]) -> Reply:
        ticks = [tick for symbol, tick in self._world.market.last.items() if symbol in self._world.listed]
        told = [
            {
                "symbol": pair(tick.symbol),
                **{"bidPrice": fixed(tick.bid), "bidQty": fixed(tick.bid_size)},
                **{"askPrice": fixed(tick.ask), "askQty": fixed(tick.ask_size)},
            }
            for tick in ticks
        ]
        return ok(told)

    def _agg_trades(self, query: Mapping[str, str]) -> Reply:
        symbol = self._symbol(query)
        if symbol is None:
            return _NO_SUCH_SYMBOL
        first, limit = int(query.get("fromId", 0)), min(int(query.get("limit", 500)), _MAX_LIMIT)
        ticks = [tick for tick in self._world.market.ticks[symbol] if tick.number >= first][:limit]
        return ok(
            [
                {
                    **{"a": tick.number, "p": fixed(tick.bid), "q": "0.00100000", "f": tick.number},
                    **{"l": tick.number, "T": tick.at_ms, "m": True, "M": True},
                }
                for tick in ticks
            ]
        )

    def _klines(self, query: Mapping[str, str]) -> Reply:
        symbol = self._symbol(query)
        if symbol is None:
            return _NO_SUCH_SYMBOL
        return ok([_row(candle) for candle in self._world.market.candles[symbol]])

    def _depth(self, query: Mapping[str, str]) -> Reply:
        symbol = self._symbol(query)
        tick = self._world.market.last.get(symbol or "")
        if tick is None:
            return _NO_SUCH_SYMBOL
        return ok(
            {
                "lastUpdateId": tick.number,
                "bids": [[fixed(tick.bid), fixed(tick.bid_size)]],
                "asks": [[fixed(tick.ask), fixed(tick.ask_size)]],
            }
        )


def _listing(symbol: str) -> dict[str, Any]:
    base, _, quote = symbol.partition("/")
    return {
        **{"symbol": base + quote, "status": "TRADING", "baseAsset": base, "baseAssetPrecision": 8},
        **{"quoteAsset": quote, "quotePrecision": 8, "quoteAssetPrecision": 8, "orderTypes": ["LIMIT"]},
        **{"isSpotTradingAllowed": True, "isMarginTradingAllowed": False, "permissions": ["SPOT"]},
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": "0.00000001",
                "maxPrice": "1000000",
                "tickSize": "0.00000001",
            },
            {"filterType": "LOT_SIZE", "minQty": "0.00000001", "maxQty": "9000", "stepSize": "0.00000001"},
        ],
    }


def _row(candle: Candle) -> list[Any]:
    return [
        candle.open_ms,
        *map(fixed, (candle.open, candle.high, candle.low, candle.close, candle.volume)),
        candle.open_ms + MINUTE_MS - 1,
        *("0", candle.trades, "0", "0", "0"),
    ]
