"""Plan the websocket connections of instruments within an exchange's limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from coinstream.feeds.exchanges.base import Connection, Limits, batches
from coinstream.feeds.instruments import Instrument

RENEW: Final = ("unsubscribe", "subscribe")
"""Operations that make an exchange send the snapshot of a channel again."""


def redirected(url: str, replacement: str | None) -> str:
    """Return a URL with the scheme, host and port of `replacement`, if given."""
    if not replacement:
        return url
    target = urlsplit(replacement)
    return urlunsplit(urlsplit(url)._replace(scheme=target.scheme, netloc=target.netloc))


def plan(
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
    for chunk in batches(instruments, limits.symbols_per_connection):
        frames = [frame for batch in batches(chunk, limits.symbols_per_request) for frame in requests(batch)]
        if frames:
            symbols = tuple(instrument.symbol for instrument in chunk)
            found.append(Connection(url, tuple(frames), symbols))
    return found
