"""Play recorded sessions through an exchange adapter, as tests of adapters need it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.base import ExchangeAdapter
from coinstream.feeds.exchanges.connections import Connection
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, InstrumentList
from coinstream.feeds.parser import Frame, Gap, Parsed, Parser
from coinstream.feeds.recordings import read_lines
from coinstream.messages import Level1, Message

ROOT = Path(__file__).parents[3]
EXCERPTS = ROOT / "tests" / "data" / "recordings"
SHARED = Path(os.environ.get("COINSTREAM_RECORDINGS") or ROOT.parent / "shared" / "data") / "cryptofeed"
RECEIVED_NS = 1_723_161_254_087_891_268
CONTROL = frozenset({Reason.SENT, Reason.OPENED})
AnyMessage = TypeVar("AnyMessage", bound=Message)


@dataclass
class Session:
    """What the frames of a recording gave.

    Attributes:
        frames: frames received; the lines of the client are left out.
        giving: frames that gave at least one message.
        reasons: reasons of frames without a message.
        entries: reasons of entries in frames that gave a message.
        faults: reasons, details and payloads of frames with a fault.
    """

    messages: list[Message] = field(default_factory=list)
    reasons: Counter[Reason] = field(default_factory=Counter)
    entries: Counter[Reason] = field(default_factory=Counter)
    faults: list[tuple[tuple[Reason, ...], str, bytes]] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    sent: list[bytes] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    frames: int = 0
    giving: int = 0

    def of(self, kind: type[AnyMessage]) -> list[AnyMessage]:
        """Return the messages of one type."""
        return [message for message in self.messages if isinstance(message, kind)]

    def add(self, parsed: Parsed, frame: Frame) -> None:
        """Count one frame."""
        self.frames += 1
        assert parsed.messages or parsed.rejected, frame.payload
        if parsed.messages:
            self.giving += 1
            self.messages.extend(parsed.messages)
            self.entries.update(parsed.rejected)
        else:
            self.reasons[parsed.rejected[0]] += 1
        if any(reason.is_fault for reason in parsed.rejected):
            self.faults.append((tuple(parsed.rejected), parsed.detail, frame.payload))
        if parsed.gap is not None:
            self.gaps.append(parsed.gap)

    def check(self) -> None:
        """Assert what holds for every recording: accounted for, no faults, no crossed book."""
        assert self.messages
        assert self.frames == self.giving + self.reasons.total()
        assert self.faults == []
        crossed = [message for message in self.of(Level1) if message.best_bid > message.best_ask]
        assert crossed == []


def shared(name: str) -> Path:
    """Return a file of the shared recordings, or skip the test where they are not at hand."""
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"no {name} in {SHARED}; name the folder of recordings in COINSTREAM_RECORDINGS")
    return path


def instruments_in(adapter: ExchangeAdapter, path: Path) -> InstrumentList:
    """Return the instruments of the REST replies in a recording."""
    found = InstrumentList()
    for frame in _replies(path):
        if frame.url is not None:
            try:
                found.add(adapter.parse_instruments(frame.url, frame.payload))
            except FeedError:
                continue
    return found


def _replies(path: Path) -> Iterator[Frame]:
    for line in read_lines(path):
        if line.frame.url and line.reason is None:
            yield line.frame


def play(adapter: ExchangeAdapter, path: Path, instruments: InstrumentList | None = None) -> Session:
    """Parse every frame of a recording; its instrument lists are read where none are given."""
    known = instruments_in(adapter, path) if instruments is None else instruments
    parser, session = adapter.parser(known), Session()
    for line in read_lines(path):
        if line.reason in CONTROL:
            if line.reason is Reason.SENT:
                session.sent.append(line.frame.payload)
            else:
                session.urls.append(line.frame.url or "")
        else:
            session.add(parser.parse(line.frame), line.frame)
    return session


def instruments_of(adapter: ExchangeAdapter, session: str) -> InstrumentList:
    """Return the instruments of a shared `*.instruments.gz`."""
    return instruments_in(adapter, shared(f"{session}.instruments.gz"))


def parse(parser: Parser, value: object, url: str | None = None) -> Parsed:
    """Parse one frame; anything but bytes is written as JSON."""
    payload = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return parser.parse(Frame(RECEIVED_NS, payload, url))


def subscribed(connections: Iterable[Connection]) -> list[object]:
    """Return the decoded subscription requests of all connections."""
    return [msgspec.json.decode(request) for each in connections for request in each.requests]


def named(instruments: InstrumentList, *identities: str) -> list[Instrument]:
    """Return instruments by the exchange's names."""
    found = [instruments.get(identity) for identity in identities]
    assert None not in found
    return [instrument for instrument in found if instrument is not None]
