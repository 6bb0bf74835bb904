"""What a protocol of the simulated exchange must be able to do."""

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
    """One websocket connection: what it has subscribed to."""

    def greet(self) -> Iterable[bytes]:
        """Frames sent as soon as the connection is open."""
        ...

    def hear(self, text: bytes) -> Iterable[bytes]:
        """A frame from the client: change the subscriptions, give the answers."""
        ...

    def tell(self, tick: Tick) -> Iterable[bytes]:
        """The frames that a quote gives on this connection."""
        ...

    def beat(self) -> Iterable[bytes]:
        """The heartbeat, once a second."""
        ...


class Venue(Protocol):
    """A protocol: REST replies and sessions."""

    def session(self, path: str, query: Mapping[str, str]) -> Session:
        """A new connection to that path."""
        ...

    def reply(self, path: str, query: Mapping[str, str]) -> Reply:
        """The answer to a REST request."""
        ...


class World(NamedTuple):
    """What all venues share."""

    market: Market
    faults: Faults

    @property
    def listed(self) -> tuple[str, ...]:
        """The symbols that have not vanished."""
        return tuple(symbol for symbol in self.market.symbols if symbol not in self.faults.vanished)


def ok(value: Any) -> Reply:
    """A JSON answer."""
    return Reply(200, encode(value))


def number(value: float) -> str:
    """A number as exchanges write it: eight decimals."""
    return f"{value:.8f}"
