"""Serve numbered trades of any exchange over a websocket that loses some, and over REST."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from coinstream.feeds.simulated.servers import RestServer


class TradeServer:
    """Sends frames of the trades 1 to `count` but for the lost ones; REST has them all.

    Args:
        frame: returns the frame of a trade.
        replies: what REST answers by path; 404 for others.
        count: number of trades.
        lost: numbers of trades whose frame is dropped.
        breaks: whether the connection breaks before the lost trades and is served on from the next one.
    """

    def __init__(
        self,
        frame: Callable[[int], Any],
        replies: Mapping[str, Any],
        count: int,
        lost: Sequence[int],
        *,
        breaks: bool,
    ) -> None:
        self._frame, self._replies, self._breaks = frame, replies, breaks
        self._numbers, self._lost = list(range(1, count + 1)), set(lost)
        self._next = 0
        self.asked: list[str] = []
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None
        self._port = 0
        self._rest = RestServer(self._reply)

    @property
    def ws_url(self) -> str:
        """Address of the websocket."""
        return f"ws://127.0.0.1:{self._port}"

    @property
    def rest_url(self) -> str:
        """Address of the REST endpoints."""
        return self._rest.url

    def __enter__(self) -> Self:
        """Start both servers."""
        self._rest.__enter__()
        self._thread = threading.Thread(
            target=lambda: self._loop.run_until_complete(self._serve()), daemon=True
        )
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both servers."""
        assert self._stop is not None
        self._rest.__exit__(kind, error, trace)
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with serve(self._accept, "127.0.0.1", 0) as server:
            self._port = next(iter(server.sockets)).getsockname()[1]
            self._ready.set()
            await self._stop.wait()

    async def _accept(self, connection: ServerConnection) -> None:
        try:
            await connection.recv()
            while self._next < len(self._numbers):
                number = self._numbers[self._next]
                self._next += 1
                if number not in self._lost:
                    await connection.send(msgspec.json.encode(self._frame(number)).decode())
                elif self._breaks and number + 1 not in self._lost:
                    connection.transport.abort()
                    return
            await connection.wait_closed()
        except ConnectionClosed:
            return

    def _reply(self, target: str) -> bytes | None:
        path = urlsplit(target).path
        self.asked.append(path)
        if path.endswith("/bullet-public"):
            data = {"token": "0", "instanceServers": [{"endpoint": self.ws_url}]}
            return msgspec.json.encode({"code": "200000", "data": data})
        found = self._replies.get(path)
        return None if found is None else msgspec.json.encode(found)
