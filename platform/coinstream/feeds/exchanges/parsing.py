"""Provide the base of exchange parsers, which convert invalid data to reasons.

A parser never raises for invalid data. A frame that is not JSON, too deeply nested or different from the
protocol gives one reason. An invalid entry of a frame does not affect the other entries.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from coinstream.feeds.exchanges.market_state import MarketState
from coinstream.feeds.exchanges.values import (
    levels,
    moment,
    number,
    optional,
    optional_side,
    percent,
    side_of,
    signed,
)
from coinstream.feeds.feed_stats import FeedStats, Reason
from coinstream.feeds.instrument_lists import split_uniquely
from coinstream.feeds.instruments import Instrument, InstrumentList, spot
from coinstream.feeds.parser import (
    Frame,
    Gap,
    Parsed,
    ParsedBatch,
    fault,
    from_ns,
    parse_each,
    rejected,
)
from coinstream.messages import Message

Found = Iterable[Message | Reason | Gap]
"""Result of an entry: messages, reasons for missing messages, and gaps in its stream."""

_json: Final = msgspec.json.Decoder(Any)
_UNKNOWN_KEPT: Final = 10_000
"""Maximum cached names without an instrument."""
_BAD: Final = (
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    ValueError,
    OverflowError,
    OSError,
    RecursionError,
)
"""Errors of reading an entry that differs from the protocol."""


class UnknownSymbolError(ValueError):
    """The instrument list does not contain this name."""


class ExchangeParser:
    """Base of all parsers: `parse` never raises, and subclasses implement `read` or `on_json`.

    Args:
        exchange: `exchangeId` of the messages.
        instruments: instruments that frames refer to.
        types: message types to produce; None for all.
    """

    def __init__(
        self, exchange: str, instruments: InstrumentList, types: frozenset[str] | None = None
    ) -> None:
        self.exchange = exchange
        self.instruments = instruments
        self.state = MarketState(exchange, types)
        self._unknown: set[str] = set()

    def parse(self, frame: Frame) -> Parsed:
        """See `Parser.parse`."""
        found = guarded(lambda: self.read(frame))
        return found if found.messages or found.rejected else found._replace(rejected=(Reason.EMPTY,))

    def parse_many(self, payloads: Sequence[bytes], received_ns: int, stats: FeedStats) -> ParsedBatch:
        """Parse the frames of one socket read and count them.

        A parser may override it with a faster path for its most frequent frame, with the same result as
        `parse`.
        """
        return parse_each(self, payloads, received_ns, stats)

    def read(self, frame: Frame) -> Parsed:
        """Decode a frame as JSON and pass it to `on_json`. Override it for binary or typed frames."""
        return self.on_json(_json.decode(frame.payload), frame, from_ns(frame.received_ns))

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Return the result of a decoded frame. Errors of an unexpected shape are handled by `parse`."""
        raise NotImplementedError

    def instrument(self, name: str) -> Instrument:
        """Return the instrument with an exchange's name.

        Raises:
            UnknownSymbolError: the instrument list does not contain it.
        """
        found = self.instruments.get(name)
        if found is None:
            found = None if name in self._unknown else self.unlisted(name)
            if found is None:
                if len(self._unknown) < _UNKNOWN_KEPT:
                    self._unknown.add(name)
                raise UnknownSymbolError(f"{name!r} is not in the instrument list of {self.exchange}")
            self.instruments.add([found])
        return found

    def unlisted(self, name: str) -> Instrument | None:
        """Return the instrument of a name that is not in the list, or None if it is ambiguous.

        By default joined names of spot markets with only one possible split are accepted. Override this
        method if names have separators or describe derivatives.
        """
        if not name.isalnum() or not self.instruments.is_spot:
            return None
        parts = split_uniquely(name, self.instruments)
        return spot(name, *parts) if parts else None

    def opened(self, url: str) -> None:
        """Set the URL of the connection whose frames follow, which may determine the market segment."""
        return

    def renew(self) -> None:
        """Clear the state of a connection: books and sequence numbers."""
        self.state.renew()


def guarded(read: Callable[[], Parsed]) -> Parsed:
    """Return the result of `read`, or a reason if the data differ from the protocol."""
    try:
        return read()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return fault(error)
    except UnknownSymbolError as error:
        return rejected(Reason.UNKNOWN_SYMBOL, str(error))
    except RecursionError:
        return rejected(Reason.MALFORMED, "nested too deeply")
    except (EOFError, zlib.error) as error:
        return rejected(Reason.MALFORMED, f"compression: {error}")
    except _BAD as error:
        return rejected(Reason.BAD_VALUE, describe(error))


def joined(results: Iterable[Parsed]) -> Parsed:
    """Merge the results of a frame's entries."""
    messages: list[Message] = []
    reasons: list[Reason] = []
    details: list[str] = []
    gaps: list[Gap] = []
    for result in results:
        messages.extend(result.messages)
        reasons.extend(result.rejected)
        if result.detail:
            details.append(result.detail)
        gaps += result.gaps
    if not (messages or reasons):
        reasons.append(Reason.EMPTY)
    return Parsed(tuple(messages), tuple(reasons), "; ".join(details[:5])).with_gaps(*gaps)


def collected(found: Found, gap: Gap | None = None) -> Parsed:
    """Return messages, reasons and gaps as the result of a frame. An invalid value raises."""
    messages: list[Message] = []
    reasons: list[Reason] = []
    gaps = [] if gap is None else [gap]
    for item in found:
        if isinstance(item, Reason):
            reasons.append(item)
        elif isinstance(item, Gap):
            gaps.append(item)
        else:
            messages.append(item)
    result = Parsed(tuple(messages), tuple(reasons))
    return result.with_gaps(*gaps) if gaps else result


def each(rows: Iterable[Any], read: Callable[[Any], Found]) -> Parsed:
    """Parse all entries of a frame; an invalid entry becomes a reason without affecting the others."""
    messages: list[Message] = []
    reasons: list[Reason] = []
    details: list[str] = []
    gaps: list[Gap] = []
    for row in rows:
        try:
            for item in read(row):
                if isinstance(item, Reason):
                    reasons.append(item)
                elif isinstance(item, Gap):
                    gaps.append(item)
                else:
                    messages.append(item)
        except UnknownSymbolError as error:
            reasons.append(Reason.UNKNOWN_SYMBOL)
            details.append(str(error))
        except _BAD as error:
            reasons.append(Reason.BAD_VALUE)
            details.append(describe(error))
    result = Parsed(tuple(messages), tuple(reasons), "; ".join(details[:5]))
    return result.with_gaps(*gaps) if gaps else result


def parsed(found: Found) -> Parsed:
    """Return the result of a frame with one entry. Errors are handled by `ExchangeParser.parse`."""
    return each((found,), iter)


def describe(error: Exception) -> str:
    """Describe the error of an entry that differs from the protocol, for its dead letter."""
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return str(error)
    if isinstance(error, KeyError):
        return f"field {error} is missing"
    return f"not as the protocol describes: {type(error).__name__}: {error}"


def ascending(rows: Sequence[Any], key: Callable[[Any], Any]) -> Sequence[Any]:
    """Sort the entries of a frame from oldest to newest; some exchanges send the newest first."""
    return rows if len(rows) < 2 else sorted(rows, key=key)


__all__ = [
    "ExchangeParser",
    "Found",
    "UnknownSymbolError",
    "ascending",
    "collected",
    "describe",
    "each",
    "guarded",
    "joined",
    "levels",
    "moment",
    "number",
    "optional",
    "optional_side",
    "parsed",
    "percent",
    "side_of",
    "signed",
]
