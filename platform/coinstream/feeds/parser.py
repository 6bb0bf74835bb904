"""Define the parser of an exchange: it turns one frame of the protocol into messages or reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, Literal, NamedTuple, Protocol, TypeVar

import msgspec

from coinstream.feeds.feed_stats import Anomaly, FaultyFrame, FeedStats, Reason
from coinstream.messages import Level1, Message

Number = Annotated[float, msgspec.Meta(ge=0, lt=1e30)]
"""A price or size as exchanges write it: a JSON number or text. Empty text is not one."""
Finite = Annotated[float, msgspec.Meta(gt=-1e30, lt=1e30)]
"""A number of either sign; neither NaN nor infinite, also as text."""


T = TypeVar("T")
_EMPTY: Final = b':""'


class Frame(NamedTuple):
    """Bytes from an exchange, with their receipt time and, for REST, the address that they answer."""

    received_ns: int
    payload: bytes
    url: str | None = None


GapKind = Literal["book", "trades", "reconnect"]
"""Missing data: changes of a book, numbered trades, or possibly trades during a lost connection."""


class Gap(NamedTuple):
    """Messages of a symbol's stream that are missing. Only that symbol is recovered.

    Attributes:
        symbol: unified symbol; empty where the exchange numbers the frames of the whole connection.
        first: number of the first missing message; -1 where the stream is not numbered.
        last: number of the last missing message.
        kind: see `GapKind`.
        since: time of the last trade before the gap.
        until: time of the first trade after the gap.
    """

    symbol: str
    first: int
    last: int
    kind: GapKind = "book"
    since: datetime | None = None
    until: datetime | None = None

    @property
    def is_certain(self) -> bool:
        """Return whether messages are missing for sure."""
        return self.kind != "reconnect"


class Parsed(NamedTuple):
    """The result of one frame. Errors are values: bad frames are frequent.

    Attributes:
        messages: in the order of the frame.
        rejected: one reason per entry that gave no message.
        detail: text about a fault, for the dead-letter queue.
        gap: messages of the numbered stream that are missing before this frame.
        more_gaps: further gaps, where a frame shows several.
    """

    messages: Sequence[Message] = ()
    rejected: Sequence[Reason] = ()
    detail: str = ""
    gap: Gap | None = None
    more_gaps: tuple[Gap, ...] = ()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Return all gaps."""
        return () if self.gap is None else (self.gap, *self.more_gaps)

    def with_gaps(self, *gaps: Gap | None) -> Parsed:
        """Return the result with further gaps in front."""
        found = [gap for gap in (*gaps, *self.gaps) if gap is not None]
        return self._replace(gap=found[0], more_gaps=tuple(found[1:])) if found else self


class ParsedBatch(NamedTuple):
    """The result of the frames of one socket read."""

    messages: list[Message]
    gaps: list[Gap]


class Parser(Protocol):
    """Reads the frames of one connection, in their order, and keeps the state that the protocol needs."""

    exchange: str

    def parse(self, frame: Frame) -> Parsed:
        """Return the messages of a frame, or the reasons why there are none. Bad data never raises."""
        ...


def rejected(reason: Reason, detail: str = "") -> Parsed:
    """Return the result of a frame that gave no message."""
    return Parsed((), (reason,), detail)


ACKNOWLEDGED: Final = rejected(Reason.ACKNOWLEDGED)
HEARTBEAT: Final = rejected(Reason.HEARTBEAT)
STATUS: Final = rejected(Reason.STATUS)
DEPTH: Final = rejected(Reason.DEPTH)
DUPLICATE: Final = rejected(Reason.DUPLICATE)
OUT_OF_DATE: Final = rejected(Reason.OUT_OF_DATE)
NOT_DOLLARS: Final = rejected(Reason.NOT_DOLLARS)
ONE_SIDED: Final = rejected(Reason.ONE_SIDED)
NO_SIZES: Final = rejected(Reason.NO_SIZES)


def from_ms(milliseconds: float) -> datetime:
    """Return the time of a Unix timestamp in milliseconds."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def from_ns(nanoseconds: int) -> datetime:
    """Return the time of a Unix timestamp in nanoseconds, to the microsecond."""
    return datetime.fromtimestamp(nanoseconds / 1_000_000_000, UTC)


def read(decoder: msgspec.json.Decoder[T], body: msgspec.Raw | bytes) -> T:
    """Decode a frame; empty text in place of a number reads as zero.

    Raises:
        msgspec.DecodeError: not JSON.
        msgspec.ValidationError: JSON of another shape than the protocol's.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        plain = bytes(body)
        if _EMPTY not in plain:
            raise
        return decoder.decode(plain.replace(_EMPTY, b":0"))


def fault(error: Exception) -> Parsed:
    """Return the rejection of a frame that does not decode: malformed JSON, or a wrong value."""
    if isinstance(error, msgspec.ValidationError):
        return rejected(Reason.BAD_VALUE, str(error))
    return rejected(Reason.MALFORMED, str(error))


def parse_each(parser: Parser, payloads: Iterable[bytes], received_ns: int, stats: FeedStats) -> ParsedBatch:
    """Parse frames one by one and count them."""
    messages: list[Message] = []
    gaps: list[Gap] = []
    for payload in payloads:
        frame = Frame(received_ns, payload)
        parsed = parser.parse(frame)
        account_for(parsed, frame, parser.exchange, stats)
        messages.extend(parsed.messages)
        gaps += parsed.gaps
    return ParsedBatch(messages, gaps)


def account_for(parsed: Parsed, frame: Frame, exchange: str, stats: FeedStats) -> None:
    """Count the result of a frame, flag its anomalies and keep its fault for the dead-letter queue."""
    stats.frames += 1
    if parsed.messages:
        stats.accepted += 1
        for message in parsed.messages:
            # Hot path: one comparison per quote.
            if isinstance(message, Level1) and message.best_bid >= message.best_ask:
                stats.flags[Anomaly.CROSSED if message.best_bid > message.best_ask else Anomaly.LOCKED] += 1
        if parsed.rejected:
            stats.entries.update(parsed.rejected)
    else:
        stats.rejected[parsed.rejected[0] if parsed.rejected else Reason.UNKNOWN] += 1
    if parsed.gap is not None:
        stats.flags[Anomaly.GAP] += sum(gap.is_certain for gap in parsed.gaps)
    for reason in parsed.rejected:
        if reason.is_fault:
            stats.keep_fault(FaultyFrame(exchange, frame.received_ns, reason, parsed.detail, frame.payload))
            break
