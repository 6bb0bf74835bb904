"""One parser per exchange protocol, and which one a recording or an address needs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Final

from coinstream.errors import FeedError
from coinstream.feeds.parsers.base import Frame, Gap, Parsed, Parser, account_for
from coinstream.feeds.parsers.binance import BinanceParser, is_usdm
from coinstream.feeds.parsers.bitfinex import BitfinexParser
from coinstream.feeds.parsers.bitmex import BitmexParser
from coinstream.feeds.parsers.bitstamp import BitstampParser
from coinstream.feeds.parsers.bybit import BybitParser
from coinstream.feeds.parsers.coinbase import CoinbaseParser
from coinstream.feeds.parsers.coingecko import CoingeckoParser
from coinstream.feeds.parsers.cryptocom import CryptocomParser
from coinstream.feeds.parsers.deribit import DeribitParser
from coinstream.feeds.parsers.ftx import FtxParser
from coinstream.feeds.parsers.gate import GateParser
from coinstream.feeds.parsers.gemini import GeminiParser
from coinstream.feeds.parsers.hitbtc import HitbtcParser
from coinstream.feeds.parsers.huobi import HuobiParser
from coinstream.feeds.parsers.kraken import KrakenParser
from coinstream.feeds.parsers.kucoin import KucoinParser
from coinstream.feeds.parsers.lean import LeanParser
from coinstream.feeds.parsers.okx import OkxParser

__all__ = [
    "PARSERS",
    "BinanceParser",
    "BitstampParser",
    "BybitParser",
    "CoinbaseParser",
    "CoingeckoParser",
    "Frame",
    "Gap",
    "GateParser",
    "GeminiParser",
    "KrakenParser",
    "LeanParser",
    "Parsed",
    "Parser",
    "account_for",
    "guess",
    "new_parser",
    "register_parser",
]

PARSERS: Final[dict[str, Callable[[], Parser]]] = {
    "binance": BinanceParser,
    "binanceus": lambda: BinanceParser("binanceus"),
    "binancecoinm": lambda: BinanceParser("binancecoinm"),
    "binanceusdm": lambda: BinanceParser("binanceusdm"),
    "bitstamp": BitstampParser,
    "bybit": BybitParser,
    "coinbase": CoinbaseParser,
    "coinbaseexchange": lambda: CoinbaseParser("coinbaseexchange"),
    "coingecko": CoingeckoParser,
    "gate": GateParser,
    "gemini": GeminiParser,
    "kraken": KrakenParser,
    "lean": LeanParser,
    "bequant": lambda: HitbtcParser("bequant"),
    "bitfinex": BitfinexParser,
    "bitmex": BitmexParser,
    "cryptocom": CryptocomParser,
    "deribit": DeribitParser,
    "fmfw": lambda: HitbtcParser("fmfw"),
    "ftx": FtxParser,
    "ftxus": lambda: FtxParser("ftxus"),
    "hitbtc": HitbtcParser,
    "htx": HuobiParser,
    "kucoin": KucoinParser,
    "okcoin": lambda: OkxParser("okcoin"),
    "okx": OkxParser,
}
"""Parsers by exchange id (ccxt's names)."""

HOSTS: Final[dict[str, str]] = {
    "fstream.binance.com": "binanceusdm",
    "fapi.binance.com": "binanceusdm",
    "dstream.binance.com": "binancecoinm",
    "dapi.binance.com": "binancecoinm",
    "binance.us": "binanceus",
    "binance.com": "binance",
    "binance.vision": "binance",
    "bitstamp.net": "bitstamp",
    "bybit.com": "bybit",
    "bytick.com": "bybit",
    "coinbase.com": "coinbase",
    "coingecko.com": "coingecko",
    "gate.io": "gate",
    "gate.com": "gate",
    "gateio.ws": "gate",
    "gemini.com": "gemini",
    "kraken.com": "kraken",
    "bequant.io": "bequant",
    "bitfinex.com": "bitfinex",
    "bitmex.com": "bitmex",
    "crypto.com": "cryptocom",
    "deribit.com": "deribit",
    "fmfw.io": "fmfw",
    "ftx.com": "ftx",
    "ftx.us": "ftxus",
    "hitbtc.com": "hitbtc",
    "huobi.pro": "htx",
    "hbdm.com": "htx",
    "htx.com": "htx",
    "kucoin.com": "kucoin",
    "okcoin.com": "okcoin",
    "okex.com": "okx",
    "okx.com": "okx",
}
"""Exchange by the end of its host names; the first that fits counts."""

_SNIFFED: Final = 400
_COINGECKO: Final = re.compile(r"/api/v3/(global|coins/|simple/)")
"""Paths that only CoinGecko's interface has; its recordings name no host."""


def register_parser(exchange: str, make: Callable[[], Parser], *hosts: str) -> None:
    """Make an exchange known: its parser, and the ends of its host names.

    Raises:
        ValueError: the exchange or a host name belongs to another parser.
    """
    taken = [host for host in hosts if HOSTS.get(host, exchange) != exchange]
    if taken or PARSERS.get(exchange, make) is not make:
        raise ValueError(f"exchange {exchange!r} or one of its hosts is registered already")
    PARSERS[exchange] = make
    HOSTS.update(dict.fromkeys(hosts, exchange))


def new_parser(exchange: str) -> Parser:
    """A fresh parser.

    Raises:
        FeedError: no parser is known for the exchange.
    """
    make = PARSERS.get(exchange)
    if make is None:
        raise FeedError(f"no parser for exchange {exchange!r}; known: {', '.join(sorted(PARSERS))}")
    return make()


def exchange_of(url: str) -> str | None:
    """The exchange behind an address, if it is known."""
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0].partition(":")[0]
    if scheme == "lean":
        return host
    if scheme == "reply" and _COINGECKO.search(url):
        return "coingecko"
    return next((name for end, name in HOSTS.items() if host == end or host.endswith("." + end)), None)


def guess(frames: Iterable[Frame]) -> str | None:
    """The exchange whose protocol the frames speak: the parser that reads most of them."""
    sample = list(islice(frames, _SNIFFED))
    read = {name: sum(bool(parser.parse(frame).messages) for frame in sample) for name, parser in _fresh()}
    best = max(read, key=lambda name: read[name])
    if not read[best]:
        return None
    return "binanceusdm" if best == "binance" and any(is_usdm(frame.payload) for frame in sample) else best


def _fresh() -> list[tuple[str, Parser]]:
    return [(name, make()) for name, make in PARSERS.items()]
