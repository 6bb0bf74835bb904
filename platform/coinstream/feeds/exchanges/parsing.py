"""What exchange parsers share: routing frames and turning bad entries into reasons.

A parser never raises for bad data. A frame that is not JSON, is nested too deeply or has another shape than
the protocol's gives one reason; one bad entry of a frame does not lose the other entries.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from coinstream.feeds.exchanges.market_state import MarketState
from coinstream.feeds.exchanges.values import levels, moment, number, optional, percent, signed
from coinstream.feeds.feed_stats import FeedStats, Reason
from coinstream.feeds.instrument_lists import split_uniquely
from coinstream.feeds.instruments import Instrument, InstrumentList, spot
from coinstream.feeds.parser import (
    Batch,
    Frame,
    Gap,
    Parsed,
    fault,
    from_ns,
    parse_each,
    rejected,
)
from coinstream.messages import Message

Found = Iterable[Message | Reason | Gap]
"""What an entry gives: messages, reasons of what it did not give, and gaps in its stream."""

_json: Final = msgspec.json.Decoder(Any)
_UNKNOWN_KEPT: Final = 10_000
"""Names kept that have no instrument, so that each is looked into once."""
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
"""What reading an entry of another shape than the protocol's raises."""


class UnknownSymbolError(ValueError):
    """The instrument list does not have this name."""


class ExchangeParser:
    """Base of all parsers: `parse` never raises; subclasses implement `read`.

    Args:
        exchange: the `exchangeId` of the messages.
        instruments: resolves the names in frames.
        types: message types wanted; None for all.
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

    def parse_many(self, payloads: Sequence[bytes], received_ns: int, stats: FeedStats) -> Batch:
        """Parse the frames of one socket read and count them.

        A parser may override it with a faster way for its most frequent frame. The result must equal
        that of `parse` for each frame.
        """
        return parse_each(self, payloads, received_ns, stats)

    def read(self, frame: Frame) -> Parsed:
        """Decode a frame as JSON and pass it on. Override it for binary or typed frames."""
        return self.on_json(_json.decode(frame.payload), frame, from_ns(frame.received_ns))

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Return what a decoded frame gives. May raise what wrong shapes raise."""
        raise NotImplementedError

    def instrument(self, name: str) -> Instrument:
        """Return the instrument that a frame names.

        Raises:
            UnknownSymbolError: the instrument list does not have it.
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
        """Return the instrument that a name describes by itself, or None where it is not certain.

        By default a joined name of a spot exchange, where only one split is possible. Override it
        where names have separators or describe derivatives.
        """
        if not name.isalnum() or not self.instruments.is_spot:
            return None
        parts = split_uniquely(name, self.instruments)
        return spot(name, *parts) if parts else None

    def opened(self, url: str) -> None:
        """Note the address of the connection whose frames follow, where it tells the market segment."""
        return

    def renew(self) -> None:
        """Forget what belongs to one connection: books and sequence numbers."""
        self.state.renew()


def guarded(read: Callable[[], Parsed]) -> Parsed:
    """Return what a frame or an entry gives; the reason where it has not the shape of the protocol."""
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
    """Return the results of the entries of a frame as one."""
    messages: list[Message] = []
    reasons: list[Reason] = []
    details: list[str] = []
    gap: Gap | None = None
    for result in results:
        messages.extend(result.messages)
        reasons.extend(result.rejected)
        if result.detail:
            details.append(result.detail)
        gap = gap or result.gap
    if not (messages or reasons):
        reasons.append(Reason.EMPTY)
    return Parsed(tuple(messages), tuple(reasons), "; ".join(details[:5]), gap)


def collected(found: Found, gap: Gap | None = None) -> Parsed:
    """Return messages, reasons and gaps as the result of a frame. A bad value raises."""
    messages: list[Message] = []
    reasons: list[Reason] = []
    for item in found:
        if isinstance(item, Reason):
            reasons.append(item)
        elif isinstance(item, Gap):
            gap = item
        else:
            messages.append(item)
    return Parsed(tuple(messages), tuple(reasons), "", gap)


def each(rows: Iterable[Any], read: Callable[[Any], Found]) -> Parsed:
    """Return what all entries of a frame give; a bad entry becomes a reason, and the others go on."""
    messages: list[Message] = []
    reasons: list[Reason] = []
    details: list[str] = []
    gap: Gap | None = None
    for row in rows:
        try:
            for item in read(row):
                if isinstance(item, Reason):
                    reasons.append(item)
                elif isinstance(item, Gap):
                    gap = item
                else:
                    messages.append(item)
        except UnknownSymbolError as error:
            reasons.append(Reason.UNKNOWN_SYMBOL)
            details.append(str(error))
        except _BAD as error:
            reasons.append(Reason.BAD_VALUE)
            details.append(describe(error))
    return Parsed(tuple(messages), tuple(reasons), "; ".join(details[:5]), gap)


def parsed(found: Found) -> Parsed:
    """Return the result of a frame with one entry. A bad value raises; `ExchangeParser.parse` handles it."""
    return each((found,), iter)


def describe(error: Exception) -> str:
    """Return a sentence for the dead letter about an entry that has not the shape of the protocol."""
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        return str(error)
    if isinstance(error, KeyError):
        return f"field {error} is missing"
    return f"not as the protocol describes: {type(error).__name__}: {error}"


def ascending(rows: Sequence[Any], key: Callable[[Any], Any]) -> Sequence[Any]:
    """Return the entries of a frame oldest first; some exchanges send the newest first."""
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
    "parsed",
    "percent",
    "signed",
]
