"""Handle the batches of a partition: decode, call the handler, retry, and send to the dead-letter queue."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from confluent_kafka import Message as Record

from coinstream.consumer.handling import ConsumedMessage, RetrySchedule
from coinstream.consumer.partition_state import PartitionState
from coinstream.consumer.scheduler import Backlog, ConsumerMetrics
from coinstream.dlq.entry import to_dead_letter
from coinstream.dlq.publisher import DeadLetterPublisher
from coinstream.errors import ConsumeError, NonRetryableError, SinkError, StopGroupError
from coinstream.kafka.records import offset_of

log = logging.getLogger("coinstream.consumer")

MAX_PENDING_DEAD_LETTERS: Final = 10_000
"""Maximum unacknowledged dead letters of a partition, which then waits for them."""
PENDING_PAUSE_S: Final = 0.05

Handler = Callable[[ConsumedMessage], Awaitable[None] | None]
"""Handler of one message."""
AnyHandler = Callable[[Any], Any]


@dataclass(frozen=True)
class HandlerCall:
    """Call of a handler by the workers.

    Attributes:
        run: handles the rest of a partition's batch and counts it in `state.done`. May raise any error.
        takes_batches: whether the handler takes lists.
    """

    run: Callable[[PartitionState], None]
    takes_batches: bool


class EventLoopThread:
    """Event loop in a separate thread for asynchronous handlers, started at first use."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine in the loop and wait for it. Errors of the coroutine are raised."""
        asyncio.run_coroutine_threadsafe(coroutine, self._running()).result()

    def close(self) -> None:
        """Stop the loop if it is running."""
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


class Worker:
    """Handler of batches of partitions, shared by all worker threads."""

    def __init__(
        self,
        group: str,
        call: HandlerCall,
        schedule: RetrySchedule,
        batch_size: int,
        publisher: DeadLetterPublisher | None,
        metrics: ConsumerMetrics,
        backlog: Backlog,
    ) -> None:
        self._group = group
        self._call = call
        self._schedule = schedule
        self._batch_size = batch_size
        self._publisher = publisher
        self._metrics = metrics
        self._backlog = backlog

    def work(self, state: PartitionState) -> float | None:
        """Handle a batch.

        Returns:
            The seconds until the next attempt, or None to continue at once.

        Raises:
            ConsumeError: a message cannot be handled, and dead letters are disabled.
            StopGroupError: the handler stopped the group.
        """
        if not state.batch:
            if state.pending > MAX_PENDING_DEAD_LETTERS:
                return PENDING_PAUSE_S
            self._load(state)
        before = state.done
        try:
            self._call.run(state)
        except StopGroupError:
            self._metrics.handled(state, before)
            raise
        except Exception as error:  # noqa: BLE001 - a handler may raise anything: it is counted and retried
            self._metrics.handled(state, before)
            return self._failed(state, error)
        self._metrics.handled(state, before)
        if state.done == len(state.batch):
            state.finish()
        return None

    def _load(self, state: PartitionState) -> None:
        bad, released = state.load(self._batch_size)
        self._backlog.release_bytes(released)
        for record, error in bad:
            self._send_to_dlq(state, record, error, attempts=0)

    def _failed(self, state: PartitionState, error: Exception) -> float | None:
        if state.done != state.failed_at:
            state.failed_at = state.done
            # A message of a batch with exhausted retries gets one attempt alone.
            state.failures = state.failures if state.one_by_one else 0
        state.failures += 1
        is_final = isinstance(error, NonRetryableError)
        delay = None if is_final else self._schedule.delay_s(state.failures)
        failed = state.batch[state.done]
        log.warning(
            "%s: %s offset %d failed (attempt %d): %s: %s",
            *(self._group, state.name, failed.offset, state.failures, type(error).__name__, error),
        )
        if delay is not None:
            self._metrics.error(state, "HANDLER")
            return delay
        if isinstance(error, SinkError):
            # The target is unavailable: the messages are valid and do not become dead letters.
            raise StopGroupError(
                f"group {self._group} stops at {state.name} offset {failed.offset} after {state.failures} "
                f"attempt(s): {error}. Nothing was lost; start it again."
            )
        if self._is_batch(state):
            # Handle the messages one by one to find the faulty one.
            state.one_by_one = True
            state.failures = max(state.failures, self._schedule.retries + 1)
            return 0.0
        state.skip()
        self._send_to_dlq(state, failed.record, error, state.failures)
        return None

    def _is_batch(self, state: PartitionState) -> bool:
        return self._call.takes_batches and not state.one_by_one and len(state.batch) - state.done > 1

    def _send_to_dlq(self, state: PartitionState, record: Record, error: Exception, attempts: int) -> None:
        self._metrics.error(state, type(error).__name__)
        offset = offset_of(record)
        if self._publisher is None:
            raise ConsumeError(
                f"group {self._group} stops at {state.name} offset {offset}, which it could not handle "
                f"in {attempts} attempt(s): {type(error).__name__}: {error}. Dead letters are switched off."
            )

        def on_acknowledged() -> None:
            state.release(offset)
            self._backlog.notify()

        dead_letter = to_dead_letter(record, error, attempts, self._group)
        self._publisher.send_to_dlq(dead_letter, on_acknowledged)


def handler_call(handler: AnyHandler, *, batch: bool, loop: EventLoopThread) -> HandlerCall:
    """Return the call of a handler."""
    if _is_async(handler):
        return HandlerCall(_async_batch(handler, loop) if batch else _async_each(handler, loop), batch)
    return HandlerCall(_batch(handler) if batch else _each(handler), batch)


def _is_async(handler: AnyHandler) -> bool:
    call: Final = getattr(handler, "__call__", None)  # noqa: B004 - an object whose `__call__` is asynchronous
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(call)


def _each(handler: AnyHandler) -> Callable[[PartitionState], None]:
    def call(state: PartitionState) -> None:
        done = state.done
        for message in islice(state.batch, done, None):
            if state.halted:
                return
            handler(message)
            done += 1
            state.done = done

    return call


def _async_each(handler: AnyHandler, loop: EventLoopThread) -> Callable[[PartitionState], None]:
    async def each(state: PartitionState) -> None:
        for message in state.batch[state.done :]:
            if state.halted:
                return
            await handler(message)
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
