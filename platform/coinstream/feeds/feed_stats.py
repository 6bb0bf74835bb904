"""Define the interface of a feed, and count its frames by outcome."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from operator import attrgetter
from typing import Final, NamedTuple, Protocol

from coinstream.messages import Message

MAX_FAULTS: Final = 10_000
"""Faulty frames kept until the runner takes them. A feed that reaches this limit stops with an error."""
FAULT_SAMPLE: Final = 65_536
"""Bytes kept of a faulty frame."""


class Reason(StrEnum):
    """Reason why a frame, or an entry of a frame, produced no message."""

    SENT = "sent by the client"
    OPENED = "connection opened"
    ACKNOWLEDGED = "acknowledgement"
    HEARTBEAT = "heartbeat"
    STATUS = "status"
    DEPTH = "depth update (the top comes from another stream)"
    TOP_UNCHANGED = "top of book unchanged"
    BOOK_UNSYNCED = "book awaits its snapshot"
    SNAPSHOT_STALE = "snapshot older than the book"
    NOT_DOLLARS = "price not in dollars"
    NO_PRICE = "price empty or zero"
    NO_SIZES = "quote without sizes"
    NO_TRADE_SIZE = "trade without a size in base currency"
    LENDING = "lending rate, no price"
    ONE_SIDED = "quote with an empty side"
    EMPTY = "frame without entries"
    INCOMPLETE = "delta before its first full ticker"
    DUPLICATE = "duplicate"
    OUT_OF_DATE = "older than what was sent before"
    NOT_WANTED = "type not asked for"
    OTHER_INSTRUMENT = "instrument of a kind that is not read (combo, spread, index)"
    OTHER_CHANNEL = "channel that is not read"
    CHECKSUM = "book does not match the checksum of the exchange"
    MALFORMED = "malformed"
    BAD_VALUE = "value no market can have"
    UNKNOWN = "unknown kind of frame"
    UNKNOWN_SYMBOL = "unknown symbol"
    REFUSED = "error from the exchange"

    @property
    def is_fault(self) -> bool:
        """Return whether the frame should have produced a message, and goes to the dead-letter queue."""
        return self in _FAULTS


_FAULTS: Final = frozenset(
    {Reason.MALFORMED, Reason.BAD_VALUE, Reason.UNKNOWN, Reason.UNKNOWN_SYMBOL, Reason.REFUSED}
)


_KEPT_ONCE: Final = frozenset({Reason.UNKNOWN, Reason.UNKNOWN_SYMBOL})


class Anomaly(StrEnum):
    """Anomaly of a published message or of its connection."""

    CROSSED = "crossed book (bid above ask)"
    LOCKED = "locked book (bid equals ask)"
    GAP = "sequence gap"
    RECONNECT = "reconnect"
    FROZEN = "stream frozen, reconnected"
    RECOVERED = "recovered after a gap"
    UNRECOVERED = "gap that could not be filled"
    RATE_LIMITED = "rate limited"
    VANISHED = "symbol vanished"
    RECORD_TIME_HELD = "record time held within the broker's bounds (event time far from this clock)"


class FaultyFrame(NamedTuple):
    """A frame that could not become a message, with the reason."""

    exchange: str
    received_ns: int
    reason: Reason
    detail: str
    payload: bytes


@dataclass
class SymbolEvents:
    """Connection and gaps of one symbol of a live feed.

    Attributes:
        connected: whether the connection that carries the symbol is open.
        reconnects: times that connection was opened again.
        gaps: gaps in the symbol's streams.
        recovered: gaps that were filled: missing trades fetched, or the book replaced.
        unrecovered: gaps that could not be filled.
    """

    connected: bool = False
    reconnects: int = 0
    gaps: int = 0
    recovered: int = 0
    unrecovered: int = 0


@dataclass
class FeedStats:
    """Counts of one feed. `frames` is the sum of `accepted` and `rejected`.

    Attributes:
        frames: frames (or lines of a recording) received.
        accepted: frames that produced at least one message.
        rejected: frames without a message, by reason.
        entries: entries of accepted frames that gave no message, by reason.
        flags: remarkable messages and events, by kind.
        faults: faulty frames that the runner has not taken yet.
        kept_once: unknown symbols and kinds of frames of which a faulty frame was kept already.
        trouble: the last reason that a live feed had no data; None while it has.
        clock_ahead_ms: how far the exchange's clock runs ahead of this machine's; None: not measured.
        symbols: connection and gaps of each symbol of a live feed.
        notes: advice for the user about the result.
    """

    frames: int = 0
    accepted: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)
    entries: Counter[Reason] = field(default_factory=Counter)
    flags: Counter[Anomaly] = field(default_factory=Counter)
    faults: deque[FaultyFrame] = field(default_factory=deque)
    kept_once: set[tuple[Reason, str]] = field(default_factory=set)
    clock_ahead_ms: float | None = None
    trouble: str | None = None
    symbols: defaultdict[str, SymbolEvents] = field(default_factory=lambda: defaultdict(SymbolEvents))
    notes: list[str] = field(default_factory=list)

    @property
    def is_balanced(self) -> bool:
        """Return whether every frame was accepted or rejected."""
        return self.frames == self.accepted + self.rejected.total()

    @property
    def is_full(self) -> bool:
        """Return whether the limit of kept faulty frames is reached."""
        return len(self.faults) >= MAX_FAULTS

    def refuse(self, reason: Reason) -> None:
        """Count a frame that does not reach the parser."""
        self.frames += 1
        self.rejected[reason] += 1

    def opened(self, symbols: Iterable[str], *, again: bool) -> None:
        """Note that the connection of some symbols is open, `again` after an earlier one."""
        for symbol in symbols:
            events = self.symbols[symbol]
            events.connected = True
            events.reconnects += again

    def closed(self, symbols: Iterable[str]) -> None:
        """Note that the connection of some symbols is closed."""
        for symbol in symbols:
            self.symbols[symbol].connected = False

    def count_gap(self, symbol: str) -> None:
        """Count a gap that the parser did not count: it turned out later."""
        self.flags[Anomaly.GAP] += 1
        self.symbols[symbol].gaps += 1

    def count_recovery(self, symbol: str, *, complete: bool) -> None:
        """Count a gap that was filled, or could not be."""
        self.flags[Anomaly.RECOVERED if complete else Anomaly.UNRECOVERED] += 1
        events = self.symbols[symbol]
        if complete:
            events.recovered += 1
        else:
            events.unrecovered += 1

    def keep_fault(self, fault: FaultyFrame) -> None:
        """Keep a faulty frame for the dead-letter topic.

        Only the first frame of an unknown symbol or kind is kept; all are counted.
        """
        if fault.reason in _KEPT_ONCE and fault.detail:
            key = (fault.reason, fault.detail)
            if key in self.kept_once:
                return
            if len(self.kept_once) < MAX_FAULTS:
                self.kept_once.add(key)
        self.faults.append(fault._replace(payload=fault.payload[:FAULT_SAMPLE]))

    def take_faults(self) -> list[FaultyFrame]:
        """Return the faulty frames kept so far, and forget them."""
        return [self.faults.popleft() for _ in range(len(self.faults))]


_SYMBOL: Final = attrgetter("symbol")


class Feed(Protocol):
    """A source of market messages.

    Attributes:
        name: name in `feeds.yaml` and on the command line.
        exchange: `exchangeId` of its messages, or of most of them.
        stats: counts of received frames by outcome.
    """

    name: str
    exchange: str
    stats: FeedStats

    def messages(self, stop: threading.Event) -> Iterator[Sequence[Message]]:
        """Yield batches until the source ends or `stop` is set.

        A batch may be empty: a waiting feed yields one at least every 250 ms, so that the caller can check
        its deadline. Closing the iterator closes every connection.

        Raises:
            FeedError: the source cannot be read; the message names the feed.
        """
        ...


def symbols_of(messages: Sequence[Message]) -> Iterable[str]:
    """Return the symbol of each message, empty text for a type without symbols."""
    if all(hasattr(kind, "symbol") for kind in set(map(type, messages))):
        return map(_SYMBOL, messages)
    return (getattr(message, "symbol", "") for message in messages)
