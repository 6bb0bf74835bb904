"""Read any exchange supported by ccxt, over streams where available, else by polling."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.parsing import collected
from coinstream.feeds.feed_stats import Anomaly, Reason
from coinstream.feeds.live import ccxt_drain
from coinstream.feeds.live.base import Backoff, Inbox, LiveFeed, Timeouts, together
from coinstream.feeds.live.ccxt_messages import UnifiedParser, last_of, tickers_in, top_of
from coinstream.feeds.live.redaction import redacted
from coinstream.feeds.parser import Frame, account_for
from coinstream.messages import Message

log = logging.getLogger(__name__)

TYPES: Final = ("level1", "price", "ohlcv")
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    # Without it ccxt also asks for futures and delivery markets, at other hosts.
    "binance": {"options": {"fetchMarkets": {"types": ["spot"]}}},
}
_LOOK_S: Final = 0.25
_BOOK_DEPTH: Final = 20
_CANDLES_POLLED: Final = 2


class _AgainError(Exception):
    """The ccxt client must be recreated."""


class CcxtFeed(LiveFeed):
    """Quotes, prices and candles of one exchange.

    Args:
        exchange: ccxt's exchange id.
        symbols: unified symbols.
        types: message types: level1, price, ohlcv.
        name: name of the feed.
        timeframe: timeframe of candles.
        options: options of ccxt's client: keys, `urls`, `options`.

    Raises:
        FeedError: the exchange or a message type is unknown.
    """

    def __init__(
        self,
        exchange: str,
        symbols: Sequence[str],
        types: Sequence[str] = ("level1", "price"),
        *,
        name: str | None = None,
        timeframe: str = "1m",
        options: Mapping[str, Any] | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        super().__init__(name or exchange, exchange, timeouts)
        import ccxt.pro

        ccxt_drain.disable()
        if exchange not in ccxt.pro.exchanges and exchange not in ccxt.exchanges:
            raise FeedError(f"feed {self.name}: ccxt {ccxt.__version__} does not know exchange {exchange!r}")
        if strange := set(types) - set(TYPES):
            raise FeedError(
                f"feed {self.name}: no such type {', '.join(sorted(strange))}; known: {', '.join(TYPES)}"
            )
        self._symbols, self._types, self._timeframe = list(symbols), tuple(types), timeframe
        self._options = {**_DEFAULTS.get(exchange, {}), **(options or {})}
        self._parser = UnifiedParser(exchange)
        self._seen: dict[str, float] = {}
        self._gone: set[str] = set()
        self._data = 0
        self._broken: str | None = None
        self._is_closing = False
        self._inbox: Inbox

    async def run(self, inbox: Inbox) -> None:
        """See `LiveFeed.run`."""
        import ccxt

        backoff, last_alive, rounds = Backoff(self.timeouts), time.monotonic(), 0
        self._inbox = inbox
        while True:
            data_before, self._broken, self._is_closing = self._data, None, False
            client = self._client()
            try:
                await self._session(client, inbox, is_again=rounds > 0)
                error: object = "ended"
            except (ccxt.AuthenticationError, ccxt.NotSupported, ccxt.ArgumentsRequired) as refusal:
                raise FeedError(
                    f"feed {self.name}: {self.exchange} refuses: {redacted(refusal)}"
                ) from refusal
            except (ccxt.BaseError, OSError, TimeoutError, _AgainError) as failure:
                error = failure
                if isinstance(failure, (ccxt.RateLimitExceeded, ccxt.DDoSProtection)):
                    self.stats.flags[Anomaly.RATE_LIMITED] += 1
            finally:
                self._is_closing = True
                await client.close()
            rounds += 1
            now = time.monotonic()
            if self._data > data_before:
                backoff.reset()
                last_alive = now
            elif now - last_alive > self.timeouts.give_up_after_s:
                raise FeedError(
                    f"feed {self.name}: no data from {self.exchange} for "
                    f"{self.timeouts.give_up_after_s:g} s; last: {redacted(error)}"
                )
            wait_s = backoff.next_s()
            self.stats.trouble = redacted(error)
            log.warning("feed %s: %s; again in %.1f s", self.name, self.stats.trouble, wait_s)
            await asyncio.sleep(wait_s)
            # Requests that were under way beside the one that failed have opened a session since.
            await client.close()

    def _client(self) -> Any:
        import ccxt.async_support
        import ccxt.pro

        module = ccxt.pro if self.exchange in ccxt.pro.exchanges else ccxt.async_support
        return getattr(module, self.exchange)({"newUpdates": True, **self._options})

    async def _session(self, client: Any, inbox: Inbox, *, is_again: bool) -> None:
        await client.load_markets()
        self._parser.set_markets(client.markets)
        await self._measure_clock(client)
        symbols = self._listed(client)
        if is_again:
            self.stats.flags[Anomaly.RECONNECT] += 1
        self._seen = dict.fromkeys(symbols, time.monotonic())
        works = [*self._streams(client, symbols, inbox), self._watch(client)]
        await together(*(asyncio.create_task(work) for work in works))

    def _listed(self, client: Any) -> list[str]:
        listed = [
            symbol
            for symbol in self._symbols
            if symbol in client.markets and client.markets[symbol].get("active") is not False
        ]
        for symbol in set(self._symbols) - set(listed) - self._gone:
            self.stats.flags[Anomaly.VANISHED] += 1
            log.warning("feed %s: %s is not listed at %s", self.name, symbol, self.exchange)
        self._gone = set(self._symbols) - set(listed)
        if not listed:
            raise _AgainError(f"{self.exchange} lists none of {', '.join(self._symbols)}")
        return listed

    async def _measure_clock(self, client: Any) -> None:
        if not client.has.get("fetchTime"):
            return
        # ccxt's rate limiter would delay the request and distort the measured round trip.
        limits, client.enableRateLimit = client.enableRateLimit, False
        try:
            before = time.time()
            told = await client.fetch_time()
            middle_ms = (before + time.time()) / 2 * 1000
        finally:
            client.enableRateLimit = limits
        if told is not None:
            self.stats.clock_ahead_ms = round(told - middle_ms, 1)

    # Streams

    def _streams(self, client: Any, symbols: list[str], inbox: Inbox) -> Iterator[Any]:
        has, level1, price = client.has, "level1" in self._types, "price" in self._types
        if level1 and has.get("watchBidsAsks"):
            yield self._stream(lambda: client.watch_bids_asks(symbols), self._on_tickers(price=False), inbox)
            level1 = False
        if (level1 or price) and has.get("watchTickers"):
            take = self._on_tickers(quote=level1, price=price)
            yield self._stream(lambda: client.watch_tickers(symbols), take, inbox)
            level1 = price = False
        for symbol in symbols:
            yield from self._symbol_streams(client, symbol, inbox, level1=level1, price=price)
        if (level1 and not has.get("watchOrderBook")) or (
            price and not has.get("watchTicker") and not has.get("watchTrades")
        ):
            take = self._on_tickers(quote=level1, price=price)
            yield self._poll(lambda: client.fetch_tickers(symbols), take, inbox)

    def _symbol_streams(
        self, client: Any, symbol: str, inbox: Inbox, *, level1: bool, price: bool
    ) -> Iterator[Any]:
        has = client.has
        if level1 and has.get("watchOrderBook"):
            depth = None if self.exchange == "bitstamp" else _BOOK_DEPTH
            yield self._stream(lambda: client.watch_order_book(symbol, depth), self._on_book, inbox)
        if price and has.get("watchTicker"):
            yield self._stream(lambda: client.watch_ticker(symbol), self._on_tickers(quote=False), inbox)
        elif price and has.get("watchTrades"):
            yield self._stream(lambda: client.watch_trades(symbol), self._on_trades, inbox)
        if "ohlcv" in self._types:
            take = self._on_candles(symbol)
            if has.get("watchOHLCV"):
                yield self._stream(lambda: client.watch_ohlcv(symbol, self._timeframe), take, inbox)
            else:
                yield self._poll(
                    lambda: client.fetch_ohlcv(symbol, self._timeframe, limit=_CANDLES_POLLED), take, inbox
                )

    async def _stream(
        self, ask: Callable[[], Awaitable[Any]], take: Callable[[Any, int], None], inbox: Inbox
    ) -> None:
        import ccxt

        while True:
            try:
                update = await ask()
            except (ccxt.ChecksumError, ccxt.InvalidNonce):
                # ccxt has dropped this symbol's book and takes a fresh snapshot when asked again.
                self.stats.flags[Anomaly.GAP] += 1
                continue
            take(update, time.time_ns())
            if inbox.is_full:
                await inbox.free()

    async def _poll(
        self, ask: Callable[[], Awaitable[Any]], take: Callable[[Any, int], None], inbox: Inbox
    ) -> None:
        import ccxt

        while True:
            try:
                take(await ask(), time.time_ns())
            except (ccxt.NetworkError, ccxt.ExchangeError) as error:
                # The streams beside it are well: this endpoint alone is asked again later.
                if isinstance(error, (ccxt.RateLimitExceeded, ccxt.DDoSProtection)):
                    self.stats.flags[Anomaly.RATE_LIMITED] += 1
                log.warning("feed %s: %s", self.name, redacted(error))
            if inbox.is_full:
                await inbox.free()
            await asyncio.sleep(self.timeouts.poll_every_s)

    # What came

    def _on_tickers(self, *, quote: bool = True, price: bool = True) -> Callable[[Any, int], None]:
        def take(update: Any, received_ns: int) -> None:
            for ticker in tickers_in(update):
                found: list[Message | Reason] = []
                if quote:
                    found.append(self._parser.quote(ticker, received_ns))
                if price:
                    found.append(self._parser.price(ticker, received_ns))
                self._account_for(ticker, found, received_ns)

        return take

    def _on_book(self, book: Any, received_ns: int) -> None:
        quote = top_of(book)
        found = Reason.BAD_VALUE if quote is None else self._parser.quote(quote, received_ns)
        self._account_for(book if quote is None else quote, [found], received_ns)

    def _on_trades(self, trades: Any, received_ns: int) -> None:
        for trade in trades if isinstance(trades, list) else [trades]:
            ticker = last_of(trade)
            found = Reason.BAD_VALUE if ticker is None else self._parser.price(ticker, received_ns)
            self._account_for(trade, [found], received_ns)

    def _on_candles(self, symbol: str) -> Callable[[Any, int], None]:
        def take(rows: Any, received_ns: int) -> None:
            found = self._parser.candles(symbol, self._timeframe, rows, received_ns)
            self._account_for(rows, found, received_ns)

        return take

    def _account_for(self, told: Any, found: Iterable[Message | Reason], received_ns: int) -> None:
        parsed = collected(found)
        is_fault = any(reason.is_fault for reason in parsed.rejected)
        payload = msgspec.json.encode(told, enc_hook=str) if is_fault else b""
        account_for(parsed, Frame(received_ns, payload), self.exchange, self.stats)
        if parsed.messages:
            self._data += 1
            self.stats.trouble = None
            self._seen[parsed.messages[0].symbol] = time.monotonic()  # type: ignore[attr-defined]
            self._inbox.put(parsed.messages)

    # What goes wrong

    def on_callback_error(self, error: Exception) -> None:
        """Report a frame that ccxt cannot read; ccxt's callback would stop reading without an error."""
        if not self._is_closing:
            self.stats.refuse(Reason.MALFORMED)
            self._broken = f"a frame that ccxt cannot read: {error}"

    async def _watch(self, client: Any) -> None:
        silent_looks, data_before = 0, self._data
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._broken is not None:
                raise _AgainError(self._broken)
            silent_looks = silent_looks + 1 if self._data == data_before else 0
            data_before = self._data
            if silent_looks * _LOOK_S >= self.timeouts.frozen_after_s:
                self.stats.flags[Anomaly.FROZEN] += 1
                raise _AgainError(f"no data for {self.timeouts.frozen_after_s:g} s")
            if silent_looks == 0:
                await self._look_into_silence(client)

    async def _look_into_silence(self, client: Any) -> None:
        now = time.monotonic()
        silent = [
            symbol for symbol, heard in self._seen.items() if now - heard >= self.timeouts.silent_after_s
        ]
        if not silent:
            return
        for symbol in silent:
            self._seen[symbol] = now
        markets = await client.fetch_markets()
        listed = {market["symbol"] for market in markets if market.get("active") is not False}
        if set(silent) - listed:
            raise _AgainError(f"{', '.join(sorted(set(silent) - listed))} vanished")
