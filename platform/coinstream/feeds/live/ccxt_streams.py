"""Ask ccxt's client for the streams that message types need, and poll where it has none."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from coinstream.feeds.feed_stats import Anomaly, FeedStats, Reason
from coinstream.feeds.live.base import Inbox, Timeouts, redacted
from coinstream.feeds.live.ccxt_client import UpdateStream, stream_context
from coinstream.feeds.live.ccxt_messages import UnifiedParser, is_tickers, tickers_in, top_of
from coinstream.feeds.parser import Gap
from coinstream.messages import Message

log = logging.getLogger(__name__)

Take = Callable[[Any, int], None]
"""Takes an update and the time of its receipt in nanoseconds."""
Ask = Callable[[], Awaitable[Any]]

_BOOK_DEPTH: Final = 20
_CANDLES_POLLED: Final = 2


@dataclass(frozen=True)
class CcxtStreams:
    """The streams of one session.

    Attributes:
        name: of the feed.
        exchange: ccxt's id.
        types: message types wanted.
        timeframe: of the candles.
        parser: reads the updates.
        account_for: counts and publishes what an update gave.
        inbox: where messages go.
        stats: of the feed.
        timeouts: of the feed.
    """

    name: str
    exchange: str
    types: frozenset[str]
    timeframe: str
    parser: UnifiedParser
    account_for: Callable[[Any, Iterable[Message | Reason | Gap], int], None]
    inbox: Inbox
    stats: FeedStats
    timeouts: Timeouts

    def works(self, client: Any, symbols: list[str]) -> Iterator[Any]:
        """Yield a coroutine for each stream and each endpoint that is polled."""
        has, level1, price = client.has, "level1" in self.types, "price" in self.types
        if level1 and has.get("watchBidsAsks"):
            take = self._on_tickers(price=False)
            yield self._stream(lambda: client.watch_bids_asks(symbols), take, tickers_of=symbols)
            level1 = False
        if (level1 or price) and has.get("watchTickers"):
            take = self._on_tickers(quote=level1, price=price)
            yield self._stream(lambda: client.watch_tickers(symbols), take, tickers_of=symbols)
            level1 = price = False
        for symbol in symbols:
            yield from self._of_symbol(client, symbol, level1=level1, price=price)
        if (level1 and not has.get("watchOrderBook")) or (
            price and not has.get("watchTicker") and not has.get("watchTrades")
        ):
            take = self._on_tickers(quote=level1, price=price)
            yield self._poll(lambda: client.fetch_tickers(symbols), take)

    def _of_symbol(self, client: Any, symbol: str, *, level1: bool, price: bool) -> Iterator[Any]:
        has, trade, book = client.has, "trade" in self.types, "book" in self.types
        if (level1 or book) and has.get("watchOrderBook"):
            depth = None if self.exchange == "bitstamp" else _BOOK_DEPTH
            take: Take = self._on_book if book else self._on_top
            yield self._stream(lambda: client.watch_order_book(symbol, depth), take, book_of=symbol)
        elif book:
            yield self._poll(lambda: client.fetch_order_book(symbol), self._on_book)
        if price and has.get("watchTicker"):
            take = self._on_tickers(quote=False)
            yield self._stream(lambda: client.watch_ticker(symbol), take, tickers_of=[symbol])
            price = False
        if (trade or price) and has.get("watchTrades"):
            yield self._stream(lambda: client.watch_trades(symbol), self._on_trades)
        elif trade:
            yield self._poll(lambda: client.fetch_trades(symbol), self._on_trades)
        if "ohlcv" in self.types:
            yield self._candles(client, symbol)

    def _candles(self, client: Any, symbol: str) -> Any:
        take = self._on_candles(symbol)
        if client.has.get("watchOHLCV"):
            return self._stream(lambda: client.watch_ohlcv(symbol, self.timeframe), take)
        return self._poll(lambda: client.fetch_ohlcv(symbol, self.timeframe, limit=_CANDLES_POLLED), take)

    async def _stream(self, ask: Ask, take: Take, tickers_of: Sequence[str] = (), book_of: str = "") -> None:
        """Take every update of a stream.

        Args:
            tickers_of: symbols of a stream of tickers, which are taken as soon as they are parsed.
            book_of: symbol of a stream of books.
        """
        import ccxt

        def take_tickers(update: Any) -> bool:
            if not is_tickers(update):
                return False
            take([ticker for ticker in tickers_in(update) if ticker["symbol"] in symbols], time.time_ns())
            return True

        symbols = frozenset(tickers_of)
        stream = UpdateStream(take_tickers if symbols else None, lambda: self.inbox.is_full)
        while True:
            try:
                with stream_context(stream):
                    update = await ask()
            except (ccxt.ChecksumError, ccxt.InvalidNonce):
                # ccxt has dropped this symbol's book and requests a new snapshot with the next call.
                self.stats.count_gap(book_of)
                self.stats.count_recovery(book_of, complete=True)
                continue
            take(update, time.time_ns())
            if self.inbox.is_full:
                await self.inbox.free()

    async def _poll(self, ask: Ask, take: Take) -> None:
        import ccxt

        while True:
            try:
                take(await ask(), time.time_ns())
            except (ccxt.NetworkError, ccxt.ExchangeError) as error:
                # Other streams still work, so only this endpoint is retried later.
                if isinstance(error, (ccxt.RateLimitExceeded, ccxt.DDoSProtection)):
                    self.stats.flags[Anomaly.RATE_LIMITED] += 1
                log.warning("feed %s: %s", self.name, redacted(error))
            if self.inbox.is_full:
                await self.inbox.free()
            await asyncio.sleep(self.timeouts.poll_every_s)

    # Updates

    def _on_tickers(self, *, quote: bool = True, price: bool = True) -> Take:
        def take(update: Any, received_ns: int) -> None:
            for ticker in tickers_in(update):
                found: list[Message | Reason] = []
                if quote:
                    found.append(self.parser.quote(ticker, received_ns))
                if price:
                    found.append(self.parser.price(ticker, received_ns))
                self.account_for(ticker, found, received_ns)

        return take

    def _on_top(self, book: Any, received_ns: int) -> None:
        quote = top_of(book)
        found = Reason.BAD_VALUE if quote is None else self.parser.quote(quote, received_ns)
        self.account_for(book if quote is None else quote, [found], received_ns)

    def _on_book(self, book: Any, received_ns: int) -> None:
        self.account_for(book, self.parser.book(book, received_ns), received_ns)

    def _on_trades(self, trades: Any, received_ns: int) -> None:
        for trade in trades if isinstance(trades, list) else [trades]:
            self.account_for(trade, self.parser.trade(trade, received_ns), received_ns)

    def _on_candles(self, symbol: str) -> Take:
        def take(rows: Any, received_ns: int) -> None:
            found = self.parser.candles(symbol, self.timeframe, rows, received_ns)
            self.account_for(rows, found, received_ns)

        return take
