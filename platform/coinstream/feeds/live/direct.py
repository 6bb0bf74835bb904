"""Read an exchange through its adapter, without a client library."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

import httpx

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.base import ExchangeAdapter
from coinstream.feeds.exchanges.book_state import BOOK_LIMITS, BookLimits
from coinstream.feeds.exchanges.parsing import ExchangeParser
from coinstream.feeds.feed_stats import Anomaly
from coinstream.feeds.instrument_lists import packaged
from coinstream.feeds.instruments import Instrument, InstrumentList
from coinstream.feeds.live.base import Inbox, LiveFeed, Timeouts, together
from coinstream.feeds.live.recovery import REST_ERRORS, Link
from coinstream.feeds.parser import Parser
from coinstream.text import did_you_mean

log = logging.getLogger(__name__)

_HTTP_S: Final = 10.0
_CLOCK_SAMPLES: Final = 3
_LISTED_FOR_S: Final = 1.0


class DirectFeed(LiveFeed):
    """Feed of one exchange over as many connections as its symbols require.

    Args:
        adapter: adapter of the exchange.
        symbols: unified symbols.
        name: name of the feed.
        types: message types to produce.
        timeouts: see `Timeouts`.
        books: limits of `Book` messages.
    """

    def __init__(
        self,
        adapter: ExchangeAdapter,
        symbols: Sequence[str],
        name: str,
        types: Sequence[str] = ("level1", "price"),
        timeouts: Timeouts | None = None,
        books: BookLimits = BOOK_LIMITS,
    ) -> None:
        super().__init__(name, adapter.exchange, timeouts)
        if not symbols:
            raise FeedError(f"feed {name}: no symbols; set `symbols` in feeds.yaml")
        if not adapter.live:
            raise FeedError(
                f"feed {name}: {adapter.exchange} takes signed subscriptions only; it is read from recordings"
            )
        known = {kind for channel in adapter.channels for kind in channel.types}
        if strange := set(types) - known:
            raise FeedError(
                f"feed {name}: {adapter.exchange} has no {', '.join(sorted(strange))}; "
                f"it has {', '.join(sorted(known))}"
            )
        self._adapter = adapter
        self._symbols = list(dict.fromkeys(symbols))
        self._types, self._books = frozenset(types), books
        self._listed: tuple[float, InstrumentList] | None = None
        self._lists = asyncio.Lock()

    async def run(self, inbox: Inbox) -> None:
        """See `LiveFeed.run`."""
        # The websocket clients load slowly, and most processes that import feeds run none.
        from coinstream.feeds.live.connection import FeedConnection

        async with httpx.AsyncClient(timeout=_HTTP_S) as http:
            instruments = await self._instruments(http)
            chosen = self._chosen(instruments)
            link = Link(
                name=self.name,
                adapter=self._adapter,
                plan=lambda: self._adapter.connections(chosen, self._types),
                types=self._types,
                timeouts=self.timeouts,
                stats=self.stats,
                http=http,
                inbox=inbox,
                is_listed=lambda symbol: asyncio.ensure_future(self._is_listed(http, symbol)),
            )
            await self._prepare(http)
            by_symbol = {instrument.symbol: instrument for instrument in chosen}
            works = [
                FeedConnection(
                    link,
                    index,
                    self._parser(instruments),
                    {symbol: by_symbol[symbol] for symbol in planned.symbols if symbol in by_symbol},
                ).run()
                for index, planned in enumerate(link.plan())
            ]
            await together(*(asyncio.create_task(work) for work in [*works, self._clock(http)]))

    async def _prepare(self, http: httpx.AsyncClient) -> None:
        """Request what the websocket URLs need, for example a token, until the exchange answers.

        Raises:
            FeedError: the exchange does not answer for `Timeouts.give_up_after_s`.
        """
        backoff, started = self.timeouts.backoff(), time.monotonic()
        while True:
            try:
                await self._adapter.prepare(http)
            except REST_ERRORS as error:
                if time.monotonic() - started > self.timeouts.give_up_after_s:
                    raise FeedError(f"feed {self.name}: no answer from {self.exchange}: {error}") from error
                self.stats.trouble = str(error) or type(error).__name__
                log.warning("feed %s: %s", self.name, self.stats.trouble)
                await asyncio.sleep(backoff.next_s())
            else:
                return

    def _parser(self, instruments: InstrumentList) -> Parser:
        parser = self._adapter.parser(instruments, self._types)
        if isinstance(parser, ExchangeParser):
            parser.state.limit_books(self._books)
        return parser

    # Instruments

    async def _instruments(self, http: httpx.AsyncClient) -> InstrumentList:
        """Return the instruments of the exchange, or the packaged list if the request fails."""
        known = packaged(self.exchange)
        try:
            known.add(await self._request_list(http))
        except REST_ERRORS as error:
            log.warning(
                "feed %s: cannot request the instruments of %s (%s); using the packaged list",
                *(self.name, self.exchange, str(error) or type(error).__name__),
            )
        return known

    async def _request_list(self, http: httpx.AsyncClient) -> InstrumentList:
        return InstrumentList(await self._adapter.fetch_instruments(http, self._symbols))

    def _chosen(self, instruments: InstrumentList) -> list[Instrument]:
        found = {symbol: instruments.of_symbol(symbol) for symbol in self._symbols}
        missing = [symbol for symbol, instrument in found.items() if instrument is None]
        chosen = [instrument for instrument in found.values() if instrument is not None]
        if not chosen:
            symbols = [instrument.symbol for instrument in instruments]
            raise FeedError(
                f"feed {self.name}: {self.exchange} does not list {missing[0]}; "
                f"{did_you_mean(missing[0], symbols) if symbols else 'its list is not at hand'}"
            )
        derivative = next((symbol for symbol in missing if ":" in symbol), None)
        if derivative is not None and instruments.is_spot:
            raise FeedError(
                f"feed {self.name}: {derivative} is a derivative; {self.exchange} is a spot market"
            )
        for symbol in missing:
            self.stats.flags[Anomaly.VANISHED] += 1
            log.warning("feed %s: %s is not listed at %s", self.name, symbol, self.exchange)
        return chosen

    async def _is_listed(self, http: httpx.AsyncClient, symbol: str) -> bool:
        async with self._lists:
            now = time.monotonic()
            if self._listed is None or now - self._listed[0] > _LISTED_FOR_S:
                self._listed = (now, await self._request_list(http))
            found = self._listed[1].of_symbol(symbol)
        return found is not None and found.active

    # The clock

    async def _clock(self, http: httpx.AsyncClient) -> None:
        while True:
            try:
                self.stats.clock_ahead_ms = await self._ahead_ms(http)
            except REST_ERRORS as error:
                log.info("feed %s: the exchange's clock cannot be asked: %s", self.name, error)
            await asyncio.sleep(self.timeouts.clock_every_s)

    async def _ahead_ms(self, http: httpx.AsyncClient) -> float | None:
        """Return the offset of the exchange's clock in ms from the sample with the shortest round trip."""
        samples = []
        for _ in range(_CLOCK_SAMPLES):
            before = time.time()
            told = await self._adapter.clock_ms(http)
            after = time.time()
            if told is None:
                return None
            samples.append((after - before, told - (before + after) / 2 * 1000))
        return round(min(samples)[1], 1)
