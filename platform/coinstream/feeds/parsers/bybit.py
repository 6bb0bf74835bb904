"""Bybit's protocol: websocket v5 and the older `realtime_public`, and REST order books.

Facts from the exchange's API documentation ("V5 WebSocket" and "Inverse/USDT Perpetual v2"). A v5 ticker of
a derivative is a snapshot and then only what changed; `orderbook.1` is always a snapshot. The older
feed had derivatives only. v5 topics name the same joined symbol for spot and for perpetuals; a
ticker that carries a bid is a derivative's.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
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
from coinstream.feeds.parsers.market_state import BookParser, Level, collect, single, unknown_symbol
from coinstream.feeds.symbols import split_joined
from coinstream.messages import Message, Ohlcv


class _Head(msgspec.Struct, gc=False):
    topic: str = ""
    type: str = ""
    op: str = ""
    success: bool | None = None
    ret_msg: str = ""
    retCode: int | None = None  # noqa: N815 (the exchange's name)
    retMsg: str = ""  # noqa: N815
    data: msgspec.Raw = msgspec.Raw()
    result: msgspec.Raw = msgspec.Raw()
    ts: Number | None = None
    cts: Number | None = None
    timestamp_e6: Number | None = None


class _Level1(msgspec.Struct, gc=False):
    price: Number
    side: str
    size: Number = 0.0


class _Whole1(msgspec.Struct, gc=False):
    order_book: list[_Level1] = []


class _Delta1(msgspec.Struct, gc=False):
    delete: list[_Level1] = []
    update: list[_Level1] = []
    insert: list[_Level1] = []


class _Trade1(msgspec.Struct, gc=False):
    symbol: str
    price: Number
    trade_time_ms: Number


class _Info1(msgspec.Struct, gc=False):
    last_price: Number | None = None
    last_price_e4: Number | None = None
    volume_24h: Number | None = None
    price_24h_pcnt_e6: Finite | None = None


class _InfoDelta1(msgspec.Struct, gc=False):
    update: list[_Info1] = []


class _Candle1(msgspec.Struct, gc=False):
    start: int
    end: int
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    timestamp: Number


class _Ticker5(msgspec.Struct, gc=False):
    symbol: str
    lastPrice: Number | None = None  # noqa: N815 (the exchange's names)
    bid1Price: Number | None = None  # noqa: N815
    bid1Size: Number | None = None  # noqa: N815
    ask1Price: Number | None = None  # noqa: N815
    ask1Size: Number | None = None  # noqa: N815
    volume24h: Number | None = None
    price24hPcnt: Finite | None = None  # noqa: N815
    fundingRate: str | None = None  # noqa: N815


class _Book5(msgspec.Struct, gc=False):
    s: str
    b: list[Level] = []
    a: list[Level] = []
    u: int | None = None
    ts: Number | None = None


class _Trade5(msgspec.Struct, gc=False):
    T: Number
    s: str
    p: Number


class _Candle5(msgspec.Struct, gc=False):
    start: Number
    end: Number
    interval: str
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    timestamp: Number


_head: Final = msgspec.json.Decoder(_Head, strict=False)
_whole1: Final = msgspec.json.Decoder(_Whole1 | list[_Level1], strict=False)
_delta1: Final = msgspec.json.Decoder(_Delta1, strict=False)
_trades1: Final = msgspec.json.Decoder(list[_Trade1], strict=False)
_info1: Final = msgspec.json.Decoder(_Info1, strict=False)
_info_delta1: Final = msgspec.json.Decoder(_InfoDelta1, strict=False)
_candles1: Final = msgspec.json.Decoder(list[_Candle1], strict=False)
_ticker5: Final = msgspec.json.Decoder(_Ticker5, strict=False)
_book5: Final = msgspec.json.Decoder(_Book5, strict=False)
_trades5: Final = msgspec.json.Decoder(list[_Trade5], strict=False)
_candles5: Final = msgspec.json.Decoder(list[_Candle5], strict=False)

_TIMEFRAMES: Final = {"D": "1d", "W": "1w", "M": "1M"}
_PARTS: Final = ("lastPrice", "bid1Price", "bid1Size", "ask1Price", "ask1Size", "volume24h", "price24hPcnt")


class BybitParser(BookParser):
    """Frames of Bybit: books and derivatives' tickers to Level1, trades and tickers to Price, candles."""

    def __init__(self, exchange: str = "bybit") -> None:
        super().__init__(exchange)
        self._tickers: dict[str, _Ticker5] = {}
        self._infos: dict[str, _Info1] = {}

    def _read(self, frame: Frame) -> Parsed:
        head = _head.decode(frame.payload)
        if not head.topic:
            return self._control(head, frame)
        kind, _, rest = head.topic.partition(".")
        detail, _, name = rest.rpartition(".")
        received = from_ns(frame.received_ns)
        if kind in ("orderBookL2_25", "orderBook_200"):
            return self._book1(name, head, received)
        if kind == "orderbook":
            return self._book5(read(_book5, head.data), head, received)
        if kind == "tickers":
            return collect(self._ticker5(read(_ticker5, head.data), head, received))
        if kind == "instrument_info":
            return self._info1(name, head, received)
        if kind in ("trade", "publicTrade"):
            return self._trades(head, older=kind == "trade")
        if kind in ("candle", "klineV2"):
            return self._candles1(detail, name, head)
        if kind == "kline":
            return self._candles5(name, head)
        return rejected(Reason.UNKNOWN, f"topic {head.topic!r}")

    def _control(self, head: _Head, frame: Frame) -> Parsed:
        if head.op in ("ping", "pong") or head.ret_msg == "pong":
            return HEARTBEAT
        if head.success is not None:
            return ACKNOWLEDGED if head.success else rejected(Reason.REFUSED, head.ret_msg)
        if head.retCode:
            return rejected(Reason.REFUSED, head.retMsg)
        if frame.url is not None and "/orderbook" in frame.url:
            head.type = "snapshot"
            return self._book5(read(_book5, head.result), head, from_ns(frame.received_ns))
        return STATUS if frame.url is not None else rejected(Reason.UNKNOWN, "neither topic nor reply")

    # v5

    def _book5(self, told: _Book5, head: _Head, received: datetime) -> Parsed:
        symbol = split_joined(told.s)
        if symbol is None:
            return unknown_symbol(told.s)
        book = self.memory.book(symbol)
        if head.type == "snapshot":
            book.replace(told.b, told.a, told.u if told.u is not None else -1)
            # 1 says that the exchange's service has started anew, whatever number went before.
            book.number = told.u if told.u is not None else -1
        else:
            if not book.is_synced:
                return rejected(Reason.BOOK_UNSYNCED)
            if told.u is not None:
                if told.u <= book.number:
                    return rejected(Reason.DUPLICATE if told.u == book.number else Reason.OUT_OF_DATE)
                book.number = told.u
            book.apply(told.b, told.a)
        at_ms = head.cts or head.ts or told.ts
        return single(self.memory.top(symbol, from_ms(at_ms) if at_ms else received, received))

    def _ticker5(self, told: _Ticker5, head: _Head, received: datetime) -> Iterator[Message | Reason]:
        before = self._tickers.get(told.symbol)
        spot = split_joined(told.symbol)
        if spot is None:
            yield Reason.UNKNOWN_SYMBOL
            return
        price_told = told.lastPrice is not None
        if before is not None and head.type == "delta":
            for name in (*_PARTS, "fundingRate"):
                if getattr(told, name) is None:
                    setattr(told, name, getattr(before, name))
        self._tickers[told.symbol] = told
        if head.type == "delta" and before is None:
            yield Reason.INCOMPLETE
            return
        at = from_ms(head.ts) if head.ts else received
        is_derivative = told.bid1Price is not None or told.fundingRate is not None
        symbol = _perpetual(told.symbol) if is_derivative else spot
        if is_derivative:
            yield self.memory.quote(
                symbol, told.bid1Price, told.ask1Price, told.bid1Size, told.ask1Size, at, received
            )
        if price_told or not is_derivative:
            change = None if told.price24hPcnt is None else told.price24hPcnt * 100
            yield self.memory.ticker(symbol, told.lastPrice, at, received, told.volume24h, change)

    def _candles5(self, name: str, head: _Head) -> Parsed:
        symbol = split_joined(name)
        if symbol is None:
            return unknown_symbol(name)
        return collect(
            Ohlcv(
                self.exchange,
                symbol,
                _timeframe(candle.interval),
                from_ms(candle.start),
                # The exchange names the last millisecond inside the candle.
                from_ms(candle.end + 1),
                *(candle.open, candle.high, candle.low, candle.close, candle.volume),
                from_ms(candle.timestamp),
            )
            for candle in read(_candles5, head.data)
        )

    def _trades(self, head: _Head, *, older: bool) -> Parsed:
        found: list[Message | Reason] = []
        if older:
            for trade in read(_trades1, head.data):
                symbol = _perpetual(trade.symbol)
                if not symbol:
                    return unknown_symbol(trade.symbol)
                at = from_ms(trade.trade_time_ms)
                found.append(self.memory.trade(symbol, None, trade.price, at)[0])
            return collect(found)
        for entry in read(_trades5, head.data):
            spot = split_joined(entry.s)
            if spot is None:
                return unknown_symbol(entry.s)
            found.append(self.memory.trade(spot, None, entry.p, from_ms(entry.T))[0])
        return collect(found)

    # realtime_public

    def _book1(self, name: str, head: _Head, received: datetime) -> Parsed:
        symbol = _perpetual(name)
        if not symbol:
            return unknown_symbol(name)
        book = self.memory.book(symbol)
        if head.type == "snapshot":
            whole = read(_whole1, head.data)
            levels = whole if isinstance(whole, list) else whole.order_book
            book.replace((), ())
            _set1(book.set_bid, book.set_ask, levels)
        elif not book.is_synced:
            return rejected(Reason.BOOK_UNSYNCED)
        else:
            delta = read(_delta1, head.data)
            for gone in delta.delete:
                gone.size = 0.0
            _set1(book.set_bid, book.set_ask, [*delta.delete, *delta.update, *delta.insert])
        at = from_ms(head.timestamp_e6 / 1000) if head.timestamp_e6 else received
        return single(self.memory.top(symbol, at, received))

    def _info1(self, name: str, head: _Head, received: datetime) -> Parsed:
        symbol = _perpetual(name)
        if not symbol:
            return unknown_symbol(name)
        told = [read(_info1, head.data)] if head.type == "snapshot" else read(_info_delta1, head.data).update
        at = from_ms(head.timestamp_e6 / 1000) if head.timestamp_e6 else received
        found: list[Message | Reason] = []
        for info in told:
            price = info.last_price if info.last_price is not None else _scaled(info.last_price_e4, 1e4)
            if price is None:
                found.append(Reason.NO_SIZES)
                continue
            change = None if info.price_24h_pcnt_e6 is None else info.price_24h_pcnt_e6 / 1e4
            found.append(self.memory.ticker(symbol, price, at, received, info.volume_24h, change))
        return collect(found) if found else STATUS

    def _candles1(self, interval: str, name: str, head: _Head) -> Parsed:
        symbol = _perpetual(name)
        if not symbol:
            return unknown_symbol(name)
        return collect(
            Ohlcv(
                self.exchange,
                symbol,
                _timeframe(interval),
                from_ms(candle.start * 1000),
                from_ms(candle.end * 1000),
                *(candle.open, candle.high, candle.low, candle.close, candle.volume),
                from_ms(candle.timestamp / 1000),
            )
            for candle in read(_candles1, head.data)
        )


def _set1(set_bid: Any, set_ask: Any, levels: list[_Level1]) -> None:
    for level in levels:
        (set_bid if level.side == "Buy" else set_ask)(level.price, level.size)


def _perpetual(joined: str) -> str:
    """`BTCUSDT` settles in its quote currency, `BTCUSD` (inverse) in its base currency. Empty: unreadable."""
    symbol = split_joined(joined)
    if symbol is None:
        return ""
    base, _, quote = symbol.partition("/")
    return f"{symbol}:{base if quote == 'USD' else quote}"


def _scaled(value: float | None, by: float) -> float | None:
    return None if value is None else value / by


def _timeframe(interval: str) -> str:
    if interval in _TIMEFRAMES:
        return _TIMEFRAMES[interval]
    minutes = int(interval)
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"
