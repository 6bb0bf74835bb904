"""Parse the frames of Kraken spot, v1 and v2."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta
from typing import Final

import msgspec

from coinstream.feeds.exchanges.kraken import frames
from coinstream.feeds.exchanges.kraken.frames import TextLevel, book_checksum
from coinstream.feeds.exchanges.order_book import TextBook
from coinstream.feeds.exchanges.parsing import Found, collected, guarded, joined, number, percent
from coinstream.feeds.exchanges.quick import Quick, QuickParser
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, InstrumentList, spot
from coinstream.feeds.parser import (
    ACKNOWLEDGED,
    HEARTBEAT,
    STATUS,
    Frame,
    Gap,
    Parsed,
    from_ms,
    from_ns,
    read,
    rejected,
)
from coinstream.messages import Message

DEPTHS: Final = (10, 25, 100, 500, 1000)
"""Depths of a book that a client may subscribe to."""
_STATUSES: Final = frozenset({"systemStatus", "status", "instrument"})
_UNREAD: Final = frozenset({"level3", "executions", "balances"})
_SIDES: Final = {"b": "buy", "s": "sell", "buy": "buy", "sell": "sell"}


class KrakenParser(QuickParser):
    """Frames of Kraken: tickers, books, spreads, trades and candles."""

    quick_start = b'{"channel":"ticker"'

    def __init__(
        self, exchange: str, instruments: InstrumentList, types: frozenset[str] | None = None
    ) -> None:
        super().__init__(exchange, instruments, types)
        # A quote is reason enough for a ticker: its price counts as unwanted only where quotes are, too.
        self._wants_prices = self.state.wants("price") or not self.state.wants("level1")
        self._tickers: dict[str, frames.Ticker2] = {}
        self._checked: dict[str, TextBook] = {}
        self._depths: dict[str, int] = {}

    def renew(self) -> None:
        """See `ExchangeParser.renew`."""
        super().renew()
        self._tickers.clear()
        self._checked.clear()

    def unlisted(self, name: str) -> Instrument | None:
        """Return the market of a name with a slash, which says what is base and what is quote."""
        base, slash, quote = name.partition("/")
        return spot(name, base, quote) if base and slash and quote and "/" not in quote else None

    def read(self, frame: Frame) -> Parsed:
        """Route a frame: arrays are v1, objects are v2, events or REST replies."""
        if frame.payload.lstrip()[:1] == b"[":
            return self._array(frame)
        head = frames.head.decode(frame.payload)
        if head.channel:
            return self._channel(head, frame)
        if head.event in ("heartbeat", "pong") or head.method == "pong":
            return HEARTBEAT
        if head.event in _STATUSES:
            return STATUS
        if head.event == "subscriptionStatus" or head.method:
            if head.status == "error" or head.success is False:
                return rejected(Reason.REFUSED, head.errorMessage or str(head.error))
            self._note_depth(head)
            return ACKNOWLEDGED
        if frame.url is not None:
            return self._reply(head, frame)
        if head.error or head.event == "error":
            return rejected(Reason.REFUSED, head.errorMessage or str(head.error))
        return rejected(Reason.UNKNOWN, f"event {head.event!r}")

    def _note_depth(self, head: frames.ChannelHead) -> None:
        if head.method == "subscribe" and bytes(head.result):
            told = frames.subscription.decode(head.result)
            if told.channel == "book" and told.depth > 0:
                self._depths[told.symbol] = told.depth

    # Version 1

    def _array(self, frame: Frame) -> Parsed:
        parts = frames.array.decode(frame.payload)
        if len(parts) < 4:
            return rejected(Reason.BAD_VALUE, "an array of fewer than four parts")
        channel, pair = frames.text.decode(parts[-2]), frames.text.decode(parts[-1])
        kind, _, detail = channel.partition("-")
        instrument, received = self.instrument(pair), from_ns(frame.received_ns)
        match kind:
            case "ticker":
                return collected(self._ticker1(instrument, parts[1], received))
            case "book":
                return self._book1(instrument, parts[1:-2], int(detail or 10), received)
            case "trade":
                rows = frames.array.decode(parts[1])
                return _each(rows, lambda row: self._trade1(instrument, row, received))
            case "ohlc":
                return collected(self._candle1(instrument, parts[1], int(detail or 1)))
            case "spread":
                return collected(self._spread1(instrument, parts[1], received))
        return rejected(Reason.UNKNOWN, f"channel {kind!r}")

    def _ticker1(self, instrument: Instrument, body: msgspec.Raw, received: datetime) -> Found:
        told = read(frames.ticker1, body)
        last, change = told.c[0], percent(told.c[0], told.o[1] if told.o else None)
        quote = (told.b[0], told.a[0], told.b[2], told.a[2])
        yield self.state.quote(instrument, *quote, received, received)
        yield self.state.ticker(instrument, last, None, received, told.v[1], change)

    def _trade1(self, instrument: Instrument, row: msgspec.Raw, received: datetime) -> Found:
        told = read(frames.trade1, row)
        at = from_ms(told.time * 1000)
        side = _SIDES.get(told.side)
        return self.state.trade(instrument, told.price, told.size, at, received, side=side)  # type: ignore[arg-type]

    def _candle1(self, instrument: Instrument, body: msgspec.Raw, minutes: int) -> Found:
        told = read(frames.candle1, body)
        opened = from_ms(told.end * 1000) - timedelta(minutes=minutes)
        prices, at = (told.open, told.high, told.low, told.close), from_ms(told.time * 1000)
        yield self.state.candle(instrument, frames.timeframe_of(minutes), opened, prices, told.volume, at)

    def _spread1(self, instrument: Instrument, body: msgspec.Raw, received: datetime) -> Found:
        told = read(frames.spread1, body)
        quote = (told.bid, told.ask, told.bid_size, told.ask_size)
        yield self.state.quote(instrument, *quote, from_ms(told.time * 1000), received, "spread")

    def _book1(
        self, instrument: Instrument, bodies: list[msgspec.Raw], depth: int, received: datetime
    ) -> Parsed:
        updates = [read(frames.book1, body) for body in bodies if bytes(body) != b"null"]
        checksum = next((update.c for update in updates if update.c is not None), None)
        is_snapshot = any(update.as_ is not None or update.bs is not None for update in updates)
        bids = [(one.price, one.size) for update in updates for one in (update.bs or update.b)]
        asks = [(one.price, one.size) for update in updates for one in (update.as_ or update.a)]
        channel = f"book-{depth}"
        wanted = int(checksum) if checksum is not None else None
        return collected(
            self._book(channel, instrument, bids, asks, depth, wanted, received, received, whole=is_snapshot)
        )

    # Version 2

    def _channel(self, head: frames.ChannelHead, frame: Frame) -> Parsed:
        received = from_ns(frame.received_ns)
        if head.channel == "heartbeat":
            return HEARTBEAT
        if head.channel in _STATUSES:
            return STATUS
        if head.channel in _UNREAD:
            return rejected(Reason.OTHER_CHANNEL, head.channel)
        entries: dict[str, Callable[[msgspec.Raw], Found]] = {
            "ticker": lambda row: self._ticker(read(frames.ticker2, row), received),
            "book": lambda row: self._book2(row, received, whole=head.type == "snapshot"),
            "trade": lambda row: self._trade2(row, received),
            "ohlc": lambda row: self._candle2(row, received),
        }
        entry = entries.get(head.channel)
        if entry is None:
            return rejected(Reason.UNKNOWN, f"channel {head.channel!r}")
        return _each(frames.array.decode(head.data), entry)

    def quick(self, payload: bytes, received: datetime) -> Quick:
        """See `QuickParser.quick`."""
        told = frames.ticker_frame.decode(payload).data[0]
        name, bid, ask, at = told.symbol, told.bid, told.ask, told.timestamp
        instrument = self.instruments.by_id.get(name)
        if instrument is None or bid is None or ask is None or bid >= ask or told.volume is None:
            return None
        if at is None:
            at = received
        elif at.year <= 1970:
            return None
        self._tickers[name] = told
        quote = self.state.quote(instrument, bid, ask, told.bid_qty, told.ask_qty, at, received)
        if not self._wants_prices or told.last is None:
            return quote
        figures = told.volume, told.change_pct
        return quote, self.state.ticker(instrument, told.last, told.timestamp, received, *figures)

    def _ticker(self, told: frames.Ticker2, received: datetime) -> Iterator[Message | Reason]:
        instrument = self.instrument(told.symbol)
        is_priced = told.last is not None and self._wants_prices
        full = self._completed(told)
        at = told.timestamp if told.timestamp is not None and told.timestamp.year > 1970 else None
        yield self.state.quote(
            instrument, full.bid, full.ask, full.bid_qty, full.ask_qty, at or received, received
        )
        if is_priced:
            yield self.state.ticker(instrument, full.last, at, received, full.volume, full.change_pct)

    def _completed(self, told: frames.Ticker2) -> frames.Ticker2:
        """Complete an update with the values of earlier ones."""
        before = self._tickers.get(told.symbol)
        if before is not None and (told.bid is None or told.ask is None or told.volume is None):
            for name in ("bid", "bid_qty", "ask", "ask_qty", "volume", "change_pct"):
                if getattr(told, name) is None:
                    setattr(told, name, getattr(before, name))
        self._tickers[told.symbol] = told
        return told

    def _book2(self, row: msgspec.Raw, received: datetime, *, whole: bool) -> Found:
        told = read(frames.book2, row)
        bids = [(frames.text_of(one.price), frames.text_of(one.qty)) for one in told.bids]
        asks = [(frames.text_of(one.price), frames.text_of(one.qty)) for one in told.asks]
        if whole and told.symbol not in self._depths:
            size = max(len(bids), len(asks), 1)
            self._depths[told.symbol] = next((depth for depth in DEPTHS if depth >= size), size)
        return self._book(
            *("book", self.instrument(told.symbol), bids, asks, self._depths.get(told.symbol, DEPTHS[0])),
            *(told.checksum, told.timestamp or received, received),
            whole=whole,
        )

    def _trade2(self, row: msgspec.Raw, received: datetime) -> Found:
        told = read(frames.trade2, row)
        return self.state.trade(
            *(self.instrument(told.symbol), told.price, told.qty, told.timestamp, received),
            side=_SIDES.get(told.side),  # type: ignore[arg-type]
            sequence=told.trade_id,
            consecutive=True,
        )

    def _candle2(self, row: msgspec.Raw, received: datetime) -> Found:
        told = read(frames.candle2, row)
        timeframe, prices = frames.timeframe_of(told.interval), (told.open, told.high, told.low, told.close)
        instrument = self.instrument(told.symbol)
        yield self.state.candle(instrument, timeframe, told.interval_begin, prices, told.volume, received)

    # Books of both versions

    def _book(
        self,
        channel: str,
        instrument: Instrument,
        bids: list[TextLevel],
        asks: list[TextLevel],
        depth: int,
        checksum: int | None,
        at: datetime,
        received: datetime,
        *,
        whole: bool,
    ) -> Found:
        levels = [(number(price), number(size)) for price, size in bids]
        more = [(number(price), number(size)) for price, size in asks]
        key = f"{channel} {instrument.symbol}"
        book = self.state.order_book(channel, instrument, depth)
        if whole:
            self._checked[key] = TextBook(depth)
            self._checked[key].apply(bids, asks)
            yield from self.state.book_snapshot(channel, instrument, levels, more, at, received, depth=depth)
            return
        checked = self._checked.get(key)
        if checked is not None:
            checked.apply(bids, asks)
        # The change is applied before it is verified: the checksum is that of the book after it.
        found = list(self.state.book_change(channel, instrument, levels, more, at, received))
        if checksum is None or checked is None or not book.is_synced or book_checksum(checked) == checksum:
            yield from found
            return
        book.unsync()
        yield Gap(instrument.symbol, -1, -1)
        yield Reason.CHECKSUM

    def _reply(self, head: frames.ChannelHead, frame: Frame) -> Parsed:
        if head.error:
            return rejected(Reason.REFUSED, str(head.error))
        if "/Depth" not in (frame.url or ""):
            return STATUS
        return joined(
            guarded(lambda pair=pair, book=book: collected(self._rest_book(pair, book, frame)))  # type: ignore[misc]
            for pair, book in read(frames.books, head.result).items()
        )

    def _rest_book(self, pair: str, told: frames.RestBook, frame: Frame) -> Found:
        received = from_ns(frame.received_ns)
        bids = [(level.price, level.size) for level in told.bids]
        asks = [(level.price, level.size) for level in told.asks]
        yield from self.state.book_snapshot("rest", self.instrument(pair), bids, asks, received, received)


def _each(rows: Iterable[msgspec.Raw], entry: Callable[[msgspec.Raw], Found]) -> Parsed:
    return joined(guarded(lambda row=row: collected(entry(row))) for row in rows)  # type: ignore[misc]
