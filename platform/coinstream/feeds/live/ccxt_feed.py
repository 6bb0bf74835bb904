"""Read any exchange supported by ccxt, over streams where available, else by polling."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.book_state import BOOK_LIMITS, BookLimits
from coinstream.feeds.exchanges.parsing import collected
from coinstream.feeds.feed_stats import Anomaly, Reason
from coinstream.feeds.live import ccxt_client
from coinstream.feeds.live.base import Inbox, LiveFeed, Timeouts, redacted, together
from coinstream.feeds.live.ccxt_messages import UnifiedParser
from coinstream.feeds.live.ccxt_streams import CcxtStreams
from coinstream.feeds.parser import Frame, Gap, account_for
from coinstream.messages import Message

log = logging.getLogger(__name__)

TYPES: Final = ("level1", "price", "ohlcv", "trade", "book")
_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    # Without it ccxt also asks for futures and delivery markets, at other hosts.
    "binance": {"options": {"fetchMarkets": {"types": ["spot"]}}},
}
_LOOK_S: Final = 0.25


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
        timeouts: see `Timeouts`.
        books: limits of `Book` messages.

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
        books: BookLimits = BOOK_LIMITS,
    ) -> None:
        super().__init__(name or exchange, exchange, timeouts)
        import ccxt.pro

        ccxt_client.patch()
        if exchange not in ccxt.pro.exchanges and exchange not in ccxt.exchanges:
            raise FeedError(
                f"feed {self.name}: ccxt {ccxt.__version__} does not support exchange {exchange!r}"
            )
        if strange := set(types) - set(TYPES):
            raise FeedError(
                f"feed {self.name}: unknown message type {', '.join(sorted(strange))}; "
                f"supported: {', '.join(TYPES)}"
            )
        self._symbols, self._types, self._timeframe = list(symbols), tuple(types), timeframe
        self._options = {**_DEFAULTS.get(exchange, {}), **(options or {})}
        self._parser = UnifiedParser(exchange, types=frozenset(types))
        self._parser.state.limit_books(books)
        self._seen: dict[str, float] = {}
        self._gone: set[str] = set()
        self._data = 0
        self._broken: str | None = None
        self._is_closing = False
        self._inbox: Inbox

    async def run(self, inbox: Inbox) -> None:
        """See `LiveFeed.run`."""
        import ccxt

        backoff, last_alive, rounds = self.timeouts.backoff(), time.monotonic(), 0
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
                self.stats.closed(self._seen)
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
        self.stats.opened(symbols, again=is_again)
        streams = CcxtStreams(
            *(self.name, self.exchange, frozenset(self._types), self._timeframe, self._parser),
            *(self._account_for, inbox, self.stats, self.timeouts),
        )
        works = [*streams.works(client, symbols), self._watch(client)]
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

    # Messages

    def _account_for(self, told: Any, found: Iterable[Message | Reason | Gap], received_ns: int) -> None:
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
