"""What a parser is: it turns one frame of one exchange's protocol into messages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Final, NamedTuple, Protocol, TypeVar

import msgspec

from coinstream.feeds.feed_stats import Anomaly, DeadLetter, FeedStats, Reason
from coinstream.feeds.symbols import is_in_dollars
from coinstream.messages import Level1, Message, Price

Number = Annotated[float, msgspec.Meta(ge=0, lt=1e30)]
"""A price or size as exchanges write it: a JSON number or text. Empty text is not one."""
Finite = Annotated[float, msgspec.Meta(gt=-1e30, lt=1e30)]
"""A number of either sign; neither NaN nor infinite, also as text."""


T = TypeVar("T")
_EMPTY: Final = b':""'


class Frame(NamedTuple):
    """Bytes from an exchange, with the moment they came in and, for REST, the address they answer."""

    received_ns: int
    payload: bytes
    url: str | None = None


class Gap(NamedTuple):
    """Messages `first` to `last` of a symbol's numbered stream did not come. Recover that symbol alone."""

    symbol: str
    first: int
    last: int


class Parsed(NamedTuple):
    """What a frame gave. Errors are values here: a bad frame is an everyday event.

    Attributes:
        messages: in the order of the frame.
        rejected: the reasons of everything in the frame that gave no message.
        detail: about a fault, for the dead letter.
        gap: a hole in the numbered stream before this frame.
    """

    messages: Sequence[Message] = ()
    rejected: Sequence[Reason] = ()
    detail: str = ""
    gap: Gap | None = None


class Batch(NamedTuple):
    """What the frames of one socket read gave."""

    messages: list[Message]
    gaps: list[Gap]


class Parser(Protocol):
    """Reads the frames of one connection, in their order. Holds what the protocol makes it remember."""

    exchange: str

    def parse(self, frame: Frame) -> Parsed:
        """Return the messages of a frame, or the reasons why there are none. Never raises for bad data."""
        ...


def rejected(reason: Reason, detail: str = "") -> Parsed:
    """A frame that gave no message."""
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
    """The moment so many milliseconds after 1970."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def from_ns(nanoseconds: int) -> datetime:
    """The moment so many nanoseconds after 1970, to the microsecond."""
    return datetime.fromtimestamp(nanoseconds / 1_000_000_000, UTC)


def read(decoder: msgspec.json.Decoder[T], body: msgspec.Raw | bytes) -> T:
    """Decode a frame. Empty text for a number, as several exchanges write it, reads as zero.

    Raises:
        msgspec.DecodeError: not JSON.
        msgspec.ValidationError: JSON, but not what the protocol says.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        plain = bytes(body)
        if _EMPTY not in plain:
            raise
        return decoder.decode(plain.replace(_EMPTY, b":0"))


def fault(error: Exception) -> Parsed:
    """The rejection of a frame that does not decode: not JSON is malformed, a wrong value is bad."""
    if isinstance(error, msgspec.ValidationError):
        return rejected(Reason.BAD_VALUE, str(error))
    return rejected(Reason.MALFORMED, str(error))


def trade_price(
    exchange: str,
    symbol: str,
    price: float,
    at: datetime,
    volume_24h: float | None = None,
    price_change_24h: float | None = None,
) -> Price | Reason:
    """The last price of a symbol, or why it cannot be one: it is not in dollars, or zero.

    `price_change_24h` is in per cent.
    """
    if price <= 0:
        return Reason.NO_PRICE
    if not is_in_dollars(symbol):
        return Reason.NOT_DOLLARS
    return Price(exchange, symbol, price, at, volume_24h, price_change_24h)


def parse_each(parser: Parser, payloads: Iterable[bytes], received_ns: int, stats: FeedStats) -> Batch:
    """Parse frames one by one and count them."""
    messages: list[Message] = []
    gaps: list[Gap] = []
    for payload in payloads:
        frame = Frame(received_ns, payload)
        parsed = parser.parse(frame)
        account_for(parsed, frame, parser.exchange, stats)
        messages.extend(parsed.messages)
        if parsed.gap is not None:
            gaps.append(parsed.gap)
    return Batch(messages, gaps)


def account_for(parsed: Parsed, frame: Frame, exchange: str, stats: FeedStats) -> None:
    """Book what became of a frame: counts, flags and the dead letter of a fault."""
    stats.frames += 1
    if parsed.messages:
        stats.accepted += 1
        for message in parsed.messages:
            # One comparison a quote is what flagging costs on the hot path.
            if isinstance(message, Level1) and message.best_bid >= message.best_ask:
                stats.flags[Anomaly.CROSSED if message.best_bid > message.best_ask else Anomaly.LOCKED] += 1
        if parsed.rejected:
            stats.entries.update(parsed.rejected)
    else:
        stats.rejected[parsed.rejected[0] if parsed.rejected else Reason.UNKNOWN] += 1
    if parsed.gap is not None:
        stats.flags[Anomaly.GAP] += 1
    for reason in parsed.rejected:
        if reason.is_fault:
            stats.bury(DeadLetter(exchange, frame.received_ns, reason, parsed.detail, frame.payload))
            break
