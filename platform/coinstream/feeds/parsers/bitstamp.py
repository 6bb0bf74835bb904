"""Bitstamp's protocol: websocket v2 and REST order books.

Facts from the exchange's API documentation ("WebSocket API v2"). `order_book_*` is a whole book each time;
`diff_order_book_*` are changes to a book that REST gives, ordered by `microtimestamp`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import msgspec

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import (
    ACKNOWLEDGED,
    DEPTH,
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
from coinstream.feeds.parsers.market_state import BookParser, Change, Level, single, unknown_symbol
from coinstream.feeds.symbols import split_joined


class _Head(msgspec.Struct, gc=False):
    event: str = ""
    channel: str = ""
    data: msgspec.Raw = msgspec.Raw()
    bids: msgspec.Raw = msgspec.Raw()


class _Book(msgspec.Struct, gc=False):
    microtimestamp: int
    bids: list[Level]
    asks: list[Level]


class _Trade(msgspec.Struct, gc=False):
    id: int
    price: Number
    microtimestamp: int


_head: Final = msgspec.json.Decoder(_Head)
_book: Final = msgspec.json.Decoder(_Book, strict=False)
_trade: Final = msgspec.json.Decoder(_Trade, strict=False)


class BitstampParser(BookParser):
    """Frames of Bitstamp: books to Level1, trades to Price."""

    def __init__(self, exchange: str = "bitstamp") -> None:
        super().__init__(exchange)

    def _read(self, frame: Frame) -> Parsed:
        if frame.url is not None and frame.payload.lstrip()[:1] == b"[":
            msgspec.json.decode(frame.payload)
            return STATUS
        head = _head.decode(frame.payload)
        match head.event:
            case "data" | "trade":
                return self._data(head, frame)
            case "bts:heartbeat":
                return HEARTBEAT
            case "bts:subscription_succeeded" | "bts:unsubscription_succeeded":
                return ACKNOWLEDGED
            case "bts:request_reconnect":
                return STATUS
            case "bts:error":
                return rejected(Reason.REFUSED, bytes(head.data)[:200].decode(errors="replace"))
            case "order_created" | "order_changed" | "order_deleted":
                return DEPTH
        if frame.url is not None:
            return self._reply(frame) if head.bids else STATUS
        return rejected(Reason.UNKNOWN, f"event {head.event!r}")

    def _data(self, head: _Head, frame: Frame) -> Parsed:
        kind, _, pair = head.channel.rpartition("_")
        symbol = split_joined(pair)
        if symbol is None:
            return unknown_symbol(pair)
        match kind:
            case "diff_order_book":
                return self._change(symbol, read(_book, head.data), frame)
            case "order_book" | "detail_order_book":
                return self._whole(symbol, read(_book, head.data), frame)
            case "live_trades":
                trade = read(_trade, head.data)
                return single(
                    *self.memory.trade(symbol, trade.id, trade.price, _moment(trade.microtimestamp))
                )
        return rejected(Reason.UNKNOWN, f"channel {head.channel!r}")

    def _change(self, symbol: str, told: _Book, frame: Frame) -> Parsed:
        result = self.memory.book(symbol).change(Change(None, told.microtimestamp, told.bids, told.asks))
        if isinstance(result, Reason):
            return rejected(result)
        at = _moment(told.microtimestamp)
        return single(self.memory.top(symbol, at, from_ns(frame.received_ns)))

    def _whole(self, symbol: str, told: _Book, frame: Frame) -> Parsed:
        if not self.memory.book(symbol).replace(told.bids, told.asks, told.microtimestamp):
            return rejected(Reason.SNAPSHOT_STALE)
        at = _moment(told.microtimestamp)
        return single(self.memory.top(symbol, at, from_ns(frame.received_ns)))

    def _reply(self, frame: Frame) -> Parsed:
        # …/api/v2/order_book/btcusd/
        pair = (frame.url or "").partition("/order_book/")[2].partition("/")[0].partition("?")[0]
        symbol = split_joined(pair)
        if symbol is None:
            return unknown_symbol(pair)
        return self._whole(symbol, read(_book, frame.payload), frame)


def _moment(microseconds: int) -> datetime:
    return from_ms(microseconds / 1000)
