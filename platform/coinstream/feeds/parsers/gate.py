"""Gate's protocol: websocket v4 (spot) and REST order books.

Facts from the exchange's API documentation ("Spot WebSocket v4"). `spot.order_book_update` numbers its
changes `U` to `u` without holes per pair, on top of the REST snapshot whose `id` they follow;
`spot.book_ticker` has the top with sizes; `spot.tickers` has bid and ask without sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import (
    ACKNOWLEDGED,
    HEARTBEAT,
    STATUS,
    Finite,
    Frame,
    Gap,
    Number,
    Parsed,
    from_ms,
    from_ns,
    read,
    rejected,
)
from coinstream.feeds.parsers.market_state import BookParser, Change, Level, collect, single, unknown_symbol
from coinstream.feeds.symbols import split_at
from coinstream.messages import Message, Ohlcv


class _Head(msgspec.Struct, gc=False):
    channel: str = ""
    event: str = ""
    time: Number | None = None
    time_ms: Number | None = None
    error: Any = None
    result: msgspec.Raw = msgspec.Raw()
    bids: msgspec.Raw = msgspec.Raw()
    label: str = ""
    message: str = ""


class _Ticker(msgspec.Struct, gc=False):
    currency_pair: str
    last: Number
    base_volume: Number | None = None
    change_percentage: Finite | None = None


class _Trade(msgspec.Struct, gc=False):
    id: int
    currency_pair: str
    price: Number
    create_time_ms: Number


class _Candle(msgspec.Struct, gc=False):
    t: int
    o: Number
    h: Number
    l: Number  # noqa: E741 (the exchange's name)
    c: Number
    v: Number
    n: str
    a: Number | None = None


class _Update(msgspec.Struct, gc=False):
    s: str
    U: int
    u: int
    t: Number
    b: list[Level] = []
    a: list[Level] = []


class _BookTicker(msgspec.Struct, gc=False):
    s: str
    u: int
    t: Number
    b: Number
    B: Number
    a: Number
    A: Number


class _Book(msgspec.Struct, gc=False):
    bids: list[Level]
    asks: list[Level]
    s: str = ""
    t: Number | None = None
    current: Number | None = None
    id: int = -1
    lastUpdateId: int = -1  # noqa: N815 (the exchange's name)


_head: Final = msgspec.json.Decoder(_Head, strict=False)
_ticker: Final = msgspec.json.Decoder(_Ticker, strict=False)
_trade: Final = msgspec.json.Decoder(_Trade, strict=False)
_candle: Final = msgspec.json.Decoder(_Candle, strict=False)
_update: Final = msgspec.json.Decoder(_Update, strict=False)
_book_ticker: Final = msgspec.json.Decoder(_BookTicker, strict=False)
_book: Final = msgspec.json.Decoder(_Book, strict=False)

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_ALIASES: Final = {"7d": "1w"}


class GateParser(BookParser):
    """Frames of Gate: book tickers and books to Level1, tickers and trades to Price, candles to Ohlcv."""

    def __init__(self, exchange: str = "gate") -> None:
        super().__init__(exchange)
        self._updates: dict[str, int] = {}

    def _read(self, frame: Frame) -> Parsed:
        if frame.url is not None and frame.payload.lstrip()[:1] == b"[":
            msgspec.json.decode(frame.payload)
            return STATUS
        head = _head.decode(frame.payload)
        if head.error:
            return rejected(Reason.REFUSED, str(head.error))
        if head.channel in ("spot.pong", "spot.ping"):
            return HEARTBEAT
        if head.event in ("subscribe", "unsubscribe"):
            return ACKNOWLEDGED
        if head.channel:
            return self._channel(head, frame)
        if frame.url is not None:
            if head.bids:
                return self._reply(frame)
            return rejected(Reason.REFUSED, head.message) if head.label else STATUS
        return rejected(Reason.UNKNOWN, f"channel {head.channel!r}, event {head.event!r}")

    def _channel(self, head: _Head, frame: Frame) -> Parsed:
        received = from_ns(frame.received_ns)
        match head.channel:
            case "spot.tickers":
                return collect(self._ticker(read(_ticker, head.result), head, received))
            case "spot.book_ticker":
                return self._book_ticker(read(_book_ticker, head.result), received)
            case "spot.order_book_update":
                return self._update(read(_update, head.result), received)
            case "spot.order_book":
                told = read(_book, head.result)
                return self._whole(told.s, told, received)
            case "spot.trades":
                return self._trade(read(_trade, head.result))
            case "spot.candlesticks":
                return self._candle(read(_candle, head.result), received)
        return rejected(Reason.UNKNOWN, f"channel {head.channel!r}")

    def _ticker(self, told: _Ticker, head: _Head, received: datetime) -> Iterator[Message | Reason]:
        symbol = split_at(told.currency_pair, "_")
        if symbol is None:
            yield Reason.UNKNOWN_SYMBOL
            return
        at_ms = head.time_ms or (head.time * 1000 if head.time else None)
        at = from_ms(at_ms) if at_ms else None
        yield self.memory.ticker(symbol, told.last, at, received, told.base_volume, told.change_percentage)

    def _book_ticker(self, told: _BookTicker, received: datetime) -> Parsed:
        symbol = split_at(told.s, "_")
        if symbol is None:
            return unknown_symbol(told.s)
        last = self._updates.get(symbol, -1)
        if told.u <= last:
            return rejected(Reason.DUPLICATE if told.u == last else Reason.OUT_OF_DATE)
        self._updates[symbol] = told.u
        return single(self.memory.quote(symbol, told.b, told.a, told.B, told.A, from_ms(told.t), received))

    def _update(self, told: _Update, received: datetime) -> Parsed:
        symbol = split_at(told.s, "_")
        if symbol is None:
            return unknown_symbol(told.s)
        result = self.memory.book(symbol).change(Change(told.U, told.u, told.b, told.a))
        if isinstance(result, Gap):
            return Parsed((), (Reason.BOOK_UNSYNCED,), "", result._replace(symbol=symbol))
        if result is not None:
            return rejected(result)
        return single(self.memory.top(symbol, from_ms(told.t), received))

    def _whole(self, name: str, told: _Book, received: datetime) -> Parsed:
        symbol = split_at(name, "_")
        if symbol is None:
            return unknown_symbol(name)
        if not self.memory.book(symbol).replace(told.bids, told.asks, max(told.id, told.lastUpdateId)):
            return rejected(Reason.SNAPSHOT_STALE)
        at_ms = told.t or told.current
        return single(self.memory.top(symbol, from_ms(at_ms) if at_ms else received, received))

    def _trade(self, told: _Trade) -> Parsed:
        symbol = split_at(told.currency_pair, "_")
        if symbol is None:
            return unknown_symbol(told.currency_pair)
        return single(*self.memory.trade(symbol, told.id, told.price, from_ms(told.create_time_ms)))

    def _candle(self, told: _Candle, received: datetime) -> Parsed:
        timeframe, _, pair = told.n.partition("_")
        symbol = split_at(pair, "_")
        if symbol is None:
            return unknown_symbol(told.n)
        opened = from_ms(told.t * 1000)
        length = timedelta(seconds=int(timeframe[:-1]) * _SECONDS[timeframe[-1]])
        # `v` is in the quote currency; `a`, the base volume, came later.
        volume = told.a if told.a is not None else (told.v / told.c if told.c else 0.0)
        return Parsed(
            (
                Ohlcv(
                    self.exchange,
                    symbol,
                    _ALIASES.get(timeframe, timeframe),
                    opened,
                    opened + length,
                    *(told.o, told.h, told.l, told.c, volume),
                    received,
                ),
            )
        )

    def _reply(self, frame: Frame) -> Parsed:
        # …/spot/order_book?currency_pair=BTC_USDT&with_id=true
        pair = (frame.url or "").partition("currency_pair=")[2].partition("&")[0]
        return self._whole(pair, read(_book, frame.payload), from_ns(frame.received_ns))
