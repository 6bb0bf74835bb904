"""Calling the user's handler: synchronous or asynchronous, one message or a batch at a time."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from coinstream.consumer.partition_state import Lane
from coinstream.consumer.received import Received

Handler = Callable[[Received], Awaitable[None] | None]
"""Handles one message."""
BatchHandler = Callable[[list[Received]], Awaitable[None] | None]
"""Handles several messages of one partition, in order."""
AnyHandler = Callable[[Any], Any]


@dataclass(frozen=True)
class Call:
    """How the workers call a handler.

    Attributes:
        run: handles what is left of a lane's batch and counts it in `lane.done`. May raise anything.
        takes_batches: the handler is given lists.
    """

    run: Callable[[Lane], None]
    takes_batches: bool


class Loop:
    """An asyncio event loop in a thread of its own, for asynchronous handlers. Starts when first used."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it in the loop and wait for its end.

        Raises:
            Whatever the coroutine raises.
        """
        asyncio.run_coroutine_threadsafe(coroutine, self._running()).result()

    def close(self) -> None:
        """Stop the loop, if it runs."""
        with self._lock:
            loop, thread = self._loop, self._thread
            self._loop = self._thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
                self._thread.start()
            return self._loop


def caller(handler: AnyHandler, *, batch: bool, loop: Loop) -> Call:
    """How this handler is called."""
    if is_async(handler):
        return Call(_async_batch(handler, loop) if batch else _async_each(handler, loop), batch)
    return Call(_batch(handler) if batch else _each(handler), batch)


def is_async(handler: AnyHandler) -> bool:
    """Whether calling it gives a coroutine."""
    call: Final = getattr(handler, "__call__", None)  # noqa: B004 - an object whose `__call__` is asynchronous
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def _each(handler: AnyHandler) -> Callable[[Lane], None]:
    def call(lane: Lane) -> None:
        done = lane.done
        for received in islice(lane.batch, done, None):
            if lane.halted:
                return
            handler(received)
            done += 1
            lane.done = done

    return call


def _async_each(handler: AnyHandler, loop: Loop) -> Callable[[Lane], None]:
    async def each(lane: Lane) -> None:
        for received in lane.batch[lane.done :]:
            if lane.halted:
                return
            await handler(received)
            lane.done += 1

    return lambda lane: loop.run(each(lane))


def _batch(handler: AnyHandler) -> Callable[[Lane], None]:
    def call(lane: Lane) -> None:
        while part := _part(lane):
            handler(part)
            lane.done += len(part)

    return call


def _async_batch(handler: AnyHandler, loop: Loop) -> Callable[[Lane], None]:
    async def all_of(lane: Lane) -> None:
        while part := _part(lane):
            await handler(part)
            lane.done += len(part)

    return lambda lane: loop.run(all_of(lane))


def _part(lane: Lane) -> list[Received]:
    if lane.halted:
        return []
    return lane.batch[lane.done : lane.done + 1] if lane.one_by_one else lane.batch[lane.done :]
