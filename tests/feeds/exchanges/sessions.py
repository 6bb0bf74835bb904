"""Recorded sessions for tests of adapters: the shared ones where they are, and excerpts in the repository."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from coinstream.feeds.exchanges.base import ExchangeAdapter
from coinstream.feeds.feed_stats import FeedStats, Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import account_for
from coinstream.feeds.recordings import read_lines
from coinstream.messages import Message
from tests.feeds.exchanges.recorded import EXCERPTS, SHARED


@dataclass
class Session:
    """What parsing a recording gave.

    Attributes:
        stats: counts of frames and reasons.
        messages: in order.
        gaps: number of gaps in numbered streams.
    """

    stats: FeedStats
    messages: list[Message] = field(default_factory=list)
    gaps: int = 0

    def of(self, kind: type[Message], symbol: str | None = None) -> list[Message]:
        """Return the messages of a class, of one symbol where it is given."""
        return [
            message
            for message in self.messages
            if type(message) is kind and symbol in (None, getattr(message, "symbol", None))
        ]

    @property
    def faults(self) -> Counter[Reason]:
        """Count reasons that are faults, of frames and of entries."""
        counts = self.stats.rejected + self.stats.entries
        return Counter({reason: count for reason, count in counts.items() if reason.is_fault})


def shared(name: str) -> Path:
    """Return a file of the shared recordings; skip the test where they are absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"the shared recording {name} is not beside this repository")
    return path


def excerpt(name: str) -> Path:
    """Return a recording of the repository."""
    return EXCERPTS / name


def instruments_of(adapter: ExchangeAdapter, path: Path) -> InstrumentList:
    """Return the instruments of the REST replies in a file."""
    found = InstrumentList()
    for line in read_lines(path):
        if line.frame.url is not None and line.reason is None:
            found.add(adapter.parse_instruments(line.frame.url, line.frame.payload))
    return found


def replayed(adapter: ExchangeAdapter, path: Path, instruments: InstrumentList) -> Session:
    """Parse every frame of a recording and count it."""
    parser = adapter.parser(instruments)
    session = Session(FeedStats())
    for line in read_lines(path):
        if line.reason is Reason.OPENED and line.frame.url is not None:
            opened = getattr(parser, "opened", None)
            if opened is not None:
                opened(line.frame.url)
        if line.reason is not None:
            session.stats.refuse(line.reason)
            continue
        parsed = parser.parse(line.frame)
        account_for(parsed, line.frame, adapter.exchange, session.stats)
        session.messages.extend(parsed.messages)
        session.gaps += parsed.gap is not None
    assert session.stats.is_balanced
    return session
