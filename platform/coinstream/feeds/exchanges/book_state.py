"""Keep the books of each symbol of one exchange and convert them to quotes and snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from coinstream.feeds.exchanges.order_book import BookChange, BookGap, Levels, OrderBook
from coinstream.feeds.exchanges.quote_state import QuoteState
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Gap
from coinstream.messages import Book, Message


class BookLimits(NamedTuple):
    """Limits of `Book` messages.

    Attributes:
        interval_ms: minimum interval between two messages of one symbol.
        depth: maximum levels per side.
    """

    interval_ms: float = 100.0
    depth: int = 20


BOOK_LIMITS: Final = BookLimits()
"""Limits by default."""


class BookState(QuoteState):
    """Books of each channel and symbol."""

    def __init__(self, exchange: str, types: frozenset[str] | None = None) -> None:
        super().__init__(exchange, types)
        self.limit_books(BOOK_LIMITS)
        self._books: dict[tuple[str, str], OrderBook] = {}
        self._book_sent: dict[tuple[str, str], datetime] = {}

    def limit_books(self, limits: BookLimits) -> None:
        """Set the limits of `Book` messages."""
        self._interval, self._depth = timedelta(milliseconds=limits.interval_ms), limits.depth

    def renew(self) -> None:
        """Clear the books of a closed connection."""
        self._books.clear()

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
