"""Calling the user's handler: synchronous or asynchronous, one message or a batch at a time."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from coinstream.consumer.consumed_message import ConsumedMessage
from coinstream.consumer.partition_state import PartitionState

Handler = Callable[[ConsumedMessage], Awaitable[None] | None]
"""Handles one message."""
BatchHandler = Callable[[list[ConsumedMessage]], Awaitable[None] | None]
"""Handles several messages of one partition, in order."""
AnyHandler = Callable[[Any], Any]


@dataclass(frozen=True)
class HandlerCall:
    """How the workers call a handler.

    Attributes:
        run: handles what is left of a state's batch and counts it in `state.done`. May raise anything.
        takes_batches: the handler is given lists.
    """

    run: Callable[[PartitionState], None]
    takes_batches: bool


class EventLoopThread:
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


def handler_call(handler: AnyHandler, *, batch: bool, loop: EventLoopThread) -> HandlerCall:
    """How this handler is called."""
    if is_async(handler):
        return HandlerCall(_async_batch(handler, loop) if batch else _async_each(handler, loop), batch)
    return HandlerCall(_batch(handler) if batch else _each(handler), batch)


def is_async(handler: AnyHandler) -> bool:
    """Whether calling it gives a coroutine."""
    call: Final = getattr(handler, "__call__", None)  # noqa: B004 - an object whose `__call__` is asynchronous
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def _each(handler: AnyHandler) -> Callable[[PartitionState], None]:
    def call(state: PartitionState) -> None:
        done = state.done
        for received in islice(state.batch, done, None):
            if state.halted:
                return
            handler(received)
            done += 1
            state.done = done

    return call


def _async_each(handler: AnyHandler, loop: EventLoopThread) -> Callable[[PartitionState], None]:
    async def each(state: PartitionState) -> None:
        for received in state.batch[state.done :]:
            if state.halted:
                return
            await handler(received)
            state.done += 1

    return lambda state: loop.run(each(state))


def _batch(handler: AnyHandler) -> Callable[[PartitionState], None]:
    def call(state: PartitionState) -> None:
        while part := _part(state):
            handler(part)
            state.done += len(part)

    return call


def _async_batch(handler: AnyHandler, loop: EventLoopThread) -> Callable[[PartitionState], None]:
    async def all_of(state: PartitionState) -> None:
        while part := _part(state):
            await handler(part)
            state.done += len(part)

    return lambda state: loop.run(all_of(state))


def _part(state: PartitionState) -> list[ConsumedMessage]:
    if state.halted:
        return []
    return state.batch[state.done : state.done + 1] if state.one_by_one else state.batch[state.done :]
