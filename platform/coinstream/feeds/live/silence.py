"""Detect connections and symbols of a live feed that have become silent."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final

from coinstream.feeds.feed_stats import Anomaly, symbols_of
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.live.link import REST_ERRORS, Link
from coinstream.feeds.live.sockets import Socket
from coinstream.messages import Message

log = logging.getLogger(__name__)

CHECK_S: Final = 0.25
"""Interval between two checks, in seconds."""


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
