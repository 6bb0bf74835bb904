"""Parse the frames of all Binance segments, which differ in their instrument lists."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Final

import msgspec

from coinstream.feeds.exchanges.binance import frames
from coinstream.feeds.exchanges.parsing import collected, guarded, joined, percent
from coinstream.feeds.exchanges.quick import Quick, QuickParser, QuickTimes
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, InstrumentList
from coinstream.feeds.parser import ACKNOWLEDGED, STATUS, Frame, Gap, Parsed, from_ms, from_ns, read, rejected
from coinstream.messages import Level1, Message, Price, Trade

Body = msgspec.Raw | bytes
_SIDES: Final = {"1": "buy", "-1": "sell", "BUY": "buy", "SELL": "sell"}
_UNREAD: Final = frozenset(
    {"index", "indexPriceUpdate", "markPriceKline", "indexPriceKline", "continuous_kline", "compositeIndex",
     "contractInfo", "assetIndexUpdate", "openInterest", "avgPrice", "1hTicker", "4hTicker", "1dTicker",
     "optionTicker", "tradingSession", "referencePrice"}
)  # fmt: skip
"""Events without data for the message types."""


class BinanceParser(QuickParser):
    """Frames of Binance to all message types.

    bookTicker contains every change of the top of book, so depth streams produce only books.
    """

    quick_start = (b'{"u":', b'{"e":"bookTicker"')

    def __init__(
        self,
        exchange: str = "binance",
        instruments: InstrumentList | None = None,
        types: frozenset[str] | None = None,
        *,
        settle: str = "",
    ) -> None:
        super().__init__(exchange, InstrumentList() if instruments is None else instruments, types)
        self._settle = settle
        self._quick_time = QuickTimes()
        self._wants_quotes = self.state.wants("level1")
        self._updates: dict[str, int] = {}
        self._trades: dict[tuple[str, bool], int] = {}
        self._trades_before: dict[tuple[str, bool], int] = {}
        self._trade_streams: dict[str, bool] = {}
        self._kinds: dict[str, Callable[[Body, Frame], Parsed]] = {
            "bookTicker": self._on_book_ticker,
            "trade": self._on_trade,
            "aggTrade": self._on_trade,
            "kline": self._on_kline,
            "24hrTicker": self._on_ticker,
            "24hrMiniTicker": self._on_ticker,
            "depthUpdate": self._on_depth,
            "markPriceUpdate": self._on_mark_price,
            "markPrice": self._on_option_mark,
            "forceOrder": self._on_force_order,
        }

    def renew(self) -> None:
        """Start a new connection: update ids may start again, and a hole in the trades still shows."""
        super().renew()
        self._updates = {}
        self._trades_before |= self._trades
        self._trades = {}

    def read(self, frame: Frame) -> Parsed:
        """Route a frame by its event, in the form of a raw or a combined stream."""
        payload = frame.payload
        if payload[:1] == b"[":
            return self._array(payload, frame)
        head = frames.head.decode(payload)
        if head.stream:
            body = head.data
            if bytes(memoryview(body)[:1]) == b"[":
                return self._array(body, frame)
            return self._by_event(frames.head.decode(body), body, frame, head.stream)
        return self._by_event(head, payload, frame, "")

    def quick(self, payload: bytes, received: datetime) -> Quick:
        """See `QuickParser.quick`."""
        quote = frames.book_ticker.decode(payload)
        instrument = self.instruments.get(quote.s)
        if instrument is None or instrument.inverse or not (quote.a > quote.b > 0.0 and self._wants_quotes):
            return None
        symbol, size = instrument.symbol, instrument.contract_size
        if quote.u <= self._updates.get(symbol, -1):
            return None
        at = received if quote.T is None else self._quick_time(quote.T)
        self._updates[symbol] = quote.u
        return Level1(self.exchange, symbol, quote.b, quote.a, quote.B * size, quote.A * size, at, received)

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`."""
        return frames.instrument_named(name, self.instruments, self._settle)

    def _array(self, body: Body, frame: Frame) -> Parsed:
        """Read the entries of an all-market stream (`!miniTicker@arr`) one by one."""
        return joined(
            guarded(lambda row=row: self._by_event(frames.head.decode(row), row, frame, ""))  # type: ignore[misc]
            for row in frames.rows.decode(body)
        )

    def _by_event(self, head: frames.EventHead, body: Body, frame: Frame, stream: str) -> Parsed:
        kind = head.e or frames.kind_of_stream(stream)
        handle = self._kinds.get(kind)
        if handle is not None and (head.e or kind != "depthUpdate"):
            return handle(body, frame)
        if kind in _UNREAD:
            return rejected(Reason.OTHER_CHANNEL, f"event {kind!r}")
        if head.lastUpdateId is not None:
            return self._on_snapshot(body, frame, head.symbol or frames.symbol_of(frame.url, stream))
        if head.e:
            return rejected(Reason.UNKNOWN, f"event {head.e!r}")
        if head.s and head.b and head.a:
            return self._on_book_ticker(body, frame)
        if head.error is not None or head.code is not None:
            return rejected(Reason.REFUSED, head.msg or bytes(body)[:200].decode(errors="replace"))
        if head.id is not None or head.result is not None:
            return ACKNOWLEDGED
        if frame.url is not None and bytes(body).strip() == b"{}":
            return STATUS
        return rejected(Reason.UNKNOWN, f"stream {stream!r}" if stream else "neither event nor reply")

    # Quotes and books

    def _on_book_ticker(self, body: Body, frame: Frame) -> Parsed:
        quote = read(frames.book_ticker, body)
        instrument = self.instrument(quote.s)
        if not self.state.wants("level1"):
            return rejected(Reason.NOT_WANTED)
        last = self._updates.get(instrument.symbol, -1)
        if quote.u <= last:
            return rejected(Reason.DUPLICATE if quote.u == last else Reason.OUT_OF_DATE)
        self._updates[instrument.symbol] = quote.u
        if not (quote.b and quote.a):
            return rejected(Reason.ONE_SIDED)
        received = from_ns(frame.received_ns)
        at = received if quote.T is None else from_ms(quote.T)
        sizes = instrument.base_size(quote.B, quote.b), instrument.base_size(quote.A, quote.a)
        top = (quote.b, quote.a, sizes[0] or 0.0, sizes[1] or 0.0)
        return Parsed((Level1(self.exchange, instrument.symbol, *top, at, received),))

    def _on_depth(self, body: Body, frame: Frame) -> Parsed:
        change = read(frames.depth, body)
        instrument = self.instrument(change.s)
        received = from_ns(frame.received_ns)
        told = change.T or change.E
        found = self.state.book_change(
            *("depth", instrument, change.b, change.a),
            from_ms(told) if told else received,
            received,
            first=change.U if change.pu is None else change.pu + 1,
            last=change.u,
        )
        kept = [Reason.DEPTH if isinstance(item, Level1) else item for item in found]
        books = [item for item in kept if not isinstance(item, Reason)]
        return collected(books or kept or [Reason.DEPTH])

    def _on_snapshot(self, body: Body, frame: Frame, name: str) -> Parsed:
        """Read the reply to `/depth?symbol=BTCUSDT`, or a frame of a partial depth stream."""
        if not name:
            return rejected(Reason.DEPTH)
        instrument, book = self.instrument(name), read(frames.snapshot, body)
        if book.lastUpdateId < self._updates.get(instrument.symbol, -1) and frame.url is None:
            return rejected(Reason.OUT_OF_DATE)
        received = from_ns(frame.received_ns)
        told = book.T or book.E
        at = from_ms(told) if told else received
        channel = "depth" if frame.url is not None else "partial"
        return collected(
            self.state.book_snapshot(
                *(channel, instrument, book.bids, book.asks, at, received), sequence=book.lastUpdateId
            )
        )

    # Trades

    def _on_trade(self, body: Body, frame: Frame) -> Parsed:
        trade = read(frames.trade, body)
        symbol = self.instrument(trade.s).symbol
        is_aggregate = trade.e == "aggTrade" or trade.t is None
        number = trade.a if is_aggregate else trade.t
        gap, repeat = self._numbered(symbol, is_aggregate, number)
        if repeat is not None:
            return rejected(repeat)
        return collected(self._trade(trade, number, is_aggregate, from_ns(frame.received_ns)), gap)

    def _numbered(
        self, symbol: str, is_aggregate: bool, number: int | None
    ) -> tuple[Gap | None, Reason | None]:
        if number is None:
            return None, None
        stream, gap = (symbol, is_aggregate), None
        last = self._trades.get(stream)
        if last is None:
            # Lower than before the connection: the exchange counts again from a lower number.
            before = self._trades_before.pop(stream, None)
            last = before if before is not None and number >= before else None
        if last is not None and number <= last:
            return None, Reason.DUPLICATE if number == last else Reason.OUT_OF_DATE
        if last is not None and number > last + 1:
            gap = Gap(symbol, last + 1, number - 1, "trades")
        self._trades[stream] = number
        return gap, None

    def _trade(
        self, told: frames.TradeEvent, number: int | None, is_aggregate: bool, received: datetime
    ) -> Iterator[Message | Reason]:
        if not told.p > 0:
            yield Reason.NO_PRICE
            return
        instrument, at = self.instrument(told.s), from_ms(told.T)
        # An exchange may stream single and aggregate trades of one symbol: only one of both is published.
        is_first = self._trade_streams.setdefault(instrument.symbol, is_aggregate) == is_aggregate
        wants_trade = self.state.wants("trade") and is_first
        size = instrument.base_size(told.q, told.p)
        if wants_trade and not size:
            yield Reason.NO_TRADE_SIZE
        elif wants_trade and size:
            side = _SIDES.get(str(told.S)) if told.m is None else "sell" if told.m else "buy"
            yield Trade(
                exchange_id=self.exchange,
                symbol=instrument.symbol,
                trade_id=None if number is None else str(number),
                trade_price=told.p,
                size=size,
                side=side,  # type: ignore[arg-type]
                timestamp=at,
                last_updated=received,
            )
        if self.state.wants("price") and instrument.is_in_dollars:
            yield Price(self.exchange, instrument.symbol, told.p, at)
        elif not wants_trade:
            yield Reason.NOT_WANTED if not self.state.wants("price") else Reason.NOT_DOLLARS

    # Candles, tickers and derivatives

    def _on_kline(self, body: Body, frame: Frame) -> Parsed:
        event = read(frames.kline, body)
        instrument, candle = self.instrument(event.s), event.k
        volume = candle.q if instrument.inverse else candle.v
        prices = (candle.o, candle.h, candle.l, candle.c)
        made = self.state.candle(instrument, candle.i, from_ms(candle.t), prices, volume, from_ms(event.E))
        return collected([made])

    def _on_ticker(self, body: Body, frame: Frame) -> Parsed:
        ticker = read(frames.ticker, body)
        instrument = self.instrument(ticker.s)
        change = ticker.P if ticker.P is not None else percent(ticker.c, ticker.o)
        volume = ticker.q if instrument.inverse else ticker.v
        at, received = from_ms(ticker.E), from_ns(frame.received_ns)
        return collected([self.state.ticker(instrument, ticker.c, at, received, volume, change)])

    def _on_mark_price(self, body: Body, frame: Frame) -> Parsed:
        told = read(frames.mark_price, body)
        instrument = self.instrument(told.s)
        is_funded = instrument.kind == "swap"
        made = self.state.derivative(
            instrument,
            from_ms(told.E),
            from_ns(frame.received_ns),
            mark_price=told.p,
            index_price=told.i or None,
            funding_rate=told.r if is_funded else None,
            next_funding_time=from_ms(told.T) if is_funded and told.T else None,
        )
        return collected([made])

    def _on_option_mark(self, body: Body, frame: Frame) -> Parsed:
        told = read(frames.option_mark, body)
        at, received = from_ms(told.E), from_ns(frame.received_ns)
        figures = {"mark_price": told.mp, "index_price": told.i or None}
        return collected([self.state.derivative(self.instrument(told.s), at, received, **figures)])

    def _on_force_order(self, body: Body, frame: Frame) -> Parsed:
        order = read(frames.force_order, body).o
        side = _SIDES.get(order.S)
        if side is None:
            return rejected(Reason.BAD_VALUE, f"side {order.S!r}")
        made = self.state.liquidation(
            self.instrument(order.s),
            order.ap or order.p,
            order.z or order.q,
            side,  # type: ignore[arg-type]
            from_ms(order.T),
            from_ns(frame.received_ns),
        )
        return collected([made])
