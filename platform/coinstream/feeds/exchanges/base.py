"""Define the interface of an exchange adapter, which contains one exchange's protocol.

Live feeds, recordings and the replay server use the same adapter, so tests on recordings cover the live code.
To add an exchange, write one module that subclasses `ExchangeAdapter` and `ExchangeParser`, and register the
adapter.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Literal, NamedTuple

import httpx
import msgspec

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.connections import Connection, Heartbeat, Limits, plan_connections, redirected
from coinstream.feeds.exchanges.parsing import ExchangeParser, describe
from coinstream.feeds.instruments import Instrument, InstrumentList
from coinstream.feeds.parser import Frame, Gap, Parser

Evidence = Literal["recording", "documentation"]
"""Evidence of a channel: tested on real recordings, or on frames written from the documentation."""


class Channel(NamedTuple):
    """One channel that an adapter reads.

    Attributes:
        name: the exchange's name of the channel.
        types: message types of the channel (`level1`, `price`, `ohlcv`, `trade`, `book`, ...).
        evidence: see `Evidence`.
    """

    name: str
    types: tuple[str, ...]
    evidence: Evidence


Subscriptions = Mapping[str, tuple[str, ...]]
"""Message types by channel."""


class TradesRequest(NamedTuple):
    """A REST request for trades: address and query."""

    url: str
    params: dict[str, str]


class ExchangeAdapter:
    """Adapter of one exchange, or of one market segment with its own protocol or URLs.

    Class attributes:
        exchange: the `exchangeId` (ccxt's name).
        hosts: suffixes of its host names, optionally with the start of a path (`fstream.binance.com`,
            `stream.bybit.com/v5/public/linear`); the longest match is used.
        channels: channels that it reads, for `coinstream feed exchanges` and the documentation.
        limits: see `Limits`.
        instruments_urls: REST URLs that list the instruments.
        instruments_paths: parts of further such URLs in recordings.
        heartbeat: see `Heartbeat`.
        live: whether its feed is public; False if subscriptions must be signed, so that only recordings are
            read.
        compression: whether the exchange compresses frames with permessage-deflate.
        parser_class: parser of its frames.
        address: URL of the websocket.
        subscriptions: channels to subscribe to, in order, and the message types that need them.

    Args:
        ws: base URL (scheme, host, port) that replaces the websocket's, for the replay server and tests.
        rest: base URL that replaces the REST API's.
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
    parser_class: ClassVar[type[ExchangeParser]]
    address: ClassVar[str]
    subscriptions: ClassVar[Subscriptions] = {}

    def __init__(self, ws: str | None = None, rest: str | None = None) -> None:
        self.ws = ws.rstrip("/") if ws else None
        self.rest = rest.rstrip("/") if rest else None

    def parser(self, instruments: InstrumentList, types: frozenset[str] | None = None) -> Parser:
        """Return a parser for the frames of this exchange.

        Args:
            instruments: instruments that frames refer to; may be extended while parsing.
            types: message types to produce; None for all.
        """
        return self.parser_class(self.exchange, instruments, types)

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """Return the websockets to open for these instruments and message types, within `limits`.

        By default they subscribe at `address` to the channels in `subscriptions`.
        """
        wanted = [name for name, some in self.subscriptions.items() if not types.isdisjoint(some)]
        if not wanted:
            return []
        return plan_connections(self.url(), instruments, self.limits, partial(self.subscribe, wanted))

    def url(self) -> str:
        """Return the URL of the websocket: `address`, at the host of `ws` if that is set."""
        return redirected(self.address, self.ws)

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """Return the frames that subscribe to some of `subscriptions` for these instruments.

        Required unless the adapter overrides `connections`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines neither subscribe nor connections")

    def instrument_urls(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Return the REST URLs that list the instruments of these unified symbols.

        Most exchanges list all instruments in one reply; Gemini has one URL per market.
        """
        return self.instruments_urls

    async def fetch_instruments(
        self, http: httpx.AsyncClient, symbols: Sequence[str] = ()
    ) -> list[Instrument]:
        """Request the instruments of these unified symbols, or by default all instruments.

        Raises:
            httpx.HTTPError: a request failed.
            FeedError: a reply differs from the exchange's documentation.
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
            FeedError: the reply is not JSON, or differs from the exchange's documentation.
        """
        try:
            entries = self.read_instruments(msgspec.json.decode(body), url)
            return [found for found in entries if found is not None]
        except RecursionError:
            raise FeedError(f"{self.exchange}: the instrument list at {url} is nested too deeply") from None
        except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
            raise FeedError(
                f"{self.exchange}: the instrument list at {url} is not as documented: {describe(error)}"
            ) from error

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of a decoded REST reply; None for an entry that is no market."""
        raise FeedError(f"{self.exchange}: no instrument list is known at {url}")

    @classmethod
    def lists_instruments(cls, url: str) -> bool:
        """Return whether a REST URL lists instruments.

        Its path is that of one of `instruments_urls`, or contains one of `instruments_paths`.
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

        This distinguishes similar protocols in recordings without URLs.
        """
        return False

    def answer(self, frame: Frame) -> bytes | None:
        """Return the reply that a frame requires (a pong), or None."""
        return None

    async def prepare(self, http: httpx.AsyncClient) -> None:
        """Request what a connection requires, for example KuCoin's token; by default nothing."""
        return

    async def snapshot(self, http: httpx.AsyncClient, instrument: Instrument) -> Frame | None:
        """Request the REST snapshot of a book as a frame; return None if the stream contains it."""
        return None

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return requests that make the exchange resend the book of a symbol; empty means to reconnect."""
        return ()

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """Return the request for the trades of a gap; None where the exchange has none."""
        return None

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """Return the trades of the decoded reply to `trades_request` as frames of the stream, oldest first.

        Trades that are not in the gap may be among them.
        """
        return ()

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """Request the exchange's clock in Unix milliseconds; None if it has no such endpoint."""
        return None


RENEW: Final = ("unsubscribe", "subscribe")
"""Operations that make an exchange send the snapshot of a channel again."""
ADAPTERS: Final[dict[str, type[ExchangeAdapter]]] = {}
"""Adapters by exchange id. Add one with `register_adapter`."""


def register_adapter(adapter: type[ExchangeAdapter]) -> type[ExchangeAdapter]:
    """Register an adapter under its `exchange`; usable as a class decorator.

    Raises:
        ValueError: another adapter has this id.
    """
    known = ADAPTERS.get(adapter.exchange)
    if known is not None and known is not adapter:
        raise ValueError(f"exchange {adapter.exchange!r} has an adapter already: {known.__qualname__}")
    ADAPTERS[adapter.exchange] = adapter
    return adapter
