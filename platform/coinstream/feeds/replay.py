"""Replay recordings at any speed through the parsers of the live feeds, with current times if wanted."""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from coinstream.errors import FeedError
from coinstream.feeds import recordings
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.exchanges.base import ExchangeAdapter
from coinstream.feeds.exchanges.book_state import BOOK_LIMITS, BookLimits
from coinstream.feeds.exchanges.parsing import ExchangeParser
from coinstream.feeds.feed_stats import FaultyFrame, FeedStats, Reason
from coinstream.feeds.instrument_lists import packaged
from coinstream.feeds.instruments import Instrument, InstrumentList
from coinstream.feeds.parser import Frame, Parser, account_for
from coinstream.feeds.recordings import Line
from coinstream.messages import Message, Ohlcv
from coinstream.serialization import is_time

M = TypeVar("M", bound=Message)


def rebased(message: M, shift_us: int) -> M:
    """Return the message with all times shifted by a number of microseconds.

    A candle is shifted by a multiple of its timeframe, so that its window stays aligned.
    """
    shift = timedelta(microseconds=shift_us)
    moved = {name: getattr(message, name) + shift for name in _times(type(message))}
    if isinstance(message, Ohlcv):
        window = message.close_time - message.open_time
        whole = (shift // window) * window if window else shift
        moved["open_time"] = message.open_time + whole
        moved["close_time"] = message.close_time + whole
    return msgspec.structs.replace(message, **moved)


@cache
def _times(cls: type[Message]) -> tuple[str, ...]:
    return tuple(field.name for field in msgspec.structs.fields(cls) if is_time(field.encode_name))


BATCH: Final = 500
"""Maximum messages per batch."""
_PATIENCE_S: Final = 0.25
_SAME_SESSION_NS: Final = 3_600_000_000_000
_WORTH_WAITING_NS: Final = 1_000_000
_NAMED: Final = 3
"""Maximum symbols in a note."""


class ReplayFeed:
    """Replay of recorded sessions of one exchange.

    Args:
        paths: recordings; several are merged by receipt time.
        speed: multiple of real time; None replays as fast as possible.
        name: name of the feed; by default that of the first recording.
        exchange: exchange of the frames; by default detected from the recording.
        loop: restart at the end.
        rebase: shift all times so that each message is received when it is replayed. The difference
            between exchange time and receipt time stays. Without it times stay as recorded, and topics
            with time-based retention delete old messages.
        books: limits of `Book` messages; the interval is that of the recorded receipt times.

    Raises:
        FeedError: a recording cannot be read, its exchange cannot be detected, or two differ in it.
    """

    def __init__(
        self,
        *paths: Path,
        speed: float | None = None,
        name: str | None = None,
        exchange: str | None = None,
        loop: bool = False,
        rebase: bool = True,
        books: BookLimits = BOOK_LIMITS,
    ) -> None:
        self.exchange = exchange or _common_exchange(paths)
        self.name = name or paths[0].name.partition(".")[0]
        self.stats = FeedStats()
        self._paths = paths
        self._speed = speed
        self._loop = loop
        self._rebase, self._books = rebase, books
        self._lister: ExchangeAdapter | None = None

    def messages(self, stop: threading.Event) -> Iterator[Sequence[Message]]:
        """See `Feed.messages`."""
        while True:
            yield from self._once(stop)
            if stop.is_set() or not self._loop:
                return

    def _once(self, stop: threading.Event) -> Iterator[Sequence[Message]]:
        instruments = packaged(self.exchange)
        parser = self._parser(self._paths[0], instruments)
        pace = _Pace(self._speed)
        opened: dict[Path, str | None] = {}
        address: str | None = None
        batch: list[Message] = []
        for at_ns, path, line in self._merged():
            if pace.wait_ns(at_ns) > _WORTH_WAITING_NS:
                yield batch
                batch = []
                while not stop.is_set() and (wait_ns := pace.wait_ns(at_ns)) > 0:
                    stop.wait(min(wait_ns / 1e9, _PATIENCE_S))
                    yield ()
            if stop.is_set():
                break
            if line.reason is Reason.OPENED and path in opened:
                # A new connection starts without the state of the previous one.
                self._note_unsynced(parser)
                parser, address = self._parser(path, instruments), None
            if line.reason is Reason.OPENED or path not in opened:
                opened[path] = line.frame.url if line.reason is Reason.OPENED else None
            if opened[path] != address:
                address = opened[path]
                recordings.tell_address(parser, address)
            batch.extend(self._read(line, parser, instruments))
            if len(batch) >= BATCH or self.stats.faults:
                yield batch
                batch = []
        if not stop.is_set():
            self._note_unsynced(parser)
        yield batch

    def _note_unsynced(self, parser: Parser) -> None:
        """Note the books whose changes were read without a snapshot."""
        symbols = parser.state.unsynced() if isinstance(parser, ExchangeParser) else []
        if not symbols or not self.stats.rejected[Reason.BOOK_UNSYNCED]:
            return
        more = f" and {len(symbols) - _NAMED} more" if len(symbols) > _NAMED else ""
        note = (
            f"no snapshot of the books of {', '.join(symbols[:_NAMED])}{more} is in the recording. "
            "If the exchange sends snapshots over REST, put the recording of its REST replies into one "
            "folder with this one, and replay the folder."
        )
        if note not in self.stats.notes:
            self.stats.notes.append(note)

    def _parser(self, path: Path, instruments: InstrumentList) -> Parser:
        parser = recordings.parser_for(path, self.exchange, instruments)
        if isinstance(parser, ExchangeParser):
            parser.state.limit_books(self._books)
        return parser

    def _merged(self) -> Iterator[_Due]:
        """Yield all lines by receipt time. Recordings of other days are shifted to the start of the first."""
        start_ns = _first_ns(self._paths[0])
        recorded = [_timed(path, start_ns, align=self._rebase) for path in self._paths]
        return heapq.merge(*recorded, key=lambda due: due.at_ns)

    def _read(self, line: Line, parser: Parser, instruments: InstrumentList) -> Sequence[Message]:
        frame = line.frame
        listed = self._listed(frame) if line.reason is None and frame.url is not None else None
        if listed is not None:
            instruments.add(listed)
            self.stats.refuse(Reason.STATUS)
            return ()
        if line.reason is not None:
            self.stats.refuse(line.reason)
            if line.reason.is_fault:
                self.stats.keep_fault(
                    FaultyFrame(self.exchange, frame.received_ns, line.reason, "no time stamp", frame.payload)
                )
            return ()
        parsed = parser.parse(frame)
        account_for(parsed, frame, self.exchange, self.stats)
        if not self._rebase:
            return parsed.messages
        shift_us = (time.time_ns() - frame.received_ns) // 1000
        return [rebased(message, shift_us) for message in parsed.messages]

    def _listed(self, frame: Frame) -> list[Instrument] | None:
        """Return the instruments of a REST reply in the recording, or None if it lists none."""
        adapter = adapters().get(self.exchange)
        if adapter is None or not adapter.lists_instruments(frame.url or ""):
            return None
        try:
            return self._adapter(adapter).parse_instruments(frame.url or "", frame.payload)
        except FeedError:
            return None  # the parser names the reason

    def _adapter(self, adapter: type[ExchangeAdapter]) -> ExchangeAdapter:
        # One for all replies: some exchanges spread their list over several.
        if self._lister is None:
            self._lister = adapter()
        return self._lister


class _Due(NamedTuple):
    at_ns: int
    path: Path
    line: Line


def _common_exchange(paths: Sequence[Path]) -> str:
    """Return the exchange of all recordings.

    Raises:
        FeedError: an exchange cannot be detected, or two recordings differ in it.
    """
    found = {recordings.exchange_in(path): path for path in reversed(paths)}
    if len(found) > 1:
        named = ", ".join(f"{path.name} is of {exchange}" for exchange, path in sorted(found.items()))
        raise FeedError(f"recordings of one session come from one exchange: {named}")
    return next(iter(found))


def _first_ns(path: Path) -> int:
    return next((line.frame.received_ns for line in recordings.read_lines(path)), 0)


def _timed(path: Path, start_ns: int, *, align: bool) -> Iterator[_Due]:
    first_ns = _first_ns(path)
    moved = start_ns - first_ns if align and abs(start_ns - first_ns) > _SAME_SESSION_NS else 0
    for line in recordings.read_lines(path):
        yield _Due(line.frame.received_ns + moved, path, line)


class _Pace:
    """Map recorded times to due times, relative to the first one."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._origin: tuple[int, int] | None = None

    def wait_ns(self, recorded_ns: int) -> int:
        if self._speed is None:
            return 0
        now = time.monotonic_ns()
        if self._origin is None:
            self._origin = (recorded_ns, now)
        recorded_from, started = self._origin
        return started + int((recorded_ns - recorded_from) / self._speed) - now
