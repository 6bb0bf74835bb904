"""Recover the missing trades of one connection, one request at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import httpx

from coinstream.feeds.exchanges.base import ExchangeAdapter
from coinstream.feeds.exchanges.parsing import ExchangeParser
from coinstream.feeds.exchanges.rest import fetch_missing
from coinstream.feeds.feed_stats import FeedStats
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.live.base import Inbox
from coinstream.feeds.live.link import REST_ERRORS
from coinstream.feeds.parser import Gap
from coinstream.messages import Message, Trade

log = logging.getLogger(__name__)

_MAX_WAITING: Final = 1_000


@dataclass
class TradeRecovery:
    """Fetches the trades of gaps over REST, within the limits of the exchange.

    Attributes:
        feed: name of the feed.
        adapter: of the exchange.
        parser: of the connection.
        instruments: of the connection, by symbol.
        types: message types wanted.
        http: client for the requests.
        inbox: where recovered messages go.
        stats: of the feed.
    """

    feed: str
    adapter: ExchangeAdapter
    parser: ExchangeParser
    instruments: dict[str, Instrument]
    types: frozenset[str]
    http: httpx.AsyncClient
    inbox: Inbox
    stats: FeedStats
    _waiting: deque[Gap] = field(default_factory=deque)
    _task: asyncio.Task[None] | None = None

    def add(self, gap: Gap) -> None:
        """Recover the trades of a gap, after those that wait already."""
        if not self.types & {"price", "trade"}:
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
            await asyncio.sleep(1 / self.adapter.limits.requests_per_second)

    async def _recover(self, gap: Gap) -> None:
        instrument, found = self.instruments.get(gap.symbol), list[Message]()
        request = None if instrument is None else self.adapter.trades_request(instrument, gap)
        if request is None or instrument is None:
            self._report(gap, complete=False)
            return
        state = self.parser.state
        try:
            found = await fetch_missing(
                *(self.adapter, self.http, request, instrument, gap),
                known=lambda: state.known_ids(gap.symbol),
            )
        except REST_ERRORS as error:
            log.warning("feed %s: cannot recover the trades of %s: %s", self.feed, gap, error)
            self._report(gap, complete=False)
            return
        trades = [message for message in found if isinstance(message, Trade)]
        state.remember(trades)
        self.inbox.put([message for message in found if type(message).__name__.lower() in self.types])
        if gap.is_certain:
            self._report(gap, complete=len(trades) > gap.last - gap.first)
        elif trades:
            self.stats.count_gap(gap.symbol)
            self._report(gap, complete=True)

    def _report(self, gap: Gap, *, complete: bool) -> None:
        self.stats.count_recovery(gap.symbol, complete=complete)
        if not complete:
            log.warning(
                "feed %s: trades of %s are missing and cannot be fetched: %s", self.feed, gap.symbol, gap
            )
