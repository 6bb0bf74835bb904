"""Gemini's protocol: market data v2 over websockets, and REST order books.

Facts from the exchange's API documentation ("Market Data Version 2"). The first `l2_updates` of a symbol
is its whole book and carries the last 50 trades, newest first; the following are changes, without a time.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import msgspec

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import (
    ACKNOWLEDGED,
    HEARTBEAT,
    STATUS,
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
    type: str = ""
    symbol: str = ""
    result: str = ""
    reason: str = ""
    message: str = ""
    bids: msgspec.Raw = msgspec.Raw()


class _Set(msgspec.Struct, array_like=True, gc=False):
    side: str
    price: Number
    size: Number


class _Trade(msgspec.Struct, gc=False):
    price: Number
    timestamp: Number
    event_id: int | None = None


class _Updates(msgspec.Struct, gc=False):
    changes: list[_Set]
    trades: list[_Trade] | None = None


class _Candle(msgspec.Struct, array_like=True, gc=False):
    time: Number
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number


class _Candles(msgspec.Struct, gc=False):
    changes: list[_Candle]


class _RestLevel(msgspec.Struct, gc=False):
    price: Number
    amount: Number


class _RestBook(msgspec.Struct, gc=False):
    bids: list[_RestLevel]
    asks: list[_RestLevel]


_head: Final = msgspec.json.Decoder(_Head)
_updates: Final = msgspec.json.Decoder(_Updates, strict=False)
_trade: Final = msgspec.json.Decoder(_Trade, strict=False)
_candles: Final = msgspec.json.Decoder(_Candles, strict=False)
_rest_book: Final = msgspec.json.Decoder(_RestBook, strict=False)

_SECONDS: Final = {"m": 60, "h": 3600, "d": 86_400}
_ACKNOWLEDGEMENTS: Final = frozenset({"subscribed", "unsubscribed", "subscription_ack"})


class GeminiParser(BookParser):
    """Frames of Gemini: books to Level1, trades to Price, candles to Ohlcv."""

    def __init__(self, exchange: str = "gemini") -> None:
        super().__init__(exchange)

    def _read(self, frame: Frame) -> Parsed:
        if frame.url is not None and frame.payload.lstrip()[:1] == b"[":
            msgspec.json.decode(frame.payload)
            return STATUS
        head = _head.decode(frame.payload)
        if head.type == "heartbeat":
            return HEARTBEAT
        if head.type in _ACKNOWLEDGEMENTS:
            return ACKNOWLEDGED
        if head.result == "error" or head.type == "error":
            return rejected(Reason.REFUSED, f"{head.reason} {head.message}".strip())
        if frame.url is not None:
            return self._reply(frame) if head.bids else STATUS
        symbol = split_joined(head.symbol)
        is_candle = head.type.startswith("candles_")
        if not (is_candle or head.type in ("l2_updates", "trade")):
            known = head.type.startswith(("auction", "block_trade", "l2_"))
            return STATUS if known else rejected(Reason.UNKNOWN, f"type {head.type!r}")
        if symbol is None:
            return unknown_symbol(head.symbol)
        if is_candle:
            return self._candle(symbol, head.type, frame)
        if head.type == "trade":
            return single(self._traded(symbol, read(_trade, frame.payload)))
        return self._change(symbol, frame)

    def _change(self, symbol: str, frame: Frame) -> Parsed:
        told = read(_updates, frame.payload)
        book = self.memory.book(symbol)
        if told.trades is not None or not book.is_synced:
            book.replace((), ())
        for change in told.changes:
            (book.set_bid if change.side == "buy" else book.set_ask)(change.price, change.size)
        received = from_ns(frame.received_ns)
        found: list[Message | Reason] = [self.memory.top(symbol, received, received)]
        found.extend(self._traded(symbol, trade) for trade in told.trades or ())
        return collect(found)

    def _traded(self, symbol: str, trade: _Trade) -> Message | Reason:
        return self.memory.trade(symbol, trade.event_id, trade.price, from_ms(trade.timestamp))[0]

    def _candle(self, symbol: str, kind: str, frame: Frame) -> Parsed:
        timeframe = kind.removeprefix("candles_").removesuffix("_updates")
        length = timedelta(seconds=int(timeframe[:-1]) * _SECONDS[timeframe[-1]])
        received = from_ns(frame.received_ns)
        return collect(
            Ohlcv(
                self.exchange,
                symbol,
                timeframe,
                from_ms(candle.time),
                from_ms(candle.time) + length,
                *(candle.open, candle.high, candle.low, candle.close, candle.volume),
                received,
            )
            for candle in read(_candles, frame.payload).changes
        )

    def _reply(self, frame: Frame) -> Parsed:
        # …/v1/book/btcusd
        name = (frame.url or "").partition("/book/")[2].partition("?")[0].strip("/")
        symbol = split_joined(name)
        if symbol is None:
            return unknown_symbol(name)
        told = read(_rest_book, frame.payload)
        self.memory.book(symbol).replace(
            [Level(level.price, level.amount) for level in told.bids],
            [Level(level.price, level.amount) for level in told.asks],
        )
        received = from_ns(frame.received_ns)
        return single(self.memory.top(symbol, received, received))
