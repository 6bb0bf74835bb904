"""Serve a recorded session over a websocket.

The server checks that each subscribed market is part of the recorded session, then sends the recorded
frames. REST requests are answered with recorded replies.
"""

from __future__ import annotations

import asyncio
import heapq
import random
import re
import threading
import time
from collections.abc import Iterator
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from coinstream.errors import FeedError
from coinstream.feeds import recordings
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.exchanges.parsing import ExchangeParser
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instrument_lists import packaged
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Frame
from coinstream.feeds.simulated.servers import RecordedReplies, RestServer, WebsocketServer
from coinstream.feeds.simulated.venue import Faults

_WORDS: Final = re.compile(r"[^A-Za-z0-9/_\-]+")
_REFUSED: Final = 1008
_CHUNK: Final = 200


class RecordingServer(WebsocketServer):
    """Server that sends the frames of a recording on the first connection that subscribes.

    Args:
        path: recorded session: a file, or a folder with the recordings of its websockets and REST replies.
        exchange: exchange of the session; by default detected from the recording.
        rate: frames per second; None sends as fast as the client reads.
        host: address to listen on.
        port: port of the websocket; 0 takes a free one. REST always takes a free port.
        faults: faults of the frames: `gap`, `garble`, `duplicate`, `drop` and `refuse`.
        seed: seed of random faults.

    Attributes:
        frames: number of recorded frames.
        sent: number of frames sent.
        subscriptions: client requests.
        refused: reasons of refused subscriptions.
        finished: set when every frame was sent.

    Raises:
        FeedError: the recording cannot be read, or its exchange has no adapter.
    """

    def __init__(
        self,
        path: Path,
        exchange: str | None = None,
        *,
        rate: float | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: Faults | None = None,
        seed: int = 1,
    ) -> None:
        super().__init__("recording server", host, port)
        self.exchange = exchange or recordings.exchange_in(recordings.files_of(path)[0])
        adapter = adapters().get(self.exchange)
        if adapter is None:
            raise FeedError(f"recording {path}: exchange {self.exchange} has no adapter to replay it with")
        self.compression = adapter.compression
        self._heartbeat = adapter.heartbeat.payload if adapter.heartbeat is not None else None
        self.faults = faults or Faults()
        self.frames: list[bytes] = []
        self.sent = 0
        self.subscriptions: list[bytes] = []
        self.refused: list[str] = []
        self.finished = threading.Event()
        self._replies = RecordedReplies()
        self._instruments = packaged(self.exchange)
        self._recorded_words: set[str] = set()
        self._opened = ""
        self._load(path)
        self._rate = rate
        self._dice = random.Random(seed)
        self._playing = False
        self._rest = RestServer(self._reply_to, host)

    @property
    def ws_url(self) -> str:
        """Return the URL of the websocket."""
        return f"ws://{self._host}:{self._port}"

    @property
    def rest_url(self) -> str:
        """Return the base URL of the REST replies."""
        return self._rest.url

    @cached_property
    def symbols(self) -> list[str]:
        """Return the markets of the session, from its requests or else from its messages."""
        named = dict.fromkeys(one.symbol for one in self._named(self._recorded_words))
        return list(named or dict.fromkeys(self._symbols_of_messages()))

    def _symbols_of_messages(self) -> Iterator[str]:
        parser = adapters()[self.exchange]().parser(self._instruments)
        if isinstance(parser, ExchangeParser):
            parser.opened(self._opened)
        for payload in self.frames:
            for message in parser.parse(Frame(time.time_ns(), payload)).messages:
                if self._instruments.of_symbol(symbol := getattr(message, "symbol", "")) is not None:
                    yield symbol

    def __enter__(self) -> Self:
        """See `WebsocketServer.__enter__`."""
        self._rest.__enter__()
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rest.__exit__(kind, error, trace)
        super().__exit__(kind, error, trace)

    # The recording

    def _load(self, path: Path) -> None:
        adapter = adapters()[self.exchange]()
        lines = (recordings.read_lines(file) for file in recordings.files_of(path))
        for line in heapq.merge(*lines, key=lambda line: line.frame.received_ns):
            url, payload = line.frame.url, line.frame.payload
            if line.reason is Reason.OPENED and url is not None:
                self._opened = self._opened or url
            if line.reason in (Reason.SENT, Reason.OPENED):
                self._recorded_words |= _words(f"{url} {payload.decode(errors='replace')}")
            elif line.reason is None and url is not None:
                self._replies.add(url, payload)
                if adapter.lists_instruments(url):
                    self._instruments.add(adapter.parse_instruments(url, payload))
            elif line.reason is None:
                self.frames.append(payload)

    def _named(self, words: set[str]) -> Iterator[Instrument]:
        return (one for one in self._instruments if words & {one.id.upper(), one.symbol.upper()})

    # Websockets

    async def _serve(self, stop: asyncio.Event) -> None:
        compression = "deflate" if self.compression else None
        async with serve(self._accept, self._host, self._port, compression=compression) as server:
            self._listening(server)
            await stop.wait()

    async def _accept(self, connection: ServerConnection) -> None:
        if self.faults.refuse > 0:
            self.faults.refuse -= 1
            connection.transport.abort()
            return
        player: asyncio.Task[None] | None = None
        path = connection.request.path if connection.request else "/"
        try:
            if next(self._named(_words(path)), None) is not None:
                player = self._play(connection)
            async for text in connection:
                request = text.encode() if isinstance(text, str) else text
                if request != self._heartbeat:
                    self.subscriptions.append(request)
                strange = self._strange(request)
                if strange:
                    self.refused.append(strange)
                    await connection.close(_REFUSED, strange[:120])
                    return
                if player is None and request != self._heartbeat:
                    player = self._play(connection)
        except ConnectionClosed:
            return
        finally:
            if player is not None:
                player.cancel()
                self._playing = False
                if self.finished.is_set():
                    self.sent = 0  # the next client receives the whole session

    def _strange(self, request: bytes) -> str:
        """Return the reason why a request is not part of the recorded session, or an empty string."""
        asked = _words(request.decode(errors="replace"))
        recorded = set(self.symbols)
        names = {one.id for one in self._named(asked) if one.symbol not in recorded}
        return f"not in the recording: {', '.join(sorted(names))}" if names else ""

    def _play(self, connection: ServerConnection) -> asyncio.Task[None] | None:
        if self._playing:
            return None
        self._playing = True
        return asyncio.create_task(self._send_all(connection))

    async def _send_all(self, connection: ServerConnection) -> None:
        try:
            while self.sent < len(self.frames):
                part = self.frames[self.sent : self.sent + _CHUNK]
                for frame in self.faults.spoil(part, self._dice):
                    if self.faults.drop > 0:
                        self.faults.drop -= 1
                        connection.transport.abort()
                        return
                    await connection.send(_text(frame))
                self.sent += len(part)
                if self._rate:
                    await asyncio.sleep(len(part) / self._rate)
            self.finished.set()
        except ConnectionClosed:
            return

    # REST

    def _reply_to(self, target: str) -> bytes | None:
        """Return the body for a path with query, or None."""
        found = self._replies.find(target)
        return self._token() if found is None and urlsplit(target).path.endswith("/bullet-public") else found

    def _token(self) -> bytes:
        """Return KuCoin's reply that precedes a connection: a URL and a token."""
        servers = [{"endpoint": self.ws_url, "pingInterval": 18_000, "pingTimeout": 10_000}]
        return msgspec.json.encode({"code": "200000", "data": {"token": "0", "instanceServers": servers}})


def _words(text: str) -> set[str]:
    """Return the words of a request or URL that may be a market's name, in upper case."""
    words: set[str] = set()
    for word in _WORDS.split(text.upper()):
        words.add(word)
        words.update(word.split("/"))
        words.update(word.split("_"))
        parts = word.split("-")
        words.update(f"{first}-{second}" for first, second in pairwise(parts))
    return words


def _text(frame: bytes) -> str | bytes:
    try:
        return frame.decode()
    except UnicodeDecodeError:
        return frame
