"""Choose the parser of a recording: by its addresses, by its exchange, or by what its frames look like."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import Final, NamedTuple

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.discovery import adapters, exchange_at
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instrument_lists import packaged
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parsers import HOSTS, PARSERS
from coinstream.feeds.parsers.base import Frame, Parser
from coinstream.suggestions import did_you_mean

SAMPLE: Final = 400
"""Frames that are tried with every parser where a recording has no addresses."""
_COINGECKO: Final = re.compile(r"/api/v3/(global|coins/|simple/)")
"""Paths that only CoinGecko's interface has; its recordings name no host."""
_UNREAD: Final = frozenset({Reason.MALFORMED, Reason.BAD_VALUE, Reason.UNKNOWN, Reason.REFUSED})


class _Score(NamedTuple):
    read: int
    messages: int


def known_exchanges() -> list[str]:
    """Return every exchange that has a parser."""
    return sorted({*PARSERS, *adapters()})


def new_parser(
    exchange: str, instruments: InstrumentList | None = None, types: frozenset[str] | None = None
) -> Parser:
    """Return a new parser.

    Args:
        exchange: the exchange id.
        instruments: resolves the names in frames; by default the packaged list.
        types: message types wanted; None for all.

    Raises:
        FeedError: the exchange has no parser.
    """
    adapter = adapters().get(exchange)
    if adapter is not None:
        return adapter().parser(packaged(exchange) if instruments is None else instruments, types)
    make = PARSERS.get(exchange)
    if make is None:
        known = known_exchanges()
        raise FeedError(f"no parser for exchange {exchange!r}; {did_you_mean(exchange, known)}")
    return make()


def exchange_of(url: str) -> str | None:
    """Return the exchange behind an address, or None where it is not known."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].partition(":")[0]
    if scheme == "lean":
        return host
    if scheme == "reply":
        return "coingecko" if _COINGECKO.search(url) else None
    found = exchange_at(url)
    if found is not None:
        return found
    return next((name for end, name in HOSTS.items() if host == end or host.endswith("." + end)), None)


def identify(frames: Iterable[Frame]) -> list[str]:
    """Return the exchanges whose parser reads most of the frames: none, one, or several that tie."""
    sample = list(islice(frames, SAMPLE))
    scores = {name: _score(name, sample) for name in known_exchanges()}
    readers = {name: score for name, score in scores.items() if score.messages}
    best = max((score.read for score in readers.values()), default=0)
    return [name for name, score in readers.items() if score.read == best]


def _score(exchange: str, sample: list[Frame]) -> _Score:
    adapter = adapters().get(exchange)
    if adapter is not None and any(adapter.is_foreign(frame.payload) for frame in sample):
        return _Score(0, 0)
    parser, read, messages = new_parser(exchange), 0, 0
    for frame in sample:
        parsed = parser.parse(frame)
        messages += len(parsed.messages)
        read += bool(parsed.messages) or not any(reason in _UNREAD for reason in parsed.rejected)
    return _Score(read, messages)
