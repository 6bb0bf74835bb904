"""Kraken's protocol: websocket v1 (arrays) and v2 (objects), and REST order books.

Facts from the exchange's API documentation ("WebSockets API v1" and "v2"). v1: `[channel id, payload…,
channel name, pair]`; a book's snapshot has `as` and `bs`, an update `a`, `b` or both as two
objects; a level beyond the subscribed depth gets no removal, so it is cut. A ticker of v1 carries no time.
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
    Number,
    Parsed,
    from_ms,
    from_ns,
    read,
    rejected,
)
from coinstream.feeds.parsers.market_state import BookParser, Level, collect, percent, single, unknown_symbol
from coinstream.feeds.symbols import split_at, split_joined
from coinstream.messages import Message, Ohlcv


class _Head(msgspec.Struct, gc=False):
    event: str = ""
    channel: str = ""
    type: str = ""
    method: str = ""
    data: msgspec.Raw = msgspec.Raw()
    success: bool | None = None
    error: Any = None
    errorMessage: str = ""  # noqa: N815 (the exchange's name)
    status: str = ""
    result: msgspec.Raw = msgspec.Raw()


class _Ticker1(msgspec.Struct, gc=False):
    a: tuple[Number, Number, Number]
    b: tuple[Number, Number, Number]
    c: tuple[Number, Number]
    v: tuple[Number, Number]
    o: tuple[Number, Number] | None = None


class _Book1(msgspec.Struct, gc=False):
    as_: list[Level] | None = msgspec.field(default=None, name="as")
    bs: list[Level] | None = None
    a: list[Level] = []
    b: list[Level] = []


class _Trade1(msgspec.Struct, array_like=True, gc=False):
    price: Number
    size: Number
    time: Number


class _Candle1(msgspec.Struct, array_like=True, gc=False):
    time: Number
    end: Number
    open: Number
    high: Number
    low: Number
    close: Number
    vwap: Number
    volume: Number


class _Spread1(msgspec.Struct, array_like=True, gc=False):
    bid: Number
    ask: Number
    time: Number
    bid_size: Number
    ask_size: Number


class _Ticker2(msgspec.Struct, gc=False):
    symbol: str
    bid: Number | None = None
    bid_qty: Number | None = None
    ask: Number | None = None
    ask_qty: Number | None = None
    last: Number | None = None
    volume: Number | None = None
    change_pct: Finite | None = None
    timestamp: datetime | None = None


class _Level2(msgspec.Struct, gc=False):
    price: Number
    qty: Number


class _Book2(msgspec.Struct, gc=False):
    symbol: str
    bids: list[_Level2] = []
    asks: list[_Level2] = []
    timestamp: datetime | None = None


class _Trade2(msgspec.Struct, gc=False):
    symbol: str
    price: Number
    timestamp: datetime
    trade_id: int | None = None


class _Candle2(msgspec.Struct, gc=False):
    symbol: str
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    interval_begin: datetime
    interval: int
    timestamp: datetime | None = None


class _Depth(msgspec.Struct, gc=False):
    bids: list[Level] = []
    asks: list[Level] = []


_head: Final = msgspec.json.Decoder(_Head)
_array: Final = msgspec.json.Decoder(list[msgspec.Raw])
_text: Final = msgspec.json.Decoder(str)
_ticker1: Final = msgspec.json.Decoder(_Ticker1, strict=False)
_book1: Final = msgspec.json.Decoder(_Book1, strict=False)
_trades1: Final = msgspec.json.Decoder(list[_Trade1], strict=False)
_candle1: Final = msgspec.json.Decoder(_Candle1, strict=False)
_spread1: Final = msgspec.json.Decoder(_Spread1, strict=False)
_tickers2: Final = msgspec.json.Decoder(list[_Ticker2], strict=False)
_books2: Final = msgspec.json.Decoder(list[_Book2], strict=False)
_trades2: Final = msgspec.json.Decoder(list[_Trade2], strict=False)
_candles2: Final = msgspec.json.Decoder(list[_Candle2], strict=False)
_depths: Final = msgspec.json.Decoder(dict[str, _Depth], strict=False)

_TIMEFRAMES: Final = {1440: "1d", 10080: "1w", 21600: "15d"}
_STATUSES: Final = frozenset({"systemStatus", "status", "instrument"})


class KrakenParser(BookParser):
    """Frames of Kraken: tickers, books, spreads to Level1; tickers, trades to Price; candles to Ohlcv."""

    def __init__(self, exchange: str = "kraken") -> None:
        super().__init__(exchange)
        self._tickers: dict[str, _Ticker2] = {}

    def _read(self, frame: Frame) -> Parsed:
        if frame.payload.lstrip()[:1] == b"[":
            return self._array(frame)
        head = _head.decode(frame.payload)
        if head.channel:
            return self._channel(head, frame)
        if head.event in ("heartbeat", "pong") or head.method == "pong":
            return HEARTBEAT
        if head.event in _STATUSES:
            return STATUS
        if head.event == "subscriptionStatus" or head.method:
            failed = head.status == "error" or head.success is False
            return rejected(Reason.REFUSED, head.errorMessage or str(head.error)) if failed else ACKNOWLEDGED
        if frame.url is not None:
            return self._reply(head, frame)
        if head.error or head.event == "error":
            return rejected(Reason.REFUSED, head.errorMessage or str(head.error))
        return rejected(Reason.UNKNOWN, f"event {head.event!r}")

    # Version 1

    def _array(self, frame: Frame) -> Parsed:
        parts = _array.decode(frame.payload)
        if len(parts) < 4:
            return rejected(Reason.BAD_VALUE, "an array of fewer than four parts")
        channel, pair = _text.decode(parts[-2]), _text.decode(parts[-1])
        symbol = split_at(pair, "/")
        if symbol is None:
            return unknown_symbol(pair)
        kind, _, detail = channel.partition("-")
        match kind:
            case "ticker":
                return self._ticker1(symbol, parts[1], frame)
            case "book":
                return self._book1(symbol, parts[1:-2], int(detail or 10), frame)
            case "trade":
                trades = read(_trades1, parts[1])
                return collect(
                    self.memory.trade(symbol, None, trade.price, from_ms(trade.time * 1000))[0]
                    for trade in trades
                )
            case "ohlc":
                return Parsed((self._candle1(symbol, read(_candle1, parts[1]), int(detail or 1)),))
            case "spread":
                spread = read(_spread1, parts[1])
                return single(
                    self.memory.quote(
                        symbol,
                        *(spread.bid, spread.ask, spread.bid_size, spread.ask_size),
                        from_ms(spread.time * 1000),
                        from_ns(frame.received_ns),
                    )
                )
        return rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def _ticker1(self, symbol: str, body: msgspec.Raw, frame: Frame) -> Parsed:
        ticker, received = read(_ticker1, body), from_ns(frame.received_ns)
        last = ticker.c[0]
        change = percent(last, ticker.o[1]) if ticker.o else None
        return collect(
            (
                self.memory.quote(
                    symbol, ticker.b[0], ticker.a[0], ticker.b[2], ticker.a[2], received, received
                ),
                self.memory.ticker(symbol, last, None, received, ticker.v[1], change),
            )
        )

    def _book1(self, symbol: str, bodies: list[msgspec.Raw], depth: int, frame: Frame) -> Parsed:
        book = self.memory.book(symbol, depth)
        for body in bodies:
            update = read(_book1, body)
            if update.as_ is not None or update.bs is not None:
                book.replace(update.bs or (), update.as_ or ())
            elif not book.is_synced:
                return rejected(Reason.BOOK_UNSYNCED)
            else:
                book.apply(update.b, update.a)
        received = from_ns(frame.received_ns)
        return single(self.memory.top(symbol, received, received))

    def _candle1(self, symbol: str, candle: _Candle1, minutes: int) -> Ohlcv:
        end = from_ms(candle.end * 1000)
        return Ohlcv(
            self.exchange,
            symbol,
            _timeframe(minutes),
            end - timedelta(minutes=minutes),
            end,
            *(candle.open, candle.high, candle.low, candle.close, candle.volume),
            from_ms(candle.time * 1000),
        )

    # Version 2

    def _channel(self, head: _Head, frame: Frame) -> Parsed:
        received = from_ns(frame.received_ns)
        match head.channel:
            case "ticker":
                return collect(self._tickers2(read(_tickers2, head.data), received))
            case "heartbeat":
                return HEARTBEAT
            case "status" | "instrument":
                return STATUS
            case "book":
                is_snapshot = head.type == "snapshot"
                books = read(_books2, head.data)
                return collect(self._book2(book, is_snapshot, received) for book in books)
            case "trade":
                return self._trades2(read(_trades2, head.data))
            case "ohlc":
                return collect(self._candle2(candle, received) for candle in read(_candles2, head.data))
        return rejected(Reason.UNKNOWN, f"channel {head.channel!r}")

    def _tickers2(self, tickers: list[_Ticker2], received: datetime) -> Iterator[Message | Reason]:
        for told in tickers:
            symbol = split_at(told.symbol, "/")
            if symbol is None:
                yield Reason.UNKNOWN_SYMBOL
                continue
            full = self._complete(told)
            at = told.timestamp or received
            yield self.memory.quote(symbol, full.bid, full.ask, full.bid_qty, full.ask_qty, at, received)
            if told.last is not None:
                yield self.memory.ticker(
                    symbol, told.last, told.timestamp, received, full.volume, full.change_pct
                )

    def _complete(self, told: _Ticker2) -> _Ticker2:
        """With what an update left out, from what was told before."""
        before = self._tickers.get(told.symbol)
        if before is not None and (told.bid is None or told.ask is None or told.volume is None):
            for name in ("bid", "bid_qty", "ask", "ask_qty", "volume", "change_pct"):
                if getattr(told, name) is None:
                    setattr(told, name, getattr(before, name))
        self._tickers[told.symbol] = told
        return told

    def _book2(self, told: _Book2, is_snapshot: bool, received: datetime) -> Message | Reason:
        symbol = split_at(told.symbol, "/")
        if symbol is None:
            return Reason.UNKNOWN_SYMBOL
        book = self.memory.book(symbol)
        if is_snapshot:
            book.replace(
                [Level(level.price, level.qty) for level in told.bids],
                [Level(level.price, level.qty) for level in told.asks],
            )
        elif not book.is_synced:
            return Reason.BOOK_UNSYNCED
        for level in told.bids:
            book.set_bid(level.price, level.qty)
        for level in told.asks:
            book.set_ask(level.price, level.qty)
        return self.memory.top(symbol, told.timestamp or received, received)

    def _trades2(self, trades: list[_Trade2]) -> Parsed:
        found: list[Message | Reason] = []
        gap = None
        for trade in trades:
            symbol = split_at(trade.symbol, "/")
            if symbol is None:
                return unknown_symbol(trade.symbol)
            price, hole = self.memory.trade(
                symbol, trade.trade_id, trade.price, trade.timestamp, numbered_by_one=True
            )
            found.append(price)
            gap = gap or hole
        return collect(found, gap)

    def _candle2(self, told: _Candle2, received: datetime) -> Message | Reason:
        symbol = split_at(told.symbol, "/")
        if symbol is None:
            return Reason.UNKNOWN_SYMBOL
        return Ohlcv(
            self.exchange,
            symbol,
            _timeframe(told.interval),
            told.interval_begin,
            told.interval_begin + timedelta(minutes=told.interval),
            *(told.open, told.high, told.low, told.close, told.volume),
            received,
        )

    def _reply(self, head: _Head, frame: Frame) -> Parsed:
        if head.error:
            return rejected(Reason.REFUSED, str(head.error))
        if "/Depth" not in (frame.url or ""):
            return STATUS
        received = from_ns(frame.received_ns)
        found: list[Message | Reason] = []
        for pair, depth in read(_depths, head.result).items():
            symbol = _rest_symbol(pair)
            if symbol is None:
                return unknown_symbol(pair)
            self.memory.book(symbol).replace(depth.bids, depth.asks)
            found.append(self.memory.top(symbol, received, received))
        return collect(found)


def _rest_symbol(pair: str) -> str | None:
    """`XXBTZUSD` or `ADAUSDT`: REST names old currencies with a leading X or Z."""
    if len(pair) == 8 and pair[0] in "XZ" and pair[4] in "XZ":
        pair = pair[1:4] + pair[5:]
    return split_joined(pair)


def _timeframe(minutes: int) -> str:
    if minutes in _TIMEFRAMES:
        return _TIMEFRAMES[minutes]
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"
