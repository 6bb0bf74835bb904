"""Helpers for tests of parsers."""

from __future__ import annotations

from typing import Any

import msgspec

from coinstream.feeds.parser import Frame, Gap, Parsed, Parser
from coinstream.feeds.recordings import new_parser

RECEIVED_NS = 1_723_161_254_087_891_268


def parse(parser: Parser, payload: Any, received_ns: int = RECEIVED_NS, url: str | None = None) -> Parsed:
    """Give a parser one frame: bytes as they are, anything else as JSON."""
    raw = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
    return parser.parse(Frame(received_ns, raw, url))


def only(parsed: Parsed) -> Any:
    """Return the one message of a frame."""
    assert len(parsed.messages) == 1, parsed
    return parsed.messages[0]


CORE: frozenset[str] = frozenset({"level1", "price", "ohlcv", "analytics"})


def core_parser(exchange: str) -> Parser:
    """Return a parser that gives the message types of the first release only."""
    return new_parser(exchange, types=CORE)


def span(gap: Gap | None) -> tuple[str, int, int] | None:
    """Return symbol and numbers of a gap."""
    return None if gap is None else (gap.symbol, gap.first, gap.last)
