"""Choose the parser of a recording by its URLs, its exchange, or the content of its frames."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final, NamedTuple

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.coingecko import CoingeckoParser
from coinstream.feeds.exchanges.discovery import adapters, exchange_at
from coinstream.feeds.exchanges.lean import LeanParser
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instrument_lists import packaged
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Frame, Parser
from coinstream.text import did_you_mean

PARSERS: Final[dict[str, Callable[[], Parser]]] = {"coingecko": CoingeckoParser, "lean": LeanParser}
"""Parsers that belong to no exchange adapter, by exchange id; plugins add to them with `register_parser`."""
HOSTS: Final[dict[str, str]] = {"coingecko.com": "coingecko"}
"""Exchange of these parsers by the end of its host names; the first match counts."""
SAMPLE: Final = 400
"""Number of frames tried with every parser if a recording has no URLs."""
_COINGECKO: Final = re.compile(r"/api/v3/(global|coins/|simple/)")
"""Paths of CoinGecko's REST API, whose recordings contain no host."""
_UNREAD: Final = frozenset({Reason.MALFORMED, Reason.BAD_VALUE, Reason.UNKNOWN, Reason.REFUSED})


class _Score(NamedTuple):
    read: int
    messages: int


def register_parser(exchange: str, make: Callable[[], Parser], *hosts: str) -> None:
    """Register a parser for recordings of an exchange, with the ends of its host names.

    Raises:
        ValueError: the exchange or a host name belongs to another parser.
    """
    taken = [host for host in hosts if HOSTS.get(host, exchange) != exchange]
    if taken or PARSERS.get(exchange, make) is not make:
        raise ValueError(f"exchange {exchange!r} or one of its hosts is registered already")
    PARSERS[exchange] = make
    HOSTS.update(dict.fromkeys(hosts, exchange))


def known_exchanges() -> list[str]:
    """Return every exchange that has a parser."""
    return sorted({*PARSERS, *adapters()})


def new_parser(
    exchange: str, instruments: InstrumentList | None = None, types: frozenset[str] | None = None
) -> Parser:
    """Return a new parser.

    Args:
        exchange: the exchange id.
        instruments: instruments that frames refer to; by default the packaged list.
        types: message types to produce; None for all.

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
    """Return the exchange of a URL, or None if its host is unknown."""
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
    """Return the exchanges whose parsers read the most frames: none, one, or several in a tie."""
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
