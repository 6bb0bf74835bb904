"""What became of the frames a feed received: counted by reason, faults kept as dead letters."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

MAX_DEAD_LETTERS: Final = 10_000
"""Dead letters kept until the runner takes them. A feed that reaches this stops with an error."""
DEAD_LETTER_SAMPLE: Final = 65_536
"""Bytes of a faulty frame that a dead letter keeps."""


class Reason(StrEnum):
    """Why a frame, or an entry of one, did not become a message."""

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
        """Whether the frame should have become a message: it goes to the dead letters."""
        return self in _FAULTS


_FAULTS: Final = frozenset(
    {Reason.MALFORMED, Reason.BAD_VALUE, Reason.UNKNOWN, Reason.UNKNOWN_SYMBOL, Reason.REFUSED}
)


_KEPT_ONCE: Final = frozenset({Reason.UNKNOWN, Reason.UNKNOWN_SYMBOL})


class Anomaly(StrEnum):
    """A remarkable thing about a message that was produced all the same."""

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


class DeadLetter(NamedTuple):
    """A frame that could not become a message, with the reason."""

    exchange: str
    received_ns: int
    reason: Reason
    detail: str
    payload: bytes


@dataclass
class FeedStats:
    """Counts of one feed. `frames` = frames that gave messages + frames that were rejected.

    Attributes:
        frames: frames (or lines of a recording) received.
        accepted: frames that gave at least one message.
        rejected: frames without a message, by reason.
        entries: entries of accepted frames that gave no message, by reason.
        flags: remarkable messages and events, by kind.
        dead: dead letters that the runner has not taken yet.
        kept_once: unknown symbols and kinds of frames that have a dead letter already.
        trouble: what kept a live feed from its source last; None while all is well.
        clock_ahead_ms: how far the exchange's clock runs ahead of this machine's; None: not measured.
    """

    frames: int = 0
    accepted: int = 0
    rejected: Counter[Reason] = field(default_factory=Counter)
    entries: Counter[Reason] = field(default_factory=Counter)
    flags: Counter[Anomaly] = field(default_factory=Counter)
    dead: deque[DeadLetter] = field(default_factory=deque)
    kept_once: set[tuple[Reason, str]] = field(default_factory=set)
    clock_ahead_ms: float | None = None
    trouble: str | None = None

    @property
    def is_balanced(self) -> bool:
        """Whether every frame is accounted for."""
        return self.frames == self.accepted + self.rejected.total()

    @property
    def is_full(self) -> bool:
        """Whether no more dead letters may pile up."""
        return len(self.dead) >= MAX_DEAD_LETTERS

    def refuse(self, reason: Reason) -> None:
        """Count a frame that is no concern of the parser."""
        self.frames += 1
        self.rejected[reason] += 1

    def bury(self, letter: DeadLetter) -> None:
        """Keep a faulty frame for the dead-letter topic.

        Of an unknown symbol or an unknown kind of frame only the first one is kept. All are counted.
        """
        if letter.reason in _KEPT_ONCE and letter.detail:
            told = (letter.reason, letter.detail)
            if told in self.kept_once:
                return
            if len(self.kept_once) < MAX_DEAD_LETTERS:
                self.kept_once.add(told)
        self.dead.append(letter._replace(payload=letter.payload[:DEAD_LETTER_SAMPLE]))

    def take_dead(self) -> list[DeadLetter]:
        """Hand over the dead letters gathered so far."""
        return [self.dead.popleft() for _ in range(len(self.dead))]


Account = FeedStats
"""The name of `FeedStats` before 0.2."""
Flag = Anomaly
"""The name of `Anomaly` before 0.2."""
