"""Coinbase's protocol: the Exchange websocket feed, the Advanced Trade feed, and REST books.

Facts from the exchange's API documentation ("Coinbase Exchange: WebSocket channels" and "Advanced Trade
WebSocket"). `trade_id` rises by one per product; a ticker's `sequence` rises, not by one; the Advanced
feed's `sequence_num` counts every frame of a connection, so a jump concerns all its symbols.
Snapshots of long ago and of today carry the same fields. Tickers had no sizes until 2022.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import (
    ACKNOWLEDGED,
    DEPTH,
    HEARTBEAT,
    STATUS,
    Finite,
    Frame,
    Gap,
    Number,
    Parsed,
    from_ns,
    read,
    rejected,
)
from coinstream.feeds.parsers.market_state import BookParser, Level, collect, percent, single, unknown_symbol
from coinstream.feeds.symbols import split_at
from coinstream.messages import Message, Ohlcv

CONNECTION: Final = ""
"""The symbol of a gap that concerns a whole connection."""


class _Head(msgspec.Struct, gc=False):
    type: str = ""
    channel: str = ""
    product_id: str = ""
    message: str = ""
    reason: str = ""
    sequence_num: int | None = None
    timestamp: str = ""
    events: msgspec.Raw = msgspec.Raw()
    bids: msgspec.Raw = msgspec.Raw()


class _Ticker(msgspec.Struct, gc=False):
    product_id: str
    price: Number
    sequence: int | None = None
    time: datetime | None = None
    best_bid: Number | None = None
    best_ask: Number | None = None
    best_bid_size: Number | None = None
    best_ask_size: Number | None = None
    open_24h: Number | None = None
    volume_24h: Number | None = None


class _Match(msgspec.Struct, gc=False):
    product_id: str
    price: Number
    trade_id: int
    time: datetime


class _Snapshot(msgspec.Struct, gc=False):
    bids: list[Level]
    asks: list[Level]
    product_id: str = ""
    time: datetime | None = None
    sequence: int | None = None


class _Set(msgspec.Struct, array_like=True, gc=False):
    side: str
    price: Number
    size: Number


class _Update(msgspec.Struct, gc=False):
    product_id: str
    changes: list[_Set]
    time: datetime | None = None


class _Ticker2(msgspec.Struct, gc=False):
    product_id: str
    price: Number
    best_bid: Number | None = None
    best_ask: Number | None = None
    best_bid_quantity: Number | None = None
    best_ask_quantity: Number | None = None
    volume_24_h: Number | None = None
    price_percent_chg_24_h: Finite | None = None


class _Set2(msgspec.Struct, gc=False):
    side: str
    price_level: Number
    new_quantity: Number
    event_time: datetime | None = None


class _Candle2(msgspec.Struct, gc=False):
    start: int
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    product_id: str


class _Trade2(msgspec.Struct, gc=False):
    product_id: str
    price: Number
    trade_id: int
    time: datetime


class _Event(msgspec.Struct, gc=False):
    type: str = ""
    product_id: str = ""
    tickers: list[_Ticker2] = []
    updates: list[_Set2] = []
    candles: list[_Candle2] = []
    trades: list[_Trade2] = []


_head: Final = msgspec.json.Decoder(_Head)
_ticker: Final = msgspec.json.Decoder(_Ticker, strict=False)
_match: Final = msgspec.json.Decoder(_Match, strict=False)
_snapshot: Final = msgspec.json.Decoder(_Snapshot, strict=False)
_update: Final = msgspec.json.Decoder(_Update, strict=False)
_events: Final = msgspec.json.Decoder(list[_Event], strict=False)
_anything: Final = msgspec.json.Decoder(Any)

_FULL: Final = frozenset({"received", "open", "done", "change", "activate"})
_CANDLE: Final = timedelta(minutes=5)


class CoinbaseParser(BookParser):
    """Frames of Coinbase: tickers and books to Level1, tickers and trades to Price, candles to Ohlcv."""

    def __init__(self, exchange: str = "coinbase") -> None:
        super().__init__(exchange)
        self._sequences: dict[str, int] = {}
        self._number: int | None = None

    def _read(self, frame: Frame) -> Parsed:
        if frame.payload.lstrip()[:1] == b"[" and frame.url is not None:
            _anything.decode(frame.payload)
            return STATUS
        head = _head.decode(frame.payload)
        if head.channel and head.events:
            return self._advanced(head, frame)
        match head.type:
            case "ticker" | "ticker_batch":
                return self._ticker(frame)
            case "l2update":
                return self._update(frame)
            case "snapshot":
                return self._snapshot(frame)
            case "match" | "last_match":
                return self._match(frame)
            case "heartbeat":
                return HEARTBEAT
            case "status" | "auctioninfo":
                return STATUS
            case "subscriptions":
                return ACKNOWLEDGED
            case "error":
                return rejected(Reason.REFUSED, f"{head.message} {head.reason}".strip())
        if head.type in _FULL:
            return DEPTH
        if frame.url is not None:
            return self._reply(head, frame)
        return rejected(Reason.UNKNOWN, f"type {head.type!r}")

    def _ticker(self, frame: Frame) -> Parsed:
        ticker = read(_ticker, frame.payload)
        symbol = split_at(ticker.product_id, "-")
        if symbol is None:
            return unknown_symbol(ticker.product_id)
        if ticker.sequence is not None:
            last = self._sequences.get(symbol, -1)
            if ticker.sequence <= last:
                return rejected(Reason.DUPLICATE if ticker.sequence == last else Reason.OUT_OF_DATE)
            self._sequences[symbol] = ticker.sequence
        received = from_ns(frame.received_ns)
        at = ticker.time or received
        return collect(
            (
                self.memory.quote(
                    symbol,
                    *(ticker.best_bid, ticker.best_ask, ticker.best_bid_size, ticker.best_ask_size),
                    at,
                    received,
                ),
                self.memory.ticker(
                    symbol,
                    *(ticker.price, ticker.time, received, ticker.volume_24h),
                    percent(ticker.price, ticker.open_24h),
                ),
            )
        )

    def _match(self, frame: Frame) -> Parsed:
        trade = read(_match, frame.payload)
        symbol = split_at(trade.product_id, "-")
        if symbol is None:
            return unknown_symbol(trade.product_id)
        return single(
            *self.memory.trade(symbol, trade.trade_id, trade.price, trade.time, numbered_by_one=True)
        )

    def _snapshot(self, frame: Frame) -> Parsed:
        told = read(_snapshot, frame.payload)
        symbol = split_at(told.product_id, "-")
        if symbol is None:
            return unknown_symbol(told.product_id)
        self.memory.book(symbol).replace(told.bids, told.asks)
        received = from_ns(frame.received_ns)
        return single(self.memory.top(symbol, told.time or received, received))

    def _update(self, frame: Frame) -> Parsed:
        told = read(_update, frame.payload)
        symbol = split_at(told.product_id, "-")
        if symbol is None:
            return unknown_symbol(told.product_id)
        book = self.memory.book(symbol)
        if not book.is_synced:
            return rejected(Reason.BOOK_UNSYNCED)
        for change in told.changes:
            (book.set_bid if change.side == "buy" else book.set_ask)(change.price, change.size)
        received = from_ns(frame.received_ns)
        return single(self.memory.top(symbol, told.time or received, received))

    def _reply(self, head: _Head, frame: Frame) -> Parsed:
        if not head.bids:
            return rejected(Reason.REFUSED, head.message) if head.message else STATUS
        # …/products/BTC-USD/book?level=2
        product = (frame.url or "").partition("/products/")[2].partition("/")[0]
        symbol = split_at(product, "-")
        if symbol is None:
            return unknown_symbol(product)
        told = read(_snapshot, frame.payload)
        self.memory.book(symbol).replace(told.bids, told.asks)
        received = from_ns(frame.received_ns)
        return single(self.memory.top(symbol, told.time or received, received))

    # Advanced Trade

    def _advanced(self, head: _Head, frame: Frame) -> Parsed:
        gap = self._hole(head.sequence_num)
        match head.channel:
            case "heartbeats":
                return HEARTBEAT._replace(gap=gap)
            case "subscriptions":
                return ACKNOWLEDGED._replace(gap=gap)
            case "status":
                return STATUS._replace(gap=gap)
            case "ticker" | "ticker_batch" | "l2_data" | "candles" | "market_trades":
                return collect(self._entries(head, frame), gap)
        return rejected(Reason.UNKNOWN, f"channel {head.channel!r}")

    def _hole(self, number: int | None) -> Gap | None:
        last, self._number = self._number, number
        if number is None or last is None or number <= last + 1:
            return None
        for symbol in list(self.memory.books):
            self.forget(symbol)
        return Gap(CONNECTION, last + 1, number - 1)

    def _entries(self, head: _Head, frame: Frame) -> Iterator[Message | Reason]:
        received = from_ns(frame.received_ns)
        at = _moment(head.timestamp) or received
        for event in read(_events, head.events):
            if head.channel == "l2_data":
                yield self._book2(event, at, received)
            for ticker in event.tickers:
                yield from self._ticker2(ticker, at, received)
            for candle in event.candles:
                yield self._candle2(candle, received)
            # Newest first in a snapshot: the others are history.
            for trade in event.trades if event.type == "snapshot" else reversed(event.trades):
                symbol = split_at(trade.product_id, "-")
                if symbol is None:
                    yield Reason.UNKNOWN_SYMBOL
                else:
                    yield self.memory.trade(symbol, trade.trade_id, trade.price, trade.time)[0]

    def _ticker2(self, ticker: _Ticker2, at: datetime, received: datetime) -> Iterator[Message | Reason]:
        symbol = split_at(ticker.product_id, "-")
        if symbol is None:
            yield Reason.UNKNOWN_SYMBOL
            return
        yield self.memory.quote(
            symbol,
            *(ticker.best_bid, ticker.best_ask, ticker.best_bid_quantity, ticker.best_ask_quantity),
            at,
            received,
        )
        change = ticker.price_percent_chg_24_h
        yield self.memory.ticker(symbol, ticker.price, at, received, ticker.volume_24_h, change)

    def _book2(self, event: _Event, at: datetime, received: datetime) -> Message | Reason:
        symbol = split_at(event.product_id, "-")
        if symbol is None:
            return Reason.UNKNOWN_SYMBOL
        book = self.memory.book(symbol)
        if event.type == "snapshot":
            book.replace((), ())
        elif not book.is_synced:
            return Reason.BOOK_UNSYNCED
        for change in event.updates:
            set_level = book.set_bid if change.side == "bid" else book.set_ask
            set_level(change.price_level, change.new_quantity)
        return self.memory.top(symbol, at, received)

    def _candle2(self, candle: _Candle2, received: datetime) -> Message | Reason:
        symbol = split_at(candle.product_id, "-")
        if symbol is None:
            return Reason.UNKNOWN_SYMBOL
        opened = datetime.fromtimestamp(candle.start, UTC)
        return Ohlcv(
            self.exchange,
            symbol,
            "5m",
            opened,
            opened + _CANDLE,
            *(candle.open, candle.high, candle.low, candle.close, candle.volume),
            received,
        )


def _moment(text: str) -> datetime | None:
    return msgspec.convert(text, datetime) if text else None
