"""Report the status of feeds and their symbols, and define the final report of a run."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from coinstream.feeds.feed_stats import Anomaly, FeedStats, symbols_of
from coinstream.files import private_folder, write_whole
from coinstream.messages import Message
from coinstream.monitoring.metrics import METRICS


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of a distribution, in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Quantiles | None:
        """Return the quantiles of samples, or None if there are none."""
        ordered = sorted(samples)
        if not ordered:
            return None
        return cls(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1])


@dataclass(frozen=True, slots=True)
class FeedReport:
    """Report of one feed run.

    Attributes:
        messages: messages acknowledged by the broker.
        by_type: acknowledged messages by message type.
        frames: frames received; each produced messages or is counted in `rejected` by reason.
        entries: entries of frames that produced no message, by reason.
        flags: anomalies by kind: crossed books, gaps, reconnects.
        dead_letters: faulty frames, all in the dead-letter topic.
        rounded_prices: prices changed by rounding, by `type.field`.
        lossy_prices: prices changed by rounding by more than one millionth of their value.
        lease_token: number of runs that have held the feed's lease, including this one; None without a
            lease.
        clock_ahead_ms: offset of the exchange's clock, positive when it is ahead of this machine's. Measured
            by its time endpoint, else a lower bound from quotes ahead of their receipt; None if unknown.
        exchange_to_receipt: receipt time minus exchange time; negative if the exchange's clock is ahead.
        receipt_to_produce: time from receipt until the client accepted the message.
        offsets: acknowledged offsets by `topic[partition]`.
        notes: advice about the result, for example on books without a snapshot.
    """

    feed: str
    exchange: str
    messages: int
    seconds: float
    rate: float
    by_type: dict[str, int]
    frames: int
    rejected: dict[str, int]
    entries: dict[str, int]
    flags: dict[str, int]
    dead_letters: int
    rounded_prices: dict[str, int]
    lossy_prices: dict[str, int]
    lease_token: int | None
    clock_ahead_ms: float | None
    exchange_to_receipt: Quantiles | None
    receipt_to_produce: Quantiles | None
    offsets: dict[str, Any]
    notes: tuple[str, ...] = ()


WRITE_EVERY_S: Final = 1.0
_SYMBOL_EVENTS: Final = ("reconnects", "gaps", "recovered", "unrecovered")
RUNNING_WITHIN_S: Final = 15.0
"""Maximum age of the status of a running feed."""


class SymbolStatus(msgspec.Struct):
    """Status of one symbol of a feed. Counts are since the start of the feed.

    Attributes:
        messages: messages published.
        rate: messages per second since the status was written last.
        last_message: Unix seconds of the newest message; 0 before the first.
        connected: whether the connection that carries the symbol is open.
        reconnects: times that connection was opened again.
        gaps: gaps in the symbol's streams.
        recovered: gaps that were filled.
        unrecovered: gaps that could not be filled.
    """

    messages: int = 0
    rate: float = 0.0
    last_message: float = 0.0
    connected: bool = False
    reconnects: int = 0
    gaps: int = 0
    recovered: int = 0
    unrecovered: int = 0


class FeedStatus(msgspec.Struct):
    """Status of one feed. Counts are since its start; `updated` is in Unix seconds."""

    feed: str
    exchange: str
    pid: int
    updated: float
    connected: bool
    ended: bool
    trouble: str | None
    messages: int
    rate: float
    reconnects: int
    gaps: int
    recovered: int
    frozen: int
    unrecovered: int = 0
    symbols: dict[str, SymbolStatus] = {}

    def is_running(self, now: float) -> bool:
        """Return whether the feed still updates its status."""
        return not self.ended and now - self.updated < RUNNING_WITHIN_S


class StatusWriter:
    """Counts messages by symbol and writes the status once a second.

    Args:
        folder: folder of status files; None exports metrics only.
        feed: name of the feed.
        exchange: exchange of the feed.
        stats: counts of the feed.
    """

    def __init__(self, folder: Path | None, feed: str, exchange: str, stats: FeedStats) -> None:
        self._path = None if folder is None else folder / f"{_file_name(feed)}.json"
        self._feed, self._exchange, self._stats = feed, exchange, stats
        self._counts: Counter[str] = Counter()
        self._before: Counter[str] = Counter()
        self._last: dict[str, float] = {}
        self._written = time.time()

    def add(self, messages: Sequence[Message]) -> None:
        """Count messages, and write the status when it is due."""
        self._counts.update(symbols_of(messages))
        self.tick()

    def tick(self, *, ended: bool = False) -> None:
        """Write the status when it is due, or at the end."""
        now = time.time()
        if ended or now - self._written >= WRITE_EVERY_S:
            self._write(now, ended)

    def _write(self, now: float, ended: bool) -> None:
        passed = max(now - self._written, 0.001)
        new = self._counts - self._before
        self._last.update(dict.fromkeys(new, now))
        flags = self._stats.flags
        status = FeedStatus(
            feed=self._feed,
            exchange=self._exchange,
            pid=os.getpid(),
            updated=now,
            connected=not ended and self._stats.trouble is None and self._stats.frames > 0,
            ended=ended,
            trouble=self._stats.trouble,
            messages=self._counts.total(),
            rate=round(new.total() / passed, 1),
            reconnects=flags[Anomaly.RECONNECT],
            gaps=flags[Anomaly.GAP],
            recovered=flags[Anomaly.RECOVERED],
            frozen=flags[Anomaly.FROZEN],
            unrecovered=flags[Anomaly.UNRECOVERED],
        )
        status.symbols = {
            symbol: self._symbol(symbol, new[symbol] / passed, status.connected, ended)
            for symbol in sorted(self._counts.keys() | self._stats.symbols.keys())
        }
        self._before, self._written = Counter(self._counts), now
        self._export(status)
        if self._path is not None:
            private_folder(self._path.parent)
            write_whole(self._path, msgspec.json.encode(status))

    def _symbol(self, symbol: str, rate: float, connected: bool, ended: bool) -> SymbolStatus:
        events = self._stats.symbols.get(symbol)
        status = SymbolStatus(self._counts[symbol], round(rate, 1), self._last.get(symbol, 0.0), connected)
        if events is not None:
            status.connected = events.connected and not ended
            status.reconnects, status.gaps = events.reconnects, events.gaps
            status.recovered, status.unrecovered = events.recovered, events.unrecovered
        return status

    def _export(self, status: FeedStatus) -> None:
        labels = self._feed, self._exchange
        METRICS.feed_connected.labels(*labels).set(status.connected)
        for event in (*_SYMBOL_EVENTS, "frozen"):
            METRICS.feed_events.labels(*labels, event).set(getattr(status, event))
        for name, symbol in status.symbols.items():
            METRICS.feed_symbol_connected.labels(*labels, name).set(symbol.connected)
            METRICS.feed_symbol_rate.labels(*labels, name).set(symbol.rate)
            if symbol.last_message:
                METRICS.feed_last_message.labels(*labels, name).set(symbol.last_message)
            for event in _SYMBOL_EVENTS:
                METRICS.feed_symbol_events.labels(*labels, name, event).set(getattr(symbol, event))


def read_all(folder: Path) -> list[FeedStatus]:
    """Return the status of every feed that ran on this machine, sorted by name, without unreadable files."""
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            found.append(msgspec.json.decode(path.read_bytes(), type=FeedStatus))
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            continue
    return found


def _file_name(feed: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in feed)[:100] or "feed"


class SymbolRow(NamedTuple):
    """Row of `coinstream feed status` and of an exchange's asset: one symbol of one feed.

    Attributes:
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
