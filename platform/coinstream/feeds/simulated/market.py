"""Simulate a market: numbered quotes from a recording or a seeded random walk, and their candles."""

from __future__ import annotations

import random
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from coinstream.feeds.feed_stats import Feed
from coinstream.messages import Level1

HISTORY: Final = 20_000
"""Quotes kept per symbol for REST requests about the past."""
MAX_CANDLES: Final = 200
MINUTE_MS: Final = 60_000
_START: Final = {"BTC": 61_000.0, "ETH": 2_600.0, "SOL": 150.0, "XRP": 0.6, "DOGE": 0.1, "ADA": 0.35}


class Quote(NamedTuple):
    """A top of book without sequence number and time."""

    symbol: str
    bid: float
    bid_size: float
    ask: float
    ask_size: float


class Tick(NamedTuple):
    """A numbered top of book, and the trade at its bid. Sequence numbers are per symbol."""

    symbol: str
    number: int
    bid: float
    bid_size: float
    ask: float
    ask_size: float
    at_ms: int


class Source(Protocol):
    """Source of quotes."""

    symbols: Sequence[str]

    def quotes(self) -> Iterator[Quote]:
        """Yield quotes without end."""
        ...


class RandomWalk:
    """Quotes of a random walk, deterministic for a seed.

    Args:
        symbols: unified symbols, quoted in turn.
        seed: seed of the walk.
    """

    def __init__(self, symbols: Sequence[str], seed: int = 1) -> None:
        self.symbols = symbols
        self._seed = seed

    def quotes(self) -> Iterator[Quote]:
        """See `Source.quotes`."""
        dice = random.Random(self._seed)
        prices = {symbol: _START.get(symbol.partition("/")[0], 10.0) for symbol in self.symbols}
        while True:
            for symbol in self.symbols:
                price = prices[symbol] = prices[symbol] * (1.0 + (dice.random() - 0.5) * 2e-4)
                spread = price * 1e-5 * (1.0 + dice.random())
                yield Quote(symbol, price, dice.random() * 5, price + spread, dice.random() * 5)


class Recorded:
    """Quotes of a finite feed, repeated."""

    def __init__(self, symbols: Sequence[str], feed: Feed) -> None:
        self.symbols = symbols
        self._feed = feed

    def quotes(self) -> Iterator[Quote]:
        """See `Source.quotes`."""
        wanted = frozenset(self.symbols)
        while True:
            for batch in self._feed.messages(threading.Event()):
                for message in batch:
                    if isinstance(message, Level1) and message.symbol in wanted:
                        yield Quote(
                            message.symbol,
                            *(message.best_bid, message.bid_size, message.best_ask, message.ask_size),
                        )


@dataclass(slots=True)
class Candle:
    """Candle of one minute of a symbol's trades."""

    open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: float = 0.0
    trades: int = 0

    def add(self, price: float, size: float) -> None:
        """Add a trade."""
        self.high, self.low, self.close = max(self.high, price), min(self.low, price), price
        self.volume += size
        self.trades += 1


class Market:
    """Last quotes and candles of each symbol."""

    def __init__(self, source: Source, *, number_in_size: bool = False) -> None:
        self.symbols = tuple(source.symbols)
        self.last: dict[str, Tick] = {}
        self.ticks: dict[str, deque[Tick]] = {symbol: deque(maxlen=HISTORY) for symbol in self.symbols}
        self.candles: dict[str, deque[Candle]] = {
            symbol: deque(maxlen=MAX_CANDLES) for symbol in self.symbols
        }
        self._number_in_size = number_in_size
        self._quotes = source.quotes()

    def next(self, at_ms: int, *, crossed: bool = False) -> Tick:
        """Return the next quote of the market."""
        symbol, bid, bid_size, ask, ask_size = next(self._quotes)
        before = self.last.get(symbol)
        number = 1 if before is None else before.number + 1
        if crossed:
            bid, ask = ask * 1.001, bid
        if self._number_in_size:
            bid_size = float(number)
        tick = Tick(symbol, number, bid, bid_size, ask, ask_size, at_ms)
        self.last[symbol] = tick
        self.ticks[symbol].append(tick)
        self._to_candle(tick)
        return tick

    def day(self, tick: Tick) -> tuple[float, float, float, float, float]:
        """Return open, high, low, base volume and change in per cent over all kept candles."""
        candles = self.candles[tick.symbol]
        opened = candles[0].open
        return (
            opened,
            max(candle.high for candle in candles),
            min(candle.low for candle in candles),
            sum(candle.volume for candle in candles),
            (tick.bid - opened) / opened * 100,
        )

    def _to_candle(self, tick: Tick) -> None:
        minutes = self.candles[tick.symbol]
        open_ms = tick.at_ms - tick.at_ms % MINUTE_MS
        if not minutes or minutes[-1].open_ms < open_ms:
            minutes.append(Candle(open_ms, tick.bid, tick.bid, tick.bid, tick.bid))
        minutes[-1].add(tick.bid, 0.001)
