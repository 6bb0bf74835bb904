"""List the symbols of all feeds on this machine with connection, rate, gaps and age of the data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import NamedTuple

from coinstream.feeds.status import FeedStatus, read_all


class SymbolRow(NamedTuple):
    """One symbol of one feed at some moment: what `coinstream feed status` and the asset of an exchange show.

    Attributes:
        feed: name of the feed.
        exchange: its exchange.
        symbol: unified symbol.
        running: whether the feed updates its status.
        connected: whether the connection that carries the symbol is open.
        messages: messages published since the start of the feed.
        rate: messages per second.
        last_message: Unix seconds of the newest message; None before the first.
        stale_s: seconds since the newest message; None before the first.
        reconnects: times the connection was opened again.
        gaps: gaps in the symbol's streams.
        recovered: gaps that were filled.
        unrecovered: gaps that could not be filled.
    """

    feed: str
    exchange: str
    symbol: str
    running: bool
    connected: bool
    messages: int
    rate: float
    last_message: float | None
    stale_s: float | None
    reconnects: int
    gaps: int
    recovered: int
    unrecovered: int


def symbol_rows(folder: Path, exchange: str | None = None, now: float | None = None) -> list[SymbolRow]:
    """Return one row for each symbol of each feed that ran on this machine.

    Args:
        folder: folder of status files.
        exchange: only feeds of this exchange.
        now: Unix seconds that ages are counted to; by default the present.
    """
    now = time.time() if now is None else now
    return [
        row
        for status in read_all(folder)
        if exchange is None or status.exchange == exchange
        for row in rows_of(status, now)
    ]


def rows_of(status: FeedStatus, now: float) -> list[SymbolRow]:
    """Return one row for each symbol of a feed, with ages counted to `now` in Unix seconds."""
    running = status.is_running(now)
    return [
        SymbolRow(
            *(status.feed, status.exchange, name, running),
            *(symbol.connected and running, symbol.messages, symbol.rate),
            symbol.last_message or None,
            round(max(now - symbol.last_message, 0.0), 1) if symbol.last_message else None,
            *(symbol.reconnects, symbol.gaps, symbol.recovered, symbol.unrecovered),
        )
        for name, symbol in status.symbols.items()
    ]
