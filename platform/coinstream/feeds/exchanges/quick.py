"""Parse the frames of one socket read, the most frequent kind of frame without the general path."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import ClassVar

import msgspec

from coinstream.feeds.exchanges.parsing import ExchangeParser, UnknownSymbolError
from coinstream.feeds.feed_stats import FeedStats, Reason
from coinstream.feeds.parser import Batch, Frame, Gap, account_for, from_ns
from coinstream.messages import Level1, Message

_ODD = (msgspec.DecodeError, UnicodeDecodeError, UnknownSymbolError, ValueError, OverflowError, OSError)
"""What sends a frame to the general path. Nothing may have changed the state before it is raised."""


class QuickParser(ExchangeParser):
    """Base of parsers with one kind of frame that is most of the traffic.

    Class attributes:
        quick_start: how such a frame starts.
    """

    quick_start: ClassVar[bytes | tuple[bytes, ...]]

    def quick(self, payload: bytes, received: datetime) -> Sequence[Message | Reason] | None:
        """Return what a frame gives, the same as `parse` does; None leaves it to `parse`."""
        raise NotImplementedError

    def parse_many(self, payloads: Sequence[bytes], received_ns: int, stats: FeedStats) -> Batch:
        """See `ExchangeParser.parse_many`."""
        quick, start, received = self.quick, self.quick_start, from_ns(received_ns)
        messages, gaps, plain = list[Message](), list[Gap](), 0
        for payload in payloads:
            if payload.startswith(start):
                try:
                    found = quick(payload, received)
                except _ODD:
                    found = None
                if found is not None and len(found) == 1 and type(found[0]) is Level1:
                    messages.append(found[0])
                    plain += 1
                    stats.frames += 1
                    continue
                if found is not None:
                    given = [item for item in found if not isinstance(item, Reason)]
                    if not given or len(given) < len(found):
                        reasons = [item for item in found if isinstance(item, Reason)]
                        if given:
                            stats.entries.update(reasons)
                        else:
                            stats.rejected[reasons[0]] += 1
                    plain += bool(given)
                    stats.frames += 1
                    messages += given
                    continue
            frame = Frame(received_ns, payload)
            parsed = self.parse(frame)
            account_for(parsed, frame, self.exchange, stats)
            messages.extend(parsed.messages)
            if parsed.gap is not None:
                gaps.append(parsed.gap)
        stats.accepted += plain
        return Batch(messages, gaps)
