"""Keep one connection of a live feed: subscribe, parse, recover from gaps, reconnect."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from typing import Final

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.base import ExchangeAdapter
from coinstream.feeds.exchanges.connections import Connection
from coinstream.feeds.exchanges.parsing import ExchangeParser
from coinstream.feeds.feed_stats import Anomaly
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.live.base import redacted, together
from coinstream.feeds.live.recovery import CHECK_S, REST_ERRORS, Link, SilenceWatch, TradeRecovery
from coinstream.feeds.live.sockets import Socket, SocketError, open_socket
from coinstream.feeds.parser import Frame, Gap, Parser, account_for, parse_each

log = logging.getLogger(__name__)

_LIMITED: Final = (418, 429)
_SNAPSHOT_RETRY_S: Final = 2.0


class FeedConnection:
    """One connection of a feed, reopened after each failure until it is cancelled.

    Args:
        link: state shared by the connections.
        index: position in the result of `Link.plan`.
        parser: parser with the state of this connection's symbols.
        instruments: instruments of this connection, by symbol.
    """

    def __init__(self, link: Link, index: int, parser: Parser, instruments: dict[str, Instrument]) -> None:
        self._link, self._index, self._parser, self._instruments = link, index, parser, instruments
        self._silence = SilenceWatch(link, instruments)
        self._asked: dict[str, float] = {}
        self._resync: set[str] = set()
        self._book_gaps: set[str] = set()
        self._recovery = _recovery(link, parser, instruments)
        self._held: asyncio.Task[None] | None = None
        self._socket: Socket | None = None
        answers = type(link.adapter).answer is not ExchangeAdapter.answer
        self._answer = link.adapter.answer if answers else None
        self._pongs: list[bytes] = []
        many = getattr(parser, "parse_many", None)
        self._parse_many = many or (lambda *batch: parse_each(parser, *batch))

    async def run(self) -> None:
        """Keep the connection open.

        Raises:
            FeedError: there is no data for `Timeouts.give_up_after_s`.
        """
        link = self._link
        backoff, connected_before, last_alive = link.timeouts.backoff(), False, time.monotonic()
        url = ""
        while True:
            pause_s, error, data_before = 0.0, "closed by the exchange", self._silence.messages
            try:
                await link.adapter.prepare(link.http)
                planned = link.plan()[self._index]
                url = planned.url
                socket = await open_socket(
                    url, planned.headers, self._on_frames, compressed=link.adapter.compression
                )
                if connected_before:
                    link.stats.flags[Anomaly.RECONNECT] += 1
                link.stats.opened(self._instruments, again=connected_before)
                connected_before = True
                await self._converse(socket, planned)
            except SocketError as failure:
                error = redacted(failure)
                if failure.status in _LIMITED:
                    link.stats.flags[Anomaly.RATE_LIMITED] += 1
                    pause_s = _retry_after_s(failure.retry_after)
            except REST_ERRORS as failure:
                error = f"{type(failure).__name__}: {redacted(failure)}"
            link.stats.closed(self._instruments)
            now = time.monotonic()
            if self._silence.messages > data_before:
                backoff.reset()
                last_alive = now
            elif now - last_alive > link.timeouts.give_up_after_s:
                raise FeedError(
                    f"feed {link.name}: no data from {redacted(url or link.adapter.exchange)} for "
                    f"{link.timeouts.give_up_after_s:g} s; last: {error}"
                )
            wait_s = max(pause_s, backoff.next_s())
            link.stats.trouble = error
            log.warning("feed %s: connection lost (%s); retry in %.1f s", link.name, error, wait_s)
            await asyncio.sleep(wait_s)

    async def _converse(self, socket: Socket, planned: Connection) -> None:
        if isinstance(self._parser, ExchangeParser):
            self._parser.renew()
            self._parser.opened(planned.url)
        self._socket = socket
        self._silence.restart()
        self._asked.clear()
        self._resync.clear()
        works = [
            self._closed(socket),
            self._silence.watch(socket),
            self._subscribe(socket, planned.requests),
            self._snapshots(socket),
        ]
        if self._link.adapter.heartbeat is not None:
            works.append(self._beat(socket))
        try:
            await together(*(asyncio.create_task(work) for work in works))
        finally:
            self._socket = None
            await socket.close()

    async def _closed(self, socket: Socket) -> None:
        await socket.wait_closed()

    async def _subscribe(self, socket: Socket, requests: Sequence[bytes]) -> None:
        for request in requests:
            await socket.send(request)
            await asyncio.sleep(1 / self._link.adapter.limits.requests_per_second)
        await asyncio.Event().wait()

    async def _beat(self, socket: Socket) -> None:
        heartbeat = self._link.adapter.heartbeat
        assert heartbeat is not None
        while True:
            await asyncio.sleep(heartbeat.every_s)
            await socket.send(heartbeat.payload)

    # Frames

    def _on_frames(self, payloads: Sequence[bytes]) -> None:
        link, received_ns = self._link, time.time_ns()
        if self._answer is not None:
            for payload in payloads:
                pong = self._answer(Frame(received_ns, payload))
                if pong is not None:
                    self._pongs.append(pong)
        messages, gaps = self._parse_many(payloads, received_ns, link.stats)
        if messages:
            link.stats.trouble = None
            self._silence.note(messages)
            link.inbox.put(messages)
        for gap in gaps:
            self._recover_from(gap)
        if (link.inbox.is_full or self._pongs) and (self._held is None or self._held.done()):
            self._held = asyncio.create_task(self._hold())

    async def _hold(self) -> None:
        """Send pending replies, and pause reading while the inbox is full."""
        socket = self._socket
        if socket is None:
            return
        pongs, self._pongs = self._pongs, []
        for pong in pongs:
            await socket.send(pong)
        if self._link.inbox.is_full:
            socket.pause()
            await self._link.inbox.free()
            socket.resume()

    # Gaps and snapshots

    def _recover_from(self, gap: Gap) -> None:
        if gap.kind == "book":
            self._resync.add(gap.symbol)
        elif self._recovery is not None:
            self._recovery.add(gap)
        if gap.is_certain and gap.symbol:
            self._link.stats.symbols[gap.symbol].gaps += 1
            if gap.kind == "book":
                self._book_gaps.add(gap.symbol)

    def _count_synced(self, unsynced: Collection[str]) -> None:
        """Count the gaps of books that were replaced since."""
        for symbol in self._book_gaps.difference(unsynced):
            self._book_gaps.discard(symbol)
            self._link.stats.count_recovery(symbol, complete=True)

    async def _snapshots(self, socket: Socket) -> None:
        """Request the snapshots of waiting books, one at a time."""
        parser, adapter = self._parser, self._link.adapter
        if not isinstance(parser, ExchangeParser):
            await asyncio.Event().wait()
            return
        while True:
            await asyncio.sleep(CHECK_S)
            now, unsynced = time.monotonic(), parser.state.unsynced()
            self._count_synced(unsynced)
            for symbol in unsynced:
                instrument = self._instruments.get(symbol)
                if (
                    instrument is None
                    or now - self._asked.get(symbol, -_SNAPSHOT_RETRY_S) < _SNAPSHOT_RETRY_S
                ):
                    continue
                self._asked[symbol] = now
                await self._snapshot(socket, instrument, parser)
                await asyncio.sleep(1 / adapter.limits.requests_per_second)

    async def _snapshot(self, socket: Socket, instrument: Instrument, parser: ExchangeParser) -> None:
        link = self._link
        try:
            frame = await link.adapter.snapshot(link.http, instrument)
        except REST_ERRORS as error:
            log.warning("feed %s: no snapshot of %s: %s", link.name, instrument.symbol, error)
            return
        if frame is not None:
            parsed = parser.parse(frame)
            account_for(parsed, frame, parser.exchange, link.stats)
            link.inbox.put(parsed.messages)
        elif "" in self._resync:
            self._resync.clear()
            raise SocketError("frames of the connection are missing; its books have a gap")
        elif instrument.symbol in self._resync:
            # The stream sends the snapshot: subscribe again, or reconnect.
            self._resync.discard(instrument.symbol)
            requests = link.adapter.resync(instrument)
            if not requests:
                raise SocketError(f"the book of {instrument.symbol} has a gap")
            for request in requests:
                await socket.send(request)


def _recovery(link: Link, parser: Parser, instruments: dict[str, Instrument]) -> TradeRecovery | None:
    if not isinstance(parser, ExchangeParser):
        return None
    return TradeRecovery(link, parser, instruments)


def _retry_after_s(text: str | None) -> float:
    try:
        return min(float(text or 0), 300.0)
    except ValueError:
        return 0.0
