"""Detect what the connections of a live feed miss, silence and missing trades, and recover it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import httpx
import msgspec

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.base import ExchangeAdapter
from coinstream.feeds.exchanges.connections import Connection
from coinstream.feeds.exchanges.parsing import ExchangeParser
from coinstream.feeds.exchanges.rest import fetch_missing
from coinstream.feeds.feed_stats import Anomaly, FeedStats, symbols_of
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.live.base import Inbox, Timeouts
from coinstream.feeds.parser import Gap
from coinstream.messages import Message, Trade

if TYPE_CHECKING:
    from coinstream.feeds.live.sockets import Socket

log = logging.getLogger(__name__)

REST_ERRORS: Final = (httpx.HTTPError, msgspec.DecodeError, FeedError, KeyError, TypeError, ValueError)
"""Errors of REST requests that failed or returned an unexpected body."""
CHECK_S: Final = 0.25
"""Interval between two checks, in seconds."""
_MAX_WAITING: Final = 1_000


@dataclass(frozen=True)
class Link:
    """State shared by the connections of a feed.

    Attributes:
        plan: returns the connections to open. It is called for each attempt, since a URL may contain a
            token that expires.
        is_listed: requests whether the exchange still lists a symbol.
    """

    name: str
    adapter: ExchangeAdapter
    plan: Callable[[], list[Connection]]
    types: frozenset[str]
    timeouts: Timeouts
    stats: FeedStats
    http: httpx.AsyncClient
    inbox: Inbox
    is_listed: Callable[[str], asyncio.Future[bool]]


class SilenceWatch:
    """Notes which symbols have data, and acts on those without.

    Args:
        link: state shared by the connections of the feed.
        instruments: instruments of the connection, by symbol.

    Attributes:
        messages: messages received so far, over all attempts to connect.
    """

    def __init__(self, link: Link, instruments: Mapping[str, Instrument]) -> None:
        self._link, self._instruments = link, instruments
        self._seen: dict[str, float] = {}
        self._vanished: set[str] = set()
        self.messages = 0

    def restart(self) -> None:
        """Start again with a new connection, on which every symbol counts as seen."""
        self._vanished.clear()
        self._seen = dict.fromkeys(self._instruments, time.monotonic())

    def note(self, messages: Sequence[Message]) -> None:
        """Note that these messages came."""
        self.messages += len(messages)
        self._seen.update(dict.fromkeys(symbols_of(messages), time.monotonic()))

    async def watch(self, socket: Socket) -> None:
        """Return when the connection has been silent for `Timeouts.frozen_after_s`.

        Silence is measured in checks, not in elapsed time: while the consumer publishes, no frame is read.
        """
        silent_checks, messages_before, timeouts = 0, self.messages, self._link.timeouts
        while True:
            await asyncio.sleep(CHECK_S)
            silent_checks = silent_checks + 1 if self.messages == messages_before else 0
            messages_before = self.messages
            if silent_checks * CHECK_S >= timeouts.frozen_after_s:
                self._link.stats.flags[Anomaly.FROZEN] += 1
                log.warning("feed %s: no data for %g s", self._link.name, timeouts.frozen_after_s)
                return
            if silent_checks == 0:
                await self._check_symbols(socket)

    async def _check_symbols(self, socket: Socket) -> None:
        """Subscribe again to silent symbols that the exchange lists, and report the others."""
        link, now = self._link, time.monotonic()
        for symbol, seen in list(self._seen.items()):
            if symbol in self._vanished or now - seen < link.timeouts.silent_after_s:
                continue
            self._seen[symbol] = now
            try:
                is_listed = await link.is_listed(symbol)
            except REST_ERRORS as error:
                log.warning("feed %s: cannot tell whether %s is listed: %s", link.name, symbol, error)
                continue
            if not is_listed:
                self._vanished.add(symbol)
                link.stats.flags[Anomaly.VANISHED] += 1
                log.warning(
                    "feed %s: %s is not listed at %s any more", link.name, symbol, link.adapter.exchange
                )
            elif symbol in self._instruments:
                for again in link.adapter.connections([self._instruments[symbol]], link.types)[:1]:
                    for request in again.requests:
                        await socket.send(request)


@dataclass
class TradeRecovery:
    """Fetches the trades of gaps over REST, within the limits of the exchange.

    Attributes:
        link: state shared by the connections of the feed.
        parser: of the connection.
        instruments: of the connection, by symbol.
    """

    link: Link
    parser: ExchangeParser
    instruments: Mapping[str, Instrument]
    _waiting: deque[Gap] = field(default_factory=deque)
    _task: asyncio.Task[None] | None = None

    def add(self, gap: Gap) -> None:
        """Recover the trades of a gap, after those that wait already."""
        if not self.link.types & {"price", "trade"}:
            return
        if len(self._waiting) >= _MAX_WAITING:
            self._report(gap, complete=False)
            return
        self._waiting.append(gap)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        while self._waiting:
            await self._recover(self._waiting.popleft())
            await asyncio.sleep(1 / self.link.adapter.limits.requests_per_second)

    async def _recover(self, gap: Gap) -> None:
        instrument, found = self.instruments.get(gap.symbol), list[Message]()
        request = None if instrument is None else self.link.adapter.trades_request(instrument, gap)
        if request is None or instrument is None:
            self._report(gap, complete=False)
            return
        state = self.parser.state
        try:
            found = await fetch_missing(
                *(self.link.adapter, self.link.http, request, instrument, gap),
                known=lambda: state.known_ids(gap.symbol),
            )
        except REST_ERRORS as error:
            log.warning("feed %s: cannot recover the trades of %s: %s", self.link.name, gap, error)
            self._report(gap, complete=False)
            return
        trades = [message for message in found if isinstance(message, Trade)]
        state.remember(trades)
        self.link.inbox.put(
            [message for message in found if type(message).__name__.lower() in self.link.types]
        )
        if gap.is_certain:
            self._report(gap, complete=len(trades) > gap.last - gap.first)
        elif trades:
            self.link.stats.count_gap(gap.symbol)
            self._report(gap, complete=True)

    def _report(self, gap: Gap, *, complete: bool) -> None:
        self.link.stats.count_recovery(gap.symbol, complete=complete)
        if not complete:
            log.warning(
                "feed %s: trades of %s are missing and cannot be fetched: %s", self.link.name, gap.symbol, gap
            )
