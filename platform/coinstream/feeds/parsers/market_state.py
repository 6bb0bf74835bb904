"""What parsers remember of each symbol: its book, its last quote, its last price."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import msgspec

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import Frame, Gap, Number, Parsed, fault, rejected, trade_price
from coinstream.messages import Level1, Message, Price

CLOCK_TOLERANCE: Final = timedelta(seconds=10)
"""How far ahead of the receipt time a price's time may be and still count as the newest seen."""
MAX_PENDING: Final = 2_000
"""Changes of one book kept until its snapshot comes; older ones are let go."""


class Level(msgspec.Struct, array_like=True, gc=False):
    """One price level as exchanges write it: price, size, and whatever follows."""

    price: Number
    size: Number


class Change(NamedTuple):
    """One numbered change of a book: the numbers it covers and the new levels."""

    first: int | None
    last: int
    bids: Sequence[Level]
    asks: Sequence[Level]


class Book:
    """The order book of one symbol from a snapshot and changes; a size of 0 removes a level.

    Args:
        depth: levels a side keeps, where the exchange sends no removal for what falls out of it.
    """

    def __init__(self, depth: int | None = None) -> None:
        self.is_synced = False
        self.number = -1
        self._depth = depth
        self._bids: dict[float, float] = {}
        self._asks: dict[float, float] = {}
        self._bid = self._ask = 0.0
        self._pending: deque[Change] = deque(maxlen=MAX_PENDING)

    def replace(self, bids: Iterable[Level], asks: Iterable[Level], number: int = -1) -> bool:
        """Begin with a snapshot; changes that came before it and go beyond it are applied.

        False when the snapshot is older than the book: nothing is changed.
        """
        if self.is_synced and 0 <= number < self.number:
            return False
        self._bids = {level.price: level.size for level in bids if level.size}
        self._asks = {level.price: level.size for level in asks if level.size}
        self._bid, self._ask = max(self._bids, default=0.0), min(self._asks, default=0.0)
        self.is_synced, self.number = True, number
        pending, self._pending = self._pending, deque(maxlen=MAX_PENDING)
        for change in pending:
            if self.is_synced:
                self.change(change)
        return True

    def change(self, change: Change) -> Reason | Gap | None:
        """Apply a numbered change. None when it was applied; a `Gap` (symbol unnamed) unsyncs the book."""
        if not self.is_synced:
            self._pending.append(change)
            return Reason.BOOK_UNSYNCED
        if change.last <= self.number:
            return Reason.DUPLICATE if change.last == self.number else Reason.OUT_OF_DATE
        if change.first is not None and self.number >= 0 and change.first > self.number + 1:
            gap = Gap("", self.number + 1, change.first - 1)
            self.is_synced = False
            self._pending.append(change)
            return gap
        self.number = change.last
        self.apply(change.bids, change.asks)
        return None

    def apply(self, bids: Iterable[Level], asks: Iterable[Level]) -> None:
        """Set levels, without numbers."""
        for level in bids:
            self.set_bid(level.price, level.size)
        for level in asks:
            self.set_ask(level.price, level.size)
        if self._depth is not None:
            self._trim(self._depth)

    def set_bid(self, price: float, size: float) -> None:
        """Set one bid level."""
        if size:
            self._bids[price] = size
            self._bid = max(self._bid, price)
        elif self._bids.pop(price, None) is not None and price >= self._bid:
            self._bid = max(self._bids, default=0.0)

    def set_ask(self, price: float, size: float) -> None:
        """Set one ask level."""
        if size:
            self._asks[price] = size
            self._ask = min(self._ask or price, price)
        elif self._asks.pop(price, None) is not None and price <= self._ask:
            self._ask = min(self._asks, default=0.0)

    @property
    def top(self) -> tuple[float, float, float, float]:
        """Best bid, best ask, bid size, ask size; zeros for an empty side."""
        return self._bid, self._ask, self._bids.get(self._bid, 0.0), self._asks.get(self._ask, 0.0)

    def _trim(self, depth: int) -> None:
        if len(self._bids) > depth:
            for price in sorted(self._bids, reverse=True)[depth:]:
                del self._bids[price]
        if len(self._asks) > depth:
            for price in sorted(self._asks)[depth:]:
                del self._asks[price]


class Memory:
    """The last quote and price of each symbol of one exchange, so that repeats are told from news."""

    def __init__(self, exchange: str) -> None:
        self.exchange = exchange
        self.books: dict[str, Book] = {}
        self._quotes: dict[str, tuple[float, ...]] = {}
        self._prices: dict[str, tuple[datetime | None, float, float | None, float | None]] = {}
        self._trades: dict[str, int] = {}

    def book(self, symbol: str, depth: int | None = None) -> Book:
        """The book of a symbol, a new one at first."""
        found = self.books.get(symbol)
        if found is None:
            found = self.books[symbol] = Book(depth)
        return found

    def top(self, symbol: str, at: datetime, received: datetime) -> Level1 | Reason:
        """The quote that a symbol's book gives now."""
        book = self.books[symbol]
        return self.quote(symbol, *book.top, at, received) if book.is_synced else Reason.BOOK_UNSYNCED

    def quote(
        self,
        symbol: str,
        bid: float | None,
        ask: float | None,
        bid_size: float | None,
        ask_size: float | None,
        at: datetime,
        received: datetime,
    ) -> Level1 | Reason:
        """A quote, or why it is none: a side is empty, sizes are not told, nothing changed."""
        if not (bid and ask):
            return Reason.ONE_SIDED
        if bid_size is None or ask_size is None:
            return Reason.NO_SIZES
        top = (bid, ask, bid_size, ask_size)
        if self._quotes.get(symbol) == top:
            return Reason.TOP_UNCHANGED
        self._quotes[symbol] = top
        return Level1(self.exchange, symbol, bid, ask, bid_size, ask_size, at, received)

    def ticker(
        self,
        symbol: str,
        price: float | None,
        at: datetime | None,
        received: datetime,
        volume_24h: float | None = None,
        change_24h: float | None = None,
    ) -> Price | Reason:
        """The price of a ticker, or why it is none; one that repeats the last, or is older, is no news."""
        if not price:
            return Reason.NO_PRICE
        last = self._prices.get(symbol)
        if last is not None:
            if last == (at, price, volume_24h, change_24h):
                return Reason.DUPLICATE
            if at is not None and last[0] is not None and at < last[0]:
                return Reason.OUT_OF_DATE
        # A time far ahead of its receipt must not make all later prices out of date.
        is_ahead = at is not None and at > received + CLOCK_TOLERANCE
        self._prices[symbol] = (None if is_ahead else at, price, volume_24h, change_24h)
        return trade_price(self.exchange, symbol, price, at or received, volume_24h, change_24h)

    def trade(
        self, symbol: str, number: int | None, price: float, at: datetime, *, numbered_by_one: bool = False
    ) -> tuple[Price | Reason, Gap | None]:
        """The price of a trade. Its number, where the exchange gives one, tells repeats and holes."""
        gap = None
        if number is not None:
            last = self._trades.get(symbol)
            if last is not None and number <= last:
                return (Reason.DUPLICATE if number == last else Reason.OUT_OF_DATE), None
            if numbered_by_one and last is not None and number > last + 1:
                gap = Gap(symbol, last + 1, number - 1)
            self._trades[symbol] = number
        return trade_price(self.exchange, symbol, price, at), gap


class BookParser:
    """The base of parsers that remember books and tickers. Subclasses say how a frame is read."""

    def __init__(self, exchange: str) -> None:
        self.exchange = exchange
        self.memory = Memory(exchange)

    def parse(self, frame: Frame) -> Parsed:
        """See `Parser.parse`."""
        try:
            return self._read(frame)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return fault(error)
        except RecursionError:
            return rejected(Reason.MALFORMED, "nested too deeply")
        except (ValueError, OverflowError, OSError) as error:
            return rejected(Reason.BAD_VALUE, str(error))

    def _read(self, frame: Frame) -> Parsed:
        raise NotImplementedError

    def forget(self, symbol: str) -> None:
        """Let go of a symbol's book: its next snapshot begins it anew."""
        self.memory.books.pop(symbol, None)


def collect(found: Iterable[Message | Reason], gap: Gap | None = None, detail: str = "") -> Parsed:
    """One result of all that a frame gave."""
    messages: list[Message] = []
    reasons: list[Reason] = []
    for item in found:
        if isinstance(item, Reason):
            reasons.append(item)
        else:
            messages.append(item)
    return Parsed(tuple(messages), tuple(reasons), detail, gap)


def single(found: Message | Reason, gap: Gap | None = None) -> Parsed:
    """The result of a frame that gave one message, or the reason of none."""
    return Parsed((), (found,), "", gap) if isinstance(found, Reason) else Parsed((found,), (), "", gap)


def unknown_symbol(name: str) -> Parsed:
    """The rejection of a frame whose symbol cannot be read."""
    return rejected(Reason.UNKNOWN_SYMBOL, name)


def percent(now: float, before: float | None) -> float | None:
    """The change in per cent since `before`."""
    return (now - before) / before * 100 if before else None
