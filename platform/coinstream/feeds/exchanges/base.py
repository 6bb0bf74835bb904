"""What an exchange adapter is: everything coinstream knows about one exchange's protocol, in one module.

The live feed, recordings and the replay server use the same adapter, so what is tested on a recording
is what runs live. Adding an exchange takes one module: subclass `ExchangeAdapter` and its parser, and
register the adapter.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, NamedTuple

import httpx

from coinstream.errors import FeedError
from coinstream.feeds.instruments import Instrument, InstrumentList
from coinstream.feeds.parser import Frame, Gap, Parser
from coinstream.messages import Message

Evidence = Literal["recording", "documentation"]
"""What a channel was tested on: real recordings, or frames made from the documentation only."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an exchange allows a client.

    Attributes:
        symbols_per_connection: symbols subscribed on one connection at most.
        symbols_per_request: symbols in one subscription request at most.
        requests_per_second: requests sent on one connection at most.
    """

    symbols_per_connection: int = 200
    symbols_per_request: int = 50
    requests_per_second: float = 4.0


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What the client sends so that the exchange keeps the connection.

    Attributes:
        payload: the frame.
        every_s: interval in seconds.
    """

    payload: bytes
    every_s: float


@dataclass(frozen=True, slots=True)
class Connection:
    """One websocket to open.

    Attributes:
        url: where to connect.
        requests: frames to send after the connection opened, in order.
        symbols: unified symbols that it carries.
        headers: HTTP headers of the handshake.
    """

    url: str
    requests: tuple[bytes, ...]
    symbols: tuple[str, ...]
    headers: dict[str, str] = field(default_factory=dict)


class Channel(NamedTuple):
    """One channel that an adapter reads.

    Attributes:
        name: as the exchange calls it.
        types: message types that it gives (`level1`, `price`, `ohlcv`, `trade`, `book`, ...).
        evidence: see `Evidence`.
    """

    name: str
    types: tuple[str, ...]
    evidence: Evidence


class ExchangeAdapter(ABC):
    """One exchange, or one market segment of it that has its own protocol or addresses.

    Class attributes:
        exchange: the `exchangeId` (ccxt's name).
        hosts: ends of its host names, optionally with the start of a path (`fstream.binance.com`,
            `stream.bybit.com/v5/public/linear`); the longest match decides.
        channels: what it reads, for `coinstream feed exchanges` and the documentation.
        limits: see `Limits`.
        instruments_urls: REST addresses whose replies list the instruments.
        instruments_paths: parts of further such addresses, which recordings hold.
        heartbeat: see `Heartbeat`.
        live: whether its feed is open to everybody; False where subscriptions must be signed, so that only
            recordings are read.
        compression: whether the exchange compresses frames with permessage-deflate.

    Args:
        ws: replaces the websocket address (scheme, host, port), for the replay server and tests.
        rest: replaces the REST address.
    """

    exchange: ClassVar[str]
    hosts: ClassVar[tuple[str, ...]] = ()
    channels: ClassVar[tuple[Channel, ...]] = ()
    limits: ClassVar[Limits] = Limits()
    instruments_urls: ClassVar[tuple[str, ...]] = ()
    instruments_paths: ClassVar[tuple[str, ...]] = ()
    live: ClassVar[bool] = True
    heartbeat: ClassVar[Heartbeat | None] = None
    compression: ClassVar[bool] = False

    def __init__(self, ws: str | None = None, rest: str | None = None) -> None:
        self.ws = ws.rstrip("/") if ws else None
        self.rest = rest.rstrip("/") if rest else None

    @abstractmethod
    def parser(self, instruments: InstrumentList, types: frozenset[str] | None = None) -> Parser:
        """Return a parser for the frames of this exchange.

        Args:
            instruments: resolves names in frames; may be extended while parsing.
            types: message types wanted; None for all.
        """

    @abstractmethod
    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """Return the websockets to open for these instruments and message types, within `limits`."""

    def instrument_urls(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Return the REST addresses that list the instruments of these unified symbols.

        Most exchanges list all at once; Gemini answers for one market at a time.
        """
        return self.instruments_urls

    async def fetch_instruments(
        self, http: httpx.AsyncClient, symbols: Sequence[str] = ()
    ) -> list[Instrument]:
        """Request the instruments of these unified symbols; all of them where none are named.

        Raises:
            httpx.HTTPError: a request failed.
            FeedError: a reply is not what the exchange documents.
        """
        found: list[Instrument] = []
        for url in self.instrument_urls(symbols):
            path = "/" + url.partition("://")[2].partition("/")[2]
            reply = await http.get(f"{self.rest}{path}" if self.rest else url)
            reply.raise_for_status()
            found += self.parse_instruments(url, reply.content)
        return found

    def parse_instruments(self, url: str, body: bytes) -> list[Instrument]:
        """Return the instruments in a REST reply of one of `instruments_urls`.

        Raises:
            FeedError: the reply is not what the exchange documents.
        """
        raise FeedError(f"{self.exchange}: no instrument list is known at {url}")

    @classmethod
    def lists_instruments(cls, url: str) -> bool:
        """Return whether a REST address lists instruments.

        It has the path of one of `instruments_urls`, or a part that is among `instruments_paths`.
        """
        if any(part in url for part in cls.instruments_paths):
            return True
        path = url.partition("://")[2].partition("/")[2].partition("?")[0]
        return any(
            path == known.partition("://")[2].partition("/")[2].partition("?")[0]
            for known in cls.instruments_urls
        )

    @classmethod
    def is_foreign(cls, payload: bytes) -> bool:
        """Return whether only another segment of the exchange sends such a frame.

        It tells protocols apart that share most of their fields, where a recording has no addresses.
        """
        return False

    def answer(self, frame: Frame) -> bytes | None:
        """Return what the client must send back for a frame (a pong), or None."""
        return None

    async def prepare(self, http: httpx.AsyncClient) -> None:
        """Fetch what a connection needs first (KuCoin's token); most exchanges need nothing."""
        return

    async def snapshot(self, http: httpx.AsyncClient, instrument: Instrument) -> Frame | None:
        """Fetch the REST snapshot of a book as a frame for the parser; None where the stream holds it."""
        return None

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return requests that make the exchange send the book of a symbol again; empty: connect again."""
        return ()

    async def recover(self, http: httpx.AsyncClient, gap: Gap) -> list[Message]:
        """Fetch by REST what a gap in one symbol's stream lost; empty where there is no way."""
        return []

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """Ask for the exchange's clock in milliseconds since 1970; None where it has no such endpoint."""
        return None


ADAPTERS: Final[dict[str, type[ExchangeAdapter]]] = {}
"""Adapters by exchange id. Add one with `register_adapter`."""


def register_adapter(adapter: type[ExchangeAdapter]) -> type[ExchangeAdapter]:
    """Make an adapter known under its `exchange`; usable as a class decorator.

    Raises:
        ValueError: another adapter has that id.
    """
    known = ADAPTERS.get(adapter.exchange)
    if known is not None and known is not adapter:
        raise ValueError(f"exchange {adapter.exchange!r} has an adapter already: {known.__qualname__}")
    ADAPTERS[adapter.exchange] = adapter
    return adapter


def adapter_for(exchange: str) -> type[ExchangeAdapter]:
    """Return the adapter of an exchange.

    Raises:
        FeedError: none is registered. Names the known ones.
    """
    found = ADAPTERS.get(exchange)
    if found is None:
        raise FeedError(f"no adapter for exchange {exchange!r}; known: {', '.join(sorted(ADAPTERS))}")
    return found


def batches(items: Sequence[Instrument], size: int) -> Iterator[Sequence[Instrument]]:
    """Yield the instruments in runs of at most `size`."""
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]


def host_matches(url: str, end: str) -> bool:
    """Return whether an address belongs to an entry of `hosts`."""
    rest = url.partition("://")[2]
    authority, _, path = rest.partition("/")
    host = authority.partition(":")[0]
    wanted_host, _, wanted_path = end.partition("/")
    if host != wanted_host and not host.endswith("." + wanted_host):
        return False
    return path.startswith(wanted_path)


__all__ = [
    "ADAPTERS",
    "Channel",
    "Connection",
    "ExchangeAdapter",
    "Heartbeat",
    "Limits",
    "adapter_for",
    "batches",
    "host_matches",
    "register_adapter",
]
