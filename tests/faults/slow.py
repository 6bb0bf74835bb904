"""A slow and faulty network: a TCP proxy that delays, stalls and cuts real connections."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
HOST = "127.0.0.1"
_CHUNK = 16_384


@dataclass
class Weather:
    """How bad the network is now. All zero: a plain proxy.

    Attributes:
        delay_s: one way, for every chunk.
        stall: share of chunks that wait for a retransmission, `stall_s` each.
        cut: share of chunks at which the connection is reset.
    """

    delay_s: float = 0.0
    stall: float = 0.0
    stall_s: float = 0.2
    cut: float = 0.0


class SlowNetwork:
    """One listening port for each node. `lead` says where the ports lead; `weather` how well."""

    def __init__(self, nodes: int) -> None:
        self.weather = Weather()
        self.cuts = 0
        self.stalls = 0
        self.ports: dict[int, int] = {}
        self._targets: Mapping[int, int] = {}
        self._random = random.Random(20261123)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="slow-network", daemon=True)
        self._thread.start()
        self._servers = [self._call(self._listen(node)) for node in range(1, nodes + 1)]

    @property
    def bootstrap(self) -> str:
        """Bootstrap servers on this side of the network."""
        return ",".join(f"{HOST}:{port}" for port in self.ports.values())

    def lead(self, targets: Mapping[int, int]) -> None:
        """Tell the port behind each node's."""
        self._targets = targets

    def close(self) -> None:
        """Cut everything."""
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self, node: int) -> asyncio.Server:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._join(node, reader, writer)

        server = await asyncio.start_server(accept, HOST, 0)
        self.ports[node] = server.sockets[0].getsockname()[1]
        return server

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _join(self, node: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = [writer]
        try:
            back, forth = await asyncio.open_connection(HOST, self._targets[node])
            ends.append(forth)
            pumps = [asyncio.ensure_future(self._pump(*way)) for way in ((reader, forth), (back, writer))]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        except OSError:
            # The node is down: the client sees its connection closed, as it would without a proxy.
            self.cuts += 1
        finally:
            for end in ends:
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while chunk := await reader.read(_CHUNK):
                weather = self.weather
                if self._random.random() < weather.cut:
                    self.cuts += 1
                    writer.transport.abort()
                    return
                if self._random.random() < weather.stall:
                    self.stalls += 1
                    await asyncio.sleep(weather.stall_s)
                if weather.delay_s:
                    await asyncio.sleep(weather.delay_s)
                writer.write(chunk)
                await writer.drain()
