"""Plan the websockets of an exchange within its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from coinstream.feeds.instruments import Instrument


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of an exchange for clients.

    Attributes:
        symbols_per_connection: maximum subscribed symbols per connection.
        symbols_per_request: maximum symbols per subscription request.
        requests_per_second: maximum requests per second on one connection.
    """

    symbols_per_connection: int = 200
    symbols_per_request: int = 50
    requests_per_second: float = 4.0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Frame that the client sends periodically to keep the connection open.

    Attributes:
        payload: frame to send.
        every_s: interval in seconds.
    """

    payload: bytes
    every_s: float


@dataclass(frozen=True, slots=True)
class Connection:
    """One websocket to open.

    Attributes:
        url: URL of the websocket.
        requests: frames to send after the connection opens, in order.
        symbols: unified symbols of the connection.
        headers: HTTP headers of the handshake.
    """

    url: str
    requests: tuple[bytes, ...]
    symbols: tuple[str, ...]
    headers: dict[str, str] = field(default_factory=dict)


def in_batches(items: Sequence[Instrument], size: int) -> Iterator[Sequence[Instrument]]:
    """Yield the instruments in batches of at most `size`."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def redirected(url: str, replacement: str | None) -> str:
    """Return a URL with the scheme, host and port of `replacement`, if given."""
    if not replacement:
        return url
    target = urlsplit(replacement)
    return urlunsplit(urlsplit(url)._replace(scheme=target.scheme, netloc=target.netloc))


def plan_connections(
    url: str,
    instruments: Sequence[Instrument],
    limits: Limits,
    requests: Callable[[Sequence[Instrument]], list[bytes]],
) -> list[Connection]:
    """Return the connections to one URL for these instruments.

    Args:
        url: URL of the websocket.
        limits: maximum instruments per connection and per request.
        requests: builds the subscription frames of instruments.
    """
    found = []
    for chunk in in_batches(instruments, limits.symbols_per_connection):
        frames = [
            frame for batch in in_batches(chunk, limits.symbols_per_request) for frame in requests(batch)
        ]
        if frames:
            symbols = tuple(instrument.symbol for instrument in chunk)
            found.append(Connection(url, tuple(frames), symbols))
    return found
