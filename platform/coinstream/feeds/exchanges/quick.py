"""Parse the most frequent kind of frame on a fast path.

Most frames of a feed contain one quote. `QuickParser.quick` reads such a frame with one typed decoder. Other
frames use `ExchangeParser.parse`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

import msgspec

from coinstream.feeds.exchanges.parsing import ExchangeParser, UnknownSymbolError
from coinstream.feeds.feed_stats import FeedStats, Reason
from coinstream.feeds.parser import Frame, Gap, ParsedBatch, account_for, from_ns
from coinstream.messages import Level1, Message

_ODD: Final = (
    *(msgspec.DecodeError, UnicodeDecodeError, UnknownSymbolError, ValueError, LookupError),
    *(OverflowError, OSError, TypeError),
)
"""Errors that send a frame to the general path. The state must be unchanged when they are raised."""

Quick = Level1 | Reason | tuple[Message | Reason, ...] | None
"""Result of a frame; None if the general path must read it."""


_SECOND_MS: Final = 1000
_FRACTIONS: Final = tuple(timedelta(milliseconds=number) for number in range(_SECOND_MS))
_PLAUSIBLE_MS: Final = range(10**11, 10**14)


class QuickTimes:
    """Convert Unix milliseconds to datetimes at a sixth of the cost of `datetime.fromtimestamp`.

    The start of the last second is cached, because times of consecutive frames are close.
    """

    def __init__(self) -> None:
        self._second_ms = _PLAUSIBLE_MS.start
        self._second = datetime.fromtimestamp(self._second_ms // _SECOND_MS, UTC)

    def __call__(self, milliseconds: int) -> datetime:
        """Return the time.

        Raises:
            ValueError: the number is not a plausible count of milliseconds.
        """
        passed = milliseconds - self._second_ms
        if passed < 0 or passed >= _SECOND_MS:
            if milliseconds not in _PLAUSIBLE_MS:
                raise ValueError(f"{milliseconds} is not a time in milliseconds")
            passed = milliseconds % _SECOND_MS
            self._second_ms = milliseconds - passed
            self._second = datetime.fromtimestamp(self._second_ms // _SECOND_MS, UTC)
        return self._second + _FRACTIONS[passed]


class QuickParser(ExchangeParser):
    """Base of parsers with one dominant kind of frame.

    Class attributes:
        quick_start: first bytes of such a frame.
    """

    quick_start: ClassVar[bytes | tuple[bytes, ...]]

    def quick(self, payload: bytes, received: datetime) -> Quick:
        """Return the same result as `parse`, or None to use `parse`.

        A quote must have its bid below its ask: crossed and locked quotes are flagged by the general path.
        """
        raise NotImplementedError

    def parse_many(self, payloads: Sequence[bytes], received_ns: int, stats: FeedStats) -> ParsedBatch:
        """See `ExchangeParser.parse_many`."""
        quick, start, received = self.quick, self.quick_start, from_ns(received_ns)
        messages, gaps, plain = list[Message](), list[Gap](), 0
        for payload in payloads:
            if payload.startswith(start):
                try:
                    found = quick(payload, received)
                except _ODD:
                    found = None
                if type(found) is Level1:
                    messages.append(found)
                    plain += 1
                    continue
                if found is not None:
                    messages += _counted(found, stats)
                    continue
            frame = Frame(received_ns, payload)
            parsed = self.parse(frame)
            account_for(parsed, frame, self.exchange, stats)
            messages.extend(parsed.messages)
            gaps += parsed.gaps
        stats.frames += plain
        stats.accepted += plain
        return ParsedBatch(messages, gaps)


def _counted(found: Reason | Message | tuple[Message | Reason, ...], stats: FeedStats) -> Sequence[Message]:
    """Count a frame as `account_for` does, and return its messages."""
    items = found if isinstance(found, tuple) else (found,)
    messages = [item for item in items if not isinstance(item, Reason)]
    reasons = [item for item in items if isinstance(item, Reason)]
    stats.frames += 1
    if messages:
        stats.accepted += 1
        stats.entries.update(reasons)
    else:
        stats.rejected[reasons[0]] += 1
    return messages
