"""Count the frames of a feed by outcome and keep faulty frames as dead letters."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

MAX_DEAD_LETTERS: Final = 10_000
"""Dead letters kept until the runner publishes them. A feed stops with an error at this limit."""
DEAD_LETTER_SAMPLE: Final = 65_536
"""Maximum bytes of a faulty frame in its dead letter."""


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
        """Return whether the frame should have produced a message, so that it becomes a dead letter."""
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


class DeadLetter(NamedTuple):
    """A frame that could not be converted to a message, with the reason."""

    exchange: str
    received_ns: int
    reason: Reason
    detail: str
    payload: bytes


@dataclass
class FeedStats:
    """Counts of one feed. `frames` is the sum of `accepted` and `rejected`.

    Attributes:
        frames: frames (or lines of a recording) received.
        accepted: frames that produced at least one message.
        rejected: frames without a message, by reason.
        entries: entries of accepted frames that produced no message, by reason.
        flags: anomalies of messages and connections, by kind.
        dead: dead letters that the runner has not published yet.
        kept_once: unknown symbols and frame kinds that already have a dead letter.
        trouble: last connection error of a live feed; None while it is connected.
        clock_ahead_ms: offset of the exchange's clock, positive when it is ahead of this machine's; None
            if not measured.
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
        """Return whether every frame was accepted or rejected."""
        return self.frames == self.accepted + self.rejected.total()

    @property
    def is_full(self) -> bool:
        """Return whether the limit of unpublished dead letters is reached."""
        return len(self.dead) >= MAX_DEAD_LETTERS

    def refuse(self, reason: Reason) -> None:
        """Count a frame that the parser does not process."""
        self.frames += 1
        self.rejected[reason] += 1

    def bury(self, letter: DeadLetter) -> None:
        """Keep a faulty frame for the dead-letter topic.

        Only the first frame of an unknown symbol or kind is kept; all are counted.
        """
        if letter.reason in _KEPT_ONCE and letter.detail:
            told = (letter.reason, letter.detail)
            if told in self.kept_once:
                return
            if len(self.kept_once) < MAX_DEAD_LETTERS:
                self.kept_once.add(told)
        self.dead.append(letter._replace(payload=letter.payload[:DEAD_LETTER_SAMPLE]))

    def take_dead(self) -> list[DeadLetter]:
        """Return the unpublished dead letters and clear the list."""
        return [self.dead.popleft() for _ in range(len(self.dead))]


Account = FeedStats
"""The name of `FeedStats` before 0.2."""
Flag = Anomaly
"""The name of `Anomaly` before 0.2."""
