"""Parsers that are not part of an adapter, and those that plugins register."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from coinstream.feeds.parsers.base import Frame, Gap, Parsed, Parser, account_for
from coinstream.feeds.parsers.coingecko import CoingeckoParser
from coinstream.feeds.parsers.ftx import FtxParser
from coinstream.feeds.parsers.lean import LeanParser

__all__ = [
    "PARSERS",
    "CoingeckoParser",
    "Frame",
    "Gap",
    "LeanParser",
    "Parsed",
    "Parser",
    "account_for",
    "register_parser",
]

PARSERS: Final[dict[str, Callable[[], Parser]]] = {
    "coingecko": CoingeckoParser,
    "lean": LeanParser,
    "ftx": FtxParser,
    "ftxus": lambda: FtxParser("ftxus"),
}
"""Parsers by exchange id (ccxt's names)."""

HOSTS: Final[dict[str, str]] = {
    "coingecko.com": "coingecko",
    "ftx.com": "ftx",
    "ftx.us": "ftxus",
}
"""Exchange by the end of its host names; the first that fits counts."""


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
