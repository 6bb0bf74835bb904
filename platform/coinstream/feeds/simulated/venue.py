"""Define the interface of a protocol of the simulated exchange."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import msgspec

from coinstream.feeds.simulated.faults import Faults
from coinstream.feeds.simulated.market import Market, Tick

encode = msgspec.json.Encoder().encode


class Reply(NamedTuple):
    """The answer to a REST request."""

    status: int
    body: bytes


class Session(Protocol):
    """One websocket connection and its subscriptions."""

    def greet(self) -> Iterable[bytes]:
        """Return the frames sent when the connection opens."""
        ...

    def hear(self, text: bytes) -> Iterable[bytes]:
        """Process a client's frame; return the replies."""
        ...

    def tell(self, tick: Tick) -> Iterable[bytes]:
        """Return the frames of a quote for this connection."""
        ...

    def beat(self) -> Iterable[bytes]:
        """Return the heartbeat, sent once a second."""
        ...


class Venue(Protocol):
    """A protocol: REST replies and sessions."""

    def session(self, path: str, query: Mapping[str, str]) -> Session:
        """Open a session for a connection to a path."""
        ...

    def reply(self, path: str, query: Mapping[str, str]) -> Reply:
        """Return the reply to a REST request."""
        ...


class World(NamedTuple):
    """State shared by all protocols."""

    market: Market
    faults: Faults

    @property
    def listed(self) -> tuple[str, ...]:
        """Return the symbols that have not vanished."""
        return tuple(symbol for symbol in self.market.symbols if symbol not in self.faults.vanished)


def ok(value: Any) -> Reply:
    """Return a JSON reply."""
    return Reply(200, encode(value))


def number(value: float) -> str:
    """Format a number with eight decimals, as exchanges do."""
    return f"{value:.8f}"
