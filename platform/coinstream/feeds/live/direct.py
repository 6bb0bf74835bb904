"""The direct path: websocket frames through this package's parsers, without a client library between."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

import httpx
import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, WebSocketException

from coinstream.errors import FeedError
from coinstream.feeds.feed_stats import Anomaly
from coinstream.feeds.live.base import Backoff, Inbox, LiveFeed, Timeouts, together
from coinstream.feeds.live.dialects import Dialect, clock_ahead_ms
from coinstream.feeds.parsers import Frame, Gap, Parsed, account_for

log = logging.getLogger(__name__)

_LIMITED: Final = (418, 429)
_QUEUE: Final = (2048, 512)
_OPEN_S: Final = 10.0
_HTTP_S: Final = 10.0
_BETWEEN_REQUESTS_S: Final = 0.25
"""Binance takes five requests a second on a connection."""
_MOST_RECOVERIES: Final = 4
_LOOK_S: Final = 0.25
_REST_ERRORS: Final = (httpx.HTTPError, msgspec.DecodeError, KeyError, TypeError, ValueError)


class DirectFeed(LiveFeed):
    """Quotes and prices of one exchange over one connection.

    Args:
        dialect: of the exchange.
        symbols: unified symbols.
        name: of the feed.
        timeouts: see `Timeouts`.
    """

    def __init__(
        self, dialect: Dialect, symbols: Sequence[str], name: str, timeouts: Timeouts | None = None
    ) -> None:
        super().__init__(name, dialect.exchange, timeouts)
        if not symbols:
            raise FeedError(f"feed {name}: no symbols")
        self._dialect = dialect
        self._symbols = list(symbols)
        self._parser = dialect.parser()
        self._seen: dict[str, float] = {}
        self._vanished: set[str] = set()
        self._data = 0
        self._recoveries: dict[str, asyncio.Task[None]] = {}

    async def run(self, inbox: Inbox) -> None:
        """See `LiveFeed.run`."""
        async with httpx.AsyncClient(timeout=_HTTP_S) as http:
            await together(
                asyncio.create_task(self._connections(inbox, http)), asyncio.create_task(self._clock(http))
            )

    async def _connections(self, inbox: Inbox, http: httpx.AsyncClient) -> None:
        backoff, connected_before, last_alive = Backoff(self.timeouts), False, time.monotonic()
        while True:
            pause_s, error = 0.0, "closed by the exchange"
            data_before = self._data
            try:
                async with connect(
                    self._dialect.ws_url,
                    open_timeout=_OPEN_S,
                    close_timeout=1.0,
                    max_queue=_QUEUE,
                    compression=None,
                ) as connection:
                    if connected_before:
                        self.stats.flags[Anomaly.RECONNECT] += 1
                    connected_before = True
                    await self._converse(connection, inbox, http)
            except InvalidStatus as refused:
                error = f"HTTP {refused.response.status_code}"
                if refused.response.status_code in _LIMITED:
                    self.stats.flags[Anomaly.RATE_LIMITED] += 1
                    pause_s = _retry_after_s(refused.response.headers.get("Retry-After"))
            except (OSError, TimeoutError, WebSocketException, InvalidHandshake) as failure:
                error = str(failure) or type(failure).__name__
            now = time.monotonic()
            if self._data > data_before:
                backoff.reset()
                last_alive = now
            elif now - last_alive > self.timeouts.give_up_after_s:
                raise FeedError(
                    f"feed {self.name}: no data from {self._dialect.ws_url} for "
                    f"{self.timeouts.give_up_after_s:g} s; last: {error}"
                )
            wait_s = max(pause_s, backoff.next_s())
            self.stats.trouble = error
            log.warning("feed %s: connection lost (%s); again in %.1f s", self.name, error, wait_s)
            await asyncio.sleep(wait_s)

    async def _converse(self, connection: ClientConnection, inbox: Inbox, http: httpx.AsyncClient) -> None:
        renew = getattr(self._parser, "renew", None)
        if renew is not None:
            renew()
        self._vanished.clear()
        self._seen = dict.fromkeys(self._symbols, time.monotonic())
        await together(
            asyncio.create_task(self._read(connection, inbox, http)),
            asyncio.create_task(self._watch(connection, http)),
            asyncio.create_task(self._ask(connection, self._symbols)),
        )

    async def _ask(self, connection: ClientConnection, symbols: Sequence[str]) -> None:
        for request in self._dialect.subscribe(symbols):
            await connection.send(request, text=True)
            await asyncio.sleep(_BETWEEN_REQUESTS_S)
        await connection.wait_closed()

    async def _read(self, connection: ClientConnection, inbox: Inbox, http: httpx.AsyncClient) -> None:
        parse, stats, seen, exchange = self._parser.parse, self.stats, self._seen, self.exchange
        receive, now_ns = connection.recv, time.time_ns
        while True:
            try:
                payload = await receive(decode=False)
            except ConnectionClosed:
                return
            frame = Frame(now_ns(), payload)
            parsed = parse(frame)
            account_for(parsed, frame, exchange, stats)
            if parsed.messages:
                self._data += 1
                stats.trouble = None
                seen[parsed.messages[0].symbol] = time.monotonic()  # type: ignore[attr-defined]
                inbox.put(parsed.messages)
            if parsed.gap is not None:
                self._mend(parsed, inbox, http)
            if inbox.is_full:
                await inbox.free()

    # Holes

    def _mend(self, parsed: Parsed, inbox: Inbox, http: httpx.AsyncClient) -> None:
        gap = parsed.gap
        assert gap is not None
        running = self._recoveries.get(gap.symbol)
        if (running is not None and not running.done()) or len(self._recoveries) >= _MOST_RECOVERIES:
            self.stats.flags[Anomaly.UNRECOVERED] += 1
            return
        task = asyncio.create_task(self._recover(gap, inbox, http))
        self._recoveries[gap.symbol] = task
        task.add_done_callback(lambda _: self._recoveries.pop(gap.symbol, None))

    async def _recover(self, gap: Gap, inbox: Inbox, http: httpx.AsyncClient) -> None:
        try:
            found = await self._dialect.recover(http, gap)
        except _REST_ERRORS as error:
            log.warning("feed %s: could not recover %s: %s", self.name, gap, error)
            found = []
        self.stats.flags[Anomaly.RECOVERED if found else Anomaly.UNRECOVERED] += 1
        inbox.put(found)

    # Silence

    async def _watch(self, connection: ClientConnection, http: httpx.AsyncClient) -> None:
        """Looks are counted, not the clock: while the taker publishes for long nobody can hear anything."""
        silent_looks, data_before = 0, self._data
        while True:
            await asyncio.sleep(_LOOK_S)
            silent_looks = silent_looks + 1 if self._data == data_before else 0
            data_before = self._data
            if silent_looks * _LOOK_S >= self.timeouts.frozen_after_s:
                self.stats.flags[Anomaly.FROZEN] += 1
                log.warning("feed %s: no data for %g s", self.name, self.timeouts.frozen_after_s)
                return
            if silent_looks == 0:
                await self._look_into_silence(connection, http)

    async def _look_into_silence(self, connection: ClientConnection, http: httpx.AsyncClient) -> None:
        now = time.monotonic()
        for symbol, heard in list(self._seen.items()):
            if symbol in self._vanished or now - heard < self.timeouts.silent_after_s:
                continue
            self._seen[symbol] = now
            try:
                is_listed = await self._dialect.is_listed(http, symbol)
            except _REST_ERRORS as error:
                log.warning("feed %s: cannot tell whether %s is listed: %s", self.name, symbol, error)
                continue
            if not is_listed:
                self._vanished.add(symbol)
                self.stats.flags[Anomaly.VANISHED] += 1
                log.warning("feed %s: %s is no longer listed at %s", self.name, symbol, self.exchange)
            requests = [*self._dialect.unsubscribe([symbol])]
            if is_listed:
                requests += self._dialect.subscribe([symbol])
            for request in requests:
                await connection.send(request, text=True)

    async def _clock(self, http: httpx.AsyncClient) -> None:
        while True:
            try:
                self.stats.clock_ahead_ms = round(await clock_ahead_ms(self._dialect, http), 1)
            except _REST_ERRORS as error:
                log.info("feed %s: the exchange's clock cannot be asked: %s", self.name, error)
            await asyncio.sleep(self.timeouts.clock_every_s)


def _retry_after_s(text: str | None) -> float:
    try:
        return min(float(text or 0), 300.0)
    except ValueError:
        return 0.0
