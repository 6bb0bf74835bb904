"""Keep the state of each market of one exchange and convert its data to messages.

Duplicates and data older than published messages are refused, deltas are merged with the last values, and
sizes in contracts are converted to base currency.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from coinstream.feeds.exchanges.candles import closing_time
from coinstream.feeds.exchanges.order_book import BookChange, BookGap, Levels, OrderBook
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Gap
from coinstream.messages import Book, DerivativeTicker, Level1, Liquidation, Message, Ohlcv, Price, Trade

Side = Literal["buy", "sell"]

CLOCK_TOLERANCE: Final = timedelta(seconds=10)
"""Maximum time ahead of the receipt time for an exchange's time to count as the newest."""
BOOK_DEPTH: Final = 20
"""Levels per side of a `Book` message."""
BOOK_INTERVAL: Final = timedelta(milliseconds=100)
"""Minimum interval between two `Book` messages of one symbol."""
_IDS_KEPT: Final = 512
_DERIVATIVE: Final = (
    *("mark_price", "index_price", "last_price", "funding_rate", "next_funding_time", "open_interest"),
)


class MarketState:
    """Last quote, price, trade, book and contract figures of each symbol of one exchange.

    Args:
        exchange: `exchangeId` of the messages.
        types: message types to produce; None for all.
        book_depth: see `BOOK_DEPTH`.
        book_interval: see `BOOK_INTERVAL`.
    """

    def __init__(
        self,
        exchange: str,
        types: frozenset[str] | None = None,
        book_depth: int = BOOK_DEPTH,
        book_interval: timedelta = BOOK_INTERVAL,
    ) -> None:
        self.exchange = exchange
        self._types = types
        self._wants_quotes = types is None or "level1" in types
        self._depth, self._interval = book_depth, book_interval
        self._books: dict[tuple[str, str], OrderBook] = {}
        self._book_sent: dict[tuple[str, str], datetime] = {}
        self._quotes: dict[str, tuple[tuple[float, ...], datetime, str]] = {}
        self._prices: dict[str, tuple[Any, ...]] = {}
        self._price_times: dict[str, datetime] = {}
        self._numbers: dict[str, int] = {}
        self._ids: dict[str, dict[str, None]] = {}
        self._derivatives: dict[str, dict[str, Any]] = {}

    def wants(self, name: str) -> bool:
        """Return whether messages of this type are to be produced."""
        return self._types is None or name in self._types

    def renew(self) -> None:
        """Clear the books of a closed connection. Trade numbers are kept, to detect duplicates."""
        self._books.clear()

    # Quotes and prices

    def quote(
        self,
        instrument: Instrument,
        bid: float | None,
        ask: float | None,
        bid_size: float | None,
        ask_size: float | None,
        at: datetime,
        received: datetime,
        channel: str = "",
    ) -> Level1 | Reason:
        """Return the best bid and ask, or the reason why there is no quote. Sizes are in the exchange's unit.

        Args:
            instrument: instrument of the quote.
            bid: best bid price.
            ask: best ask price.
            bid_size: size at the bid.
            ask_size: size at the ask.
            at: time of the exchange; None if it sends none.
            received: receipt time.
            channel: stream of the quote; a quote of another stream that is older than the last is refused.
        """
        if not self._wants_quotes:
            return Reason.NOT_WANTED
        if not (bid and ask):
            return Reason.ONE_SIDED
        if bid_size is None or ask_size is None:
            return Reason.NO_SIZES
        if instrument.inverse or instrument.contract_size != 1.0:
            bid_size = instrument.base_size(bid_size, bid) or 0.0
            ask_size = instrument.base_size(ask_size, ask) or 0.0
        top = (bid, ask, bid_size, ask_size)
        symbol = instrument.symbol
        last = self._quotes.get(symbol)
        if last is not None:
            if last[0] == top:
                return Reason.TOP_UNCHANGED
            if channel != last[2] and at < last[1]:
                return Reason.OUT_OF_DATE
        mark = at
        # Add the times only if necessary: the addition costs as much as the lookup.
        if at > received and at > received + CLOCK_TOLERANCE:
            mark = last[1] if last else received
        self._quotes[symbol] = (top, mark, channel)
        return Level1(self.exchange, symbol, bid, ask, bid_size, ask_size, at, received)

    def ticker(
        self,
        instrument: Instrument,
        price: float | None,
        at: datetime | None,
        received: datetime,
        volume_24h: float | None = None,
        change_24h: float | None = None,
    ) -> Price | Reason:
        """Return the price of a ticker, or a reason: repeated, older, zero or not in dollars.

        Args:
            volume_24h: in base currency; None if the exchange sends none.
            change_24h: in per cent.
        """
        if not self.wants("price"):
            return Reason.NOT_WANTED
        if not price:
            return Reason.NO_PRICE
        if not instrument.is_in_dollars:
            return Reason.NOT_DOLLARS
        symbol = instrument.symbol
        news = (at, price, volume_24h, change_24h)
        if self._prices.get(symbol) == news:
            return Reason.DUPLICATE
        if at is not None:
            newest = self._price_times.get(symbol)
            if newest is not None and at < newest:
                return Reason.OUT_OF_DATE
            if at <= received + CLOCK_TOLERANCE:
                self._price_times[symbol] = at
        self._prices[symbol] = news
        return Price(self.exchange, symbol, price, at or received, volume_24h, change_24h)

    # Trades

    def trade(
        self,
        instrument: Instrument,
        price: float,
        contracts: float,
        at: datetime,
        received: datetime,
        *,
        side: Side | None = None,
        trade_id: str | None = None,
        sequence: int | None = None,
        consecutive: bool = False,
        unique_id: bool = True,
    ) -> Iterator[Message | Reason | Gap]:
        """Yield a trade as `Trade` and, if in dollars, as `Price`; or a reason. Pass trades oldest first.

        Args:
            contracts: size in the exchange's unit, converted to base currency by the instrument.
            side: side of the taker.
            trade_id: the exchange's id of the trade; duplicates are refused.
            sequence: number that increases per symbol; older ones are refused.
            consecutive: whether numbers increase by one, so that a missing number is a gap.
            unique_id: whether no other trade of the symbol has the same `trade_id`.
        """
        repeat = self._repeat(instrument.symbol, trade_id if unique_id else None, sequence)
        if repeat is not None:
            yield repeat
            return
        if not price > 0:
            yield Reason.NO_PRICE
            return
        if sequence is not None:
            before = self._numbers.get(instrument.symbol)
            if consecutive and before is not None and sequence > before + 1:
                yield Gap(instrument.symbol, before + 1, sequence - 1)
            self._numbers[instrument.symbol] = sequence
        sent = False
        if self.wants("trade"):
            sent = True
            size = instrument.base_size(contracts, price) or 0.0
            yield Trade(
                exchange_id=self.exchange,
                symbol=instrument.symbol,
                trade_price=price,
                size=size,
                timestamp=at,
                last_updated=received,
                trade_id=trade_id or (None if sequence is None else str(sequence)),
                side=side,
            )
        if self.wants("price") and instrument.is_in_dollars:
            yield Price(self.exchange, instrument.symbol, price, at)
        elif not sent:
            yield Reason.NOT_WANTED if not self.wants("price") else Reason.NOT_DOLLARS

    def _repeat(self, symbol: str, trade_id: str | None, sequence: int | None) -> Reason | None:
        if sequence is not None:
            before = self._numbers.get(symbol)
            if before is not None and sequence <= before:
                return Reason.DUPLICATE if sequence == before else Reason.OUT_OF_DATE
            return None
        if trade_id is None:
            return None
        known = self._ids.setdefault(symbol, {})
        if trade_id in known:
            return Reason.DUPLICATE
        known[trade_id] = None
        if len(known) > _IDS_KEPT:
            del known[next(iter(known))]
        return None

    # Books

    def order_book(self, channel: str, instrument: Instrument, depth: int | None = None) -> OrderBook:
        """Return the book of one channel and symbol, initially empty.

        Args:
            depth: see `OrderBook`.
        """
        key = (channel, instrument.symbol)
        found = self._books.get(key)
        if found is None:
            found = self._books[key] = OrderBook(depth)
        elif depth is not None:
            found.depth = depth
        return found

    def unsynced(self) -> list[str]:
        """Return the symbols of books that wait for a snapshot."""
        return list(dict.fromkeys(symbol for (_, symbol), book in self._books.items() if not book.is_synced))

    def book_snapshot(
        self,
        channel: str,
        instrument: Instrument,
        bids: Levels,
        asks: Levels,
        at: datetime,
        received: datetime,
        *,
        sequence: int = -1,
        depth: int | None = None,
    ) -> Iterator[Message | Reason | Gap]:
        """Replace a book and yield its quote and levels, or a reason."""
        book = self.order_book(channel, instrument, depth)
        if not book.replace(bids, asks, sequence):
            yield Reason.SNAPSHOT_STALE
            return
        yield from self._of_book(channel, instrument, book, at, received)

    def book_change(
        self,
        channel: str,
        instrument: Instrument,
        bids: Levels,
        asks: Levels,
        at: datetime,
        received: datetime,
        *,
        first: int | None = None,
        last: int | None = None,
    ) -> Iterator[Message | Reason | Gap]:
        """Apply a change to a book and yield its quote and levels, or a reason.

        Args:
            first: lowest sequence number of the change; None if the exchange sends only `last`.
            last: highest sequence number of the change; None if changes have no numbers.
        """
        book = self.order_book(channel, instrument)
        if last is None:
            if not book.is_synced:
                yield Reason.BOOK_UNSYNCED
                return
            book.apply(bids, asks)
        else:
            outcome = book.change(BookChange(first, last, bids, asks))
            if isinstance(outcome, BookGap):
                yield Gap(instrument.symbol, outcome.first, outcome.last)
                outcome = None
            if not outcome:
                yield Reason.BOOK_UNSYNCED if outcome is None else Reason.OUT_OF_DATE
                return
        yield from self._of_book(channel, instrument, book, at, received)

    def _of_book(
        self, channel: str, instrument: Instrument, book: OrderBook, at: datetime, received: datetime
    ) -> Iterator[Message | Reason]:
        bid, ask, bid_size, ask_size = book.top
        quote = self.quote(instrument, bid, ask, bid_size, ask_size, at, received, channel)
        levels = self._levels(channel, instrument, book, at, received)
        if levels is not None:
            yield levels
        if levels is None or not isinstance(quote, Reason):
            yield quote

    def _levels(
        self, channel: str, instrument: Instrument, book: OrderBook, at: datetime, received: datetime
    ) -> Book | None:
        if not self.wants("book"):
            return None
        key = (channel, instrument.symbol)
        sent = self._book_sent.get(key)
        if sent is not None and timedelta(0) <= received - sent < self._interval:
            return None
        self._book_sent[key] = received
        bids, asks = book.best(self._depth)
        if not (bids or asks):
            return None
        return Book(
            exchange_id=self.exchange,
            symbol=instrument.symbol,
            bids=[(price, instrument.base_size(size, price) or 0.0) for price, size in bids],
            asks=[(price, instrument.base_size(size, price) or 0.0) for price, size in asks],
            depth=self._depth,
            timestamp=at,
            last_updated=received,
            sequence=book.sequence if book.sequence >= 0 else None,
        )

    # Derivatives

    def derivative(
        self, instrument: Instrument, at: datetime, received: datetime, **figures: Any
    ) -> DerivativeTicker | Reason:
        """Return the contract figures of a symbol, merged with earlier ones.

        Args:
            figures: `mark_price`, `index_price`, `last_price`, `funding_rate` (a fraction),
                `next_funding_time` (datetime) and `open_interest` (base currency); None keeps the last value.
        """
        if not self.wants("derivativeticker"):
            return Reason.NOT_WANTED
        known = self._derivatives.setdefault(instrument.symbol, {})
        news = {name: figures[name] for name in _DERIVATIVE if figures.get(name) is not None}
        if not news.keys() - {name for name, value in news.items() if known.get(name) == value}:
            return Reason.DUPLICATE if "mark_price" in known else Reason.INCOMPLETE
        known.update(news)
        if not known.get("mark_price"):
            return Reason.INCOMPLETE
        return DerivativeTicker(
            exchange_id=self.exchange,
            symbol=instrument.symbol,
            timestamp=at,
            last_updated=received,
            **known,
        )

    def liquidation(
        self,
        instrument: Instrument,
        price: float,
        contracts: float,
        side: Side,
        at: datetime,
        received: datetime,
        order_id: str | None = None,
    ) -> Liquidation | Reason:
        """Return a liquidation. `side` is that of the liquidation order."""
        if not self.wants("liquidation"):
            return Reason.NOT_WANTED
        if not price > 0:
            return Reason.NO_PRICE
        return Liquidation(
            exchange_id=self.exchange,
            symbol=instrument.symbol,
            liquidation_price=price,
            size=instrument.base_size(contracts, price) or 0.0,
            side=side,
            timestamp=at,
            last_updated=received,
            order_id=order_id,
        )

    # Candles

    def candle(
        self,
        instrument: Instrument,
        timeframe: str,
        opened: datetime,
        prices: tuple[float, float, float, float],
        volume: float,
        received: datetime,
    ) -> Ohlcv | Reason:
        """Return a candle.

        Args:
            timeframe: `1m`, `1h`, `1d`, `1w`, `1M`.
            prices: open, high, low, close.
            volume: in base currency; convert contracts first.
        """
        if not self.wants("ohlcv"):
            return Reason.NOT_WANTED
        if not all(prices):
            return Reason.NO_PRICE
        closes = closing_time(opened, timeframe)
        return Ohlcv(self.exchange, instrument.symbol, timeframe, opened, closes, *prices, volume, received)
