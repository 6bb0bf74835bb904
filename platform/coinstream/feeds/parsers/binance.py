"""Binance's protocol: spot, Binance.US, USD-M and COIN-M futures; websocket streams and REST replies.

Facts from the exchange's API documentation ("Web Socket Streams for Binance" and "USDS-M Futures"):
a spot bookTicker carries no event time, so the receipt time stands for it; `u` is the order-book update
id, rising per symbol; trade ids (`t`) rise by one per symbol, so a jump is a loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import (
    ACKNOWLEDGED,
    DEPTH,
    DUPLICATE,
    ONE_SIDED,
    OUT_OF_DATE,
    STATUS,
    Finite,
    Frame,
    Gap,
    Number,
    Parsed,
    fault,
    from_ms,
    from_ns,
    read,
    rejected,
    trade_price,
)
from coinstream.feeds.symbols import split_joined
from coinstream.messages import Level1, Ohlcv


class _Head(msgspec.Struct, gc=False):
    """Enough of any frame to tell what it is. `data` is there in combined streams only."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()
    e: str = ""
    s: str = ""
    b: msgspec.Raw = msgspec.Raw()
    a: msgspec.Raw = msgspec.Raw()
    lastUpdateId: int | None = None  # noqa: N815 (the exchange's name)
    result: Any = None
    id: Any = None
    error: Any = None
    code: int | None = None
    msg: str = ""


class _BookTicker(msgspec.Struct, gc=False):
    u: int
    s: str
    b: Number
    B: Number
    a: Number
    A: Number
    T: int | None = None


class _Trade(msgspec.Struct, gc=False):
    s: str
    p: Number
    T: int
    t: int | None = None
    a: int | None = None


class _Candle(msgspec.Struct, gc=False):
    t: int
    T: int
    i: str
    o: Number
    h: Number
    l: Number  # noqa: E741 (the exchange's name)
    c: Number
    v: Number


class _Kline(msgspec.Struct, gc=False):
    E: int
    s: str
    k: _Candle


class _Depth(msgspec.Struct, gc=False):
    lastUpdateId: int  # noqa: N815 (the exchange's name)
    bids: list[tuple[Number, Number]]
    asks: list[tuple[Number, Number]]


class _Ticker(msgspec.Struct, gc=False):
    E: int
    s: str
    c: Number
    v: Number
    P: Finite | None = None
    o: Number | None = None


_head: Final = msgspec.json.Decoder(_Head)
_book_ticker: Final = msgspec.json.Decoder(_BookTicker, strict=False)
_trade: Final = msgspec.json.Decoder(_Trade, strict=False)
_depth: Final = msgspec.json.Decoder(_Depth, strict=False)
_kline: Final = msgspec.json.Decoder(_Kline, strict=False)
_ticker: Final = msgspec.json.Decoder(_Ticker, strict=False)


class BinanceParser:
    """Frames of Binance: bookTicker to Level1, trades and tickers to Price, klines to Ohlcv.

    Depth streams are counted, not used: bookTicker tells every change of the top by itself. A depth
    reply over REST gives its top.
    """

    def __init__(self, exchange: str = "binance") -> None:
        self.exchange = exchange
        self._settles = {"binanceusdm": "quote", "binancecoinm": "base"}.get(exchange, "")
        self._updates: dict[str, int] = {}
        self._trades: dict[tuple[str, bool], int] = {}
        self._trades_before: dict[tuple[str, bool], int] = {}
        self._kinds: dict[str, Callable[[msgspec.Raw | bytes, Frame], Parsed]] = {
            "bookTicker": self._on_book_ticker,
            "trade": self._on_trade,
            "aggTrade": self._on_trade,
            "kline": self._on_kline,
            "24hrTicker": self._on_ticker,
            "24hrMiniTicker": self._on_ticker,
            "depthUpdate": lambda body, frame: DEPTH,
        }

    def renew(self) -> None:
        """A new connection: numbers may begin anew; a hole in the trades since the last still shows."""
        self._updates = {}
        self._trades_before |= self._trades
        self._trades = {}

    def parse(self, frame: Frame) -> Parsed:
        """See `Parser.parse`."""
        try:
            head = _head.decode(frame.payload)
            body: msgspec.Raw | bytes = frame.payload
            if head.stream:
                body = head.data
                kind = _kind_of_stream(head.stream)
                handle = self._kinds.get(kind)
                if handle is None:
                    return self._by_event(_head.decode(body), body, frame)
                return handle(body, frame)
            return self._by_event(head, body, frame)
        except msgspec.DecodeError as error:
            return fault(error)
        except (ValueError, OverflowError, OSError) as error:
            return rejected(Reason.BAD_VALUE, f"time out of range: {error}")

    def _by_event(self, head: _Head, body: msgspec.Raw | bytes, frame: Frame) -> Parsed:
        if head.e:
            handle = self._kinds.get(head.e)
            return handle(body, frame) if handle else rejected(Reason.UNKNOWN, f"event {head.e!r}")
        if head.s and head.b and head.a:
            return self._on_book_ticker(body, frame)
        if head.lastUpdateId is not None:
            return self._on_depth_reply(frame)
        if head.error is not None or head.code is not None:
            return rejected(Reason.REFUSED, head.msg or frame.payload[:200].decode(errors="replace"))
        if head.id is not None or head.result is not None:
            return ACKNOWLEDGED
        if frame.url is not None and frame.payload.strip() == b"{}":
            return STATUS
        return rejected(Reason.UNKNOWN, "neither event nor reply")

    def _symbol(self, joined: str) -> str | None:
        pair, _, detail = joined.partition("_")
        symbol = split_joined(pair)
        if symbol is None or not self._settles:
            return symbol
        # `BTCUSDT`, `BTCUSD_PERP`; dated contracts as `BTCUSDT_240628`.
        settled = f"{symbol}:{symbol.split('/')[self._settles == 'quote']}"
        return f"{settled}-{detail}" if detail and detail != "PERP" else settled

    def _on_book_ticker(self, body: msgspec.Raw | bytes, frame: Frame) -> Parsed:
        quote = read(_book_ticker, body)
        symbol = self._symbol(quote.s)
        if symbol is None:
            return rejected(Reason.UNKNOWN_SYMBOL, quote.s)
        last = self._updates.get(symbol, -1)
        if quote.u <= last:
            return DUPLICATE if quote.u == last else OUT_OF_DATE
        self._updates[symbol] = quote.u
        if not (quote.b and quote.a):
            return ONE_SIDED
        received = from_ns(frame.received_ns)
        at = received if quote.T is None else from_ms(quote.T)
        return Parsed((Level1(self.exchange, symbol, quote.b, quote.a, quote.B, quote.A, at, received),))

    def _on_depth_reply(self, frame: Frame) -> Parsed:
        """The reply to `…/depth?symbol=BTCUSDT`; a frame without an address is of a partial stream."""
        name = (frame.url or "").partition("symbol=")[2].partition("&")[0]
        if not name:
            return DEPTH
        symbol, book = self._symbol(name), read(_depth, frame.payload)
        if symbol is None:
            return rejected(Reason.UNKNOWN_SYMBOL, name)
        if book.lastUpdateId < self._updates.get(symbol, -1):
            return OUT_OF_DATE
        if not (book.bids and book.asks):
            return ONE_SIDED
        self._updates[symbol] = book.lastUpdateId
        (bid, bid_size), (ask, ask_size) = book.bids[0], book.asks[0]
        received = from_ns(frame.received_ns)
        return Parsed((Level1(self.exchange, symbol, bid, ask, bid_size, ask_size, received, received),))

    def _on_trade(self, body: msgspec.Raw | bytes, frame: Frame) -> Parsed:
        trade = read(_trade, body)
        symbol = self._symbol(trade.s)
        if symbol is None:
            return rejected(Reason.UNKNOWN_SYMBOL, trade.s)
        number, gap = trade.t if trade.t is not None else trade.a, None
        if number is not None:
            stream = (symbol, trade.t is None)
            last = self._trades.get(stream)
            if last is None:
                # Lower than before the connection: the exchange counts anew.
                before = self._trades_before.pop(stream, None)
                last = before if before is not None and number >= before else None
            if last is not None and number <= last:
                return DUPLICATE if number == last else OUT_OF_DATE
            if last is not None and number > last + 1:
                gap = Gap(symbol, last + 1, number - 1)
            self._trades[stream] = number
        price = trade_price(self.exchange, symbol, trade.p, from_ms(trade.T))
        if isinstance(price, Reason):
            return Parsed((), (price,), f"trade price {trade.p}", gap)
        return Parsed((price,), gap=gap)

    def _on_kline(self, body: msgspec.Raw | bytes, frame: Frame) -> Parsed:
        event = read(_kline, body)
        symbol, candle = self._symbol(event.s), event.k
        if symbol is None:
            return rejected(Reason.UNKNOWN_SYMBOL, event.s)
        # The exchange names the last millisecond inside the candle; ours ends where the next begins.
        return Parsed(
            (
                Ohlcv(
                    self.exchange,
                    symbol,
                    candle.i,
                    from_ms(candle.t),
                    from_ms(candle.T + 1),
                    candle.o,
                    candle.h,
                    candle.l,
                    candle.c,
                    candle.v,
                    from_ms(event.E),
                ),
            )
        )

    def _on_ticker(self, body: msgspec.Raw | bytes, frame: Frame) -> Parsed:
        ticker = read(_ticker, body)
        symbol = self._symbol(ticker.s)
        if symbol is None:
            return rejected(Reason.UNKNOWN_SYMBOL, ticker.s)
        change = ticker.P
        if change is None and ticker.o:
            change = (ticker.c - ticker.o) / ticker.o * 100
        price = trade_price(self.exchange, symbol, ticker.c, from_ms(ticker.E), ticker.v, change)
        return rejected(price, ticker.s) if isinstance(price, Reason) else Parsed((price,))


def _kind_of_stream(stream: str) -> str:
    kind = stream.partition("@")[2].partition("@")[0]
    if kind.startswith("kline_"):
        return "kline"
    if kind == "miniTicker":
        return "24hrMiniTicker"
    return "24hrTicker" if kind == "ticker" else "depthUpdate" if kind.startswith("depth") else kind


def is_usdm(payload: bytes) -> bool:
    """Whether a frame of Binance has what only futures streams carry (event type in a bookTicker, `pu`)."""
    return b'"e":"bookTicker"' in payload or b'"pu":' in payload
