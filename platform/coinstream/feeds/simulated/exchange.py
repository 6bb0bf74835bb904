"""Serve the simulated exchange: REST, websockets and the control of faults on one port."""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from coinstream.errors import SettingsError
from coinstream.feeds.simulated.binance import Binance
from coinstream.feeds.simulated.coinbase import Coinbase
from coinstream.feeds.simulated.kraken import Coingecko, Kraken
from coinstream.feeds.simulated.market import Market, RandomWalk, Source
from coinstream.feeds.simulated.servers import WebsocketServer
from coinstream.feeds.simulated.venue import Faults, Reply, Session, Venue, World, encode

DEFAULT_SYMBOLS: Final = ("BTC/USDT", "ETH/USDT", "BTC/USD", "ETH/USD")
VENUES: Final[dict[str, Callable[[World], Venue]]] = {
    "binance": Binance,
    "kraken": Kraken,
    "coinbase": Coinbase,
    "coingecko": Coingecko,
}
"""Protocols by exchange, which is the first part of the path: `/binance/…`."""

_STEP_S: Final = 0.005
_MAX_BEHIND_S: Final = 0.5
_FULL_BYTES: Final = 1 << 20
_PAGE: Final = b"<html><head><title>502 Bad Gateway</title></head></html>"


@dataclass(eq=False)
class ClientConnection:
    """One open websocket."""

    connection: ServerConnection
    session: Session
    held: deque[tuple[float, bytes]] = field(default_factory=deque)

    def write(self, frames: Iterable[bytes]) -> None:
        """Send frames, unless the client disconnected."""
        protocol = self.connection.protocol
        if protocol.state is not State.OPEN or self.connection.transport.is_closing():
            return
        for frame in frames:
            protocol.send_text(frame)
        # One write for all frames: separate writes would dominate the cost, and asyncio logs a warning for
        # each write after the client disconnected.
        self.connection.transport.write(b"".join(protocol.data_to_send()))

    @property
    def is_full(self) -> bool:
        """Return whether the client reads too slowly."""
        return self.connection.transport.get_write_buffer_size() > _FULL_BYTES


class SimulatedExchange(WebsocketServer):
    """Server of the simulated exchange, as a context manager. It quotes with and without clients.

    A slow client slows all quotes: no quote is dropped unless a fault requests it.

    Args:
        symbols: unified symbols of the random walk.
        rate: quotes per second over all symbols.
        source: source of quotes; by default a random walk.
        seed: seed of the random walk and of random faults.
        port: port to listen on; 0 takes a free one.
        number_in_size: write the sequence number of a quote into its bid size, so that tests detect gaps.

    Attributes:
        connections: number of opened websockets.
        requests: number of processed client frames.
        faults: current faults; can be changed at any time, also by `GET /faults?garble=0.1`.
    """

    def __init__(
        self,
        symbols: Sequence[str] = DEFAULT_SYMBOLS,
        rate: float = 100.0,
        *,
        source: Source | None = None,
        seed: int = 1,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Faults | None = None,
        number_in_size: bool = False,
    ) -> None:
        super().__init__("simulated exchange", host, port)
        self.faults = faults or Faults()
        self.rate = rate
        self.market = Market(source or RandomWalk(symbols, seed), number_in_size=number_in_size)
        self.connections = self.requests = 0
        world = World(self.market, self.faults)
        self._venues = {name: make(world) for name, make in VENUES.items()}
        self._dice = random.Random(seed)
        self._connections: set[ClientConnection] = set()

    @property
    def url(self) -> str:
        """Return the HTTP URL."""
        return f"http://{self._host}:{self._port}"

    def http_url(self, venue: str) -> str:
        """Return the base URL of an exchange's REST endpoints."""
        return f"{self.url}/{venue}"

    def ws_url(self, venue: str) -> str:
        """Return the base URL of an exchange's websocket endpoints."""
        return f"ws://{self._host}:{self._port}/{venue}"

    async def _serve(self, stop: asyncio.Event) -> None:
        async with serve(
            self._accept,
            self._host,
            self._port,
            process_request=self._answer,
            compression=None,
            server_header="simulated",
        ) as server:
            pump, beat = asyncio.create_task(self._pump()), asyncio.create_task(self._beat())
            self._listening(server)
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait((pump, beat, stopped), return_when=asyncio.FIRST_COMPLETED)
            for task in (pump, beat, stopped):
                task.cancel()
            for task in (pump, beat):
                if task.done() and not task.cancelled():
                    task.result()

    # REST and control

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        query = dict(parse_qsl(parts.query))
        if parts.path == "/faults":
            return self._control(query)
        name, _, rest = parts.path.lstrip("/").partition("/")
        venue, path = self._venues.get(name), "/" + rest
        if venue is None:
            return _response(Reply(404, encode({"venues": sorted(self._venues), "control": "/faults"})))
        if self.faults.rate_limit > 0:
            self.faults.rate_limit -= 1
            return _response(Reply(429, b'{"code":-1003,"msg":"Too many requests"}'), {"Retry-After": "1"})
        if self.faults.refuse > 0:
            self.faults.refuse -= 1
            return _response(Reply(503, _PAGE))
        if "Upgrade" in request.headers:
            return None
        if self.faults.html:
            return _response(Reply(200, _PAGE), {"Content-Type": "text/html"})
        return _response(venue.reply(path, query))

    def _control(self, query: dict[str, str]) -> Response:
        try:
            self.faults.update(query)
        except SettingsError as error:
            return _response(Reply(400, encode({"error": str(error)})))
        return _response(Reply(200, encode(self.faults.as_dict())))

    # Websockets

    async def _accept(self, connection: ServerConnection) -> None:
        request = connection.request
        parts = urlsplit(request.path if request else "/")
        name, _, rest = parts.path.lstrip("/").partition("/")
        session = self._venues[name].session("/" + rest, dict(parse_qsl(parts.query)))
        line = ClientConnection(connection, session)
        self.connections += 1
        line.write(session.on_open())
        self._connections.add(line)
        try:
            async for text in connection:
                line.write(session.on_message(text.encode() if isinstance(text, str) else text))
                self.requests += 1
        except ConnectionClosed:
            return
        finally:
            self._connections.discard(line)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if not self.faults.freeze:
                for line in list(self._connections):
                    line.write(line.session.beat())

    async def _pump(self) -> None:
        due, last = 0.0, time.monotonic()
        while True:
            await asyncio.sleep(_STEP_S)
            while any(line.is_full for line in self._connections):
                await asyncio.sleep(_STEP_S)
            now = time.monotonic()
            # What could not be sent in time is not made up for at once.
            due += min(now - last, _MAX_BEHIND_S) * self.rate
            last = now
            count, due = int(due), due - int(due)
            self._step(count, now)

    def _step(self, count: int, now: float) -> None:
        faults, market = self.faults, self.market
        at_ms = int(time.time() * 1000 + faults.skew_ms)
        ticks = [
            market.next(at_ms, crossed=bool(faults.cross) and self._dice.random() < faults.cross)
            for _ in range(count)
        ]
        told = [tick for tick in ticks if tick.symbol not in faults.vanished] if faults.vanished else ticks
        for line in list(self._connections):
            if faults.freeze:
                continue
            frames: Iterable[bytes] = (frame for tick in told for frame in line.session.on_tick(tick))
            if not faults.is_clean:
                frames = faults.spoil(frames, self._dice)
            if faults.drop > 0 and told:
                faults.drop -= 1
                line.connection.transport.abort()
                continue
            if faults.delay_ms or line.held:
                line.held.extend((now + faults.delay_ms / 1000, frame) for frame in frames)
                frames = _ripe(line.held, now)
            line.write(frames)


def _ripe(held: deque[tuple[float, bytes]], now: float) -> list[bytes]:
    ripe = []
    while held and held[0][0] <= now:
        ripe.append(held.popleft()[1])
    return ripe


def _response(reply: Reply, headers: dict[str, str] | None = None) -> Response:
    shown = Headers({"Content-Type": "application/json", "Content-Length": str(len(reply.body))})
    # The server closes the connection after each reply; a client without this header would reuse it and fail.
    shown["Connection"] = "close"
    for name, value in (headers or {}).items():
        shown[name] = value
    return Response(reply.status, HTTPStatus(reply.status).phrase, shown, reply.body)
