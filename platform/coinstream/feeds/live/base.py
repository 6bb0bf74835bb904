"""Provide the base of live feeds: the event loop, run by the consumer of the messages, and timeouts.

Signal handlers run between the steps of the event loop instead of inside them.
"""

from __future__ import annotations

import asyncio
import logging
import re
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, TypeVar

from coinstream.backoff import Backoff
from coinstream.errors import FeedError
from coinstream.feeds.feed_stats import FeedStats
from coinstream.messages import Message

log = logging.getLogger(__name__)

ROOM: Final = 1_000
"""Maximum messages in an inbox; reading pauses at this limit."""
BATCH: Final = 1_000
_PATIENCE_S: Final = 0.25
_CLOSE_S: Final = 5.0
_SECRET: Final = re.compile(
    r"(?i)((?:signature|sign|api[-_]?key|access[-_]?key|secret|passphrase|password|token)[\"']?\s*[=:]\s*[\"']?)"
    r"[^&\s\"',}]+"
)

T = TypeVar("T")

Handler = Callable[[int, FrameType | None], Any]
Arrival = tuple[Handler, int, FrameType | None]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts and intervals of a live feed, in seconds.

    Attributes:
        frozen_after_s: a connection without data for this time is closed and reopened.
        silent_after_s: a symbol without data for this time, while others have data, is checked.
        first_retry_s: upper bound of the first backoff before a reconnect; it doubles each time.
        longest_retry_s: upper bound of the backoff.
        give_up_after_s: the feed fails after this time without a connection.
        clock_every_s: interval of comparisons of the exchange's clock with this machine's.
        poll_every_s: interval of requests to an endpoint without a stream.
    """

    frozen_after_s: float = 30.0
    silent_after_s: float = 60.0
    first_retry_s: float = 0.5
    longest_retry_s: float = 30.0
    give_up_after_s: float = 300.0
    clock_every_s: float = 60.0
    poll_every_s: float = 10.0

    def backoff(self) -> Backoff:
        """Return the backoff of one connection."""
        return Backoff(self.first_retry_s, self.longest_retry_s, full_jitter=True)


class Inbox:
    """Bounded queue of messages between the connections and the consumer."""

    def __init__(self, stats: FeedStats, room: int = ROOM) -> None:
        self._stats = stats
        self._room = room
        self._messages: list[Message] = []
        self._some = asyncio.Event()
        self._free = asyncio.Event()
        self._free.set()

    @property
    def is_full(self) -> bool:
        """Return whether producers must wait for room."""
        return len(self._messages) >= self._room or self._stats.is_full

    def put(self, messages: Sequence[Message]) -> None:
        """Add messages. Call `free` afterwards if the inbox is full."""
        self._messages.extend(messages)
        self._some.set()

    async def free(self) -> None:
        """Wait until there is room."""
        while self.is_full:
            self._free.clear()
            await self._free.wait()

    async def take(self) -> list[Message]:
        """Return the queued messages, waiting at most 250 ms for the first one."""
        if not self._messages:
            self._some.clear()
            try:
                await asyncio.wait_for(self._some.wait(), _PATIENCE_S)
            except TimeoutError:
                return []
        else:
            await asyncio.sleep(0)  # the connections' turn
        taken, self._messages = self._messages[:BATCH], self._messages[BATCH:]
        self._free.set()
        return taken

    def woken(self) -> None:
        """Check for room again after the consumer has taken the dead letters."""
        self._free.set()


class DeferredSignals:
    """Defers signal handlers while an event loop runs in the main thread.

    A handler that raises, such as that of Ctrl-C or of a Dagster run, raises in whatever code the main
    thread executes. Python prints and discards the exception if that code is a finalizer, and asyncio or a
    C extension discards it if the code is a callback. The deferred signals are those that have Python
    handlers when the object is created.
    """

    def __init__(self) -> None:
        self._numbers = [number for number in signal.valid_signals() if callable(signal.getsignal(number))]

    def run(self, loop: asyncio.AbstractEventLoop, step: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine on the loop, then the handlers of the signals that arrived meanwhile.

        In other threads than the main one, in which Python runs no signal handlers, only run the coroutine.

        Raises:
            BaseException: raised by the coroutine or by a signal handler.
        """
        if threading.current_thread() is not threading.main_thread():
            return loop.run_until_complete(step())
        arrived: list[Arrival] = []
        try:
            with ExitStack() as restoring:
                for number in self._numbers:
                    _defer(number, arrived, restoring)
                return loop.run_until_complete(step())
        finally:
            for handler, caught, frame in arrived:
                handler(caught, frame)


def _defer(number: int, arrived: list[Arrival], restoring: ExitStack) -> None:
    handler = signal.getsignal(number)
    if callable(handler):
        restoring.callback(signal.signal, number, handler)
        signal.signal(number, lambda caught, frame: arrived.append((handler, caught, frame)))


class LiveFeed(ABC):
    """A feed whose connections run on its own event loop in the thread of the iterator's caller.

    Attributes:
        name: see `Feed`.
        exchange: see `Feed`.
        stats: see `Feed`; `stats.clock_ahead_ms` is the measured offset of the exchange's clock.
    """

    def __init__(self, name: str, exchange: str, timeouts: Timeouts | None = None) -> None:
        self.name = name
        self.exchange = exchange
        self.stats = FeedStats()
        self.timeouts = timeouts or Timeouts()

    @abstractmethod
    async def run(self, inbox: Inbox) -> None:
        """Put messages into the inbox until cancelled."""

    def messages(self, stop: threading.Event) -> Iterator[Sequence[Message]]:
        """See `Feed.messages`.

        Raises:
            FeedError: there is no connection for `give_up_after_s`, the exchange refuses all requests, or
                the calling thread already runs an event loop.
        """
        if _is_in_a_loop():
            raise FeedError(
                f"feed {self.name}: this thread runs an event loop already (asyncio code, or a notebook); "
                "run the feed in a thread of its own, e.g. `await asyncio.to_thread(run_feed, feed, client)`"
            )
        signals = DeferredSignals()
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(self._on_stray_error)
        try:
            inbox = Inbox(self.stats)
            work = loop.create_task(self.run(inbox))
            try:
                while not stop.is_set():
                    batch = signals.run(loop, inbox.take)
                    if work.done():
                        yield batch
                        work.result()
                        raise FeedError(f"feed {self.name}: its connections ended")
                    yield batch
                    inbox.woken()
            except BaseExceptionGroup as group:
                raise _interruption_in(group) from None
            finally:
                work.cancel()
                signals.run(loop, _end_tasks)
        finally:
            loop.close()

    def on_callback_error(self, error: Exception) -> None:
        """Log an error of an event-loop callback; the loop continues."""
        log.warning("feed %s: %s: %s", self.name, type(error).__name__, error)

    def _on_stray_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception) and "handle" in context:
            self.on_callback_error(error)
        else:
            log.debug("feed %s: %s", self.name, context.get("message"))


def _interruption_in(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the interruption wrapped in a task group's error, or the group itself."""
    errors: list[BaseException] = [group]
    while errors:
        error = errors.pop()
        if isinstance(error, BaseExceptionGroup):
            errors += error.exceptions
        elif not isinstance(error, (Exception, asyncio.CancelledError)):
            return error
    return group


def _is_in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _end_tasks() -> None:
    """Cancel all tasks of the running loop and wait for them."""
    loop = asyncio.get_running_loop()
    rest = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        _, late = await asyncio.wait(rest, timeout=_CLOSE_S)
        if late:
            log.warning("%d connection task(s) did not end within %s s", len(late), _CLOSE_S)
    await loop.shutdown_asyncgens()


async def together(*works: asyncio.Task[None]) -> None:
    """Run tasks until the first error, then cancel the others and raise it."""
    try:
        done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in works:
            task.cancel()
        await asyncio.gather(*works, return_exceptions=True)


def redacted(error: object, limit: int = 300) -> str:
    """Return the text of an error without the values of keys, signatures and tokens."""
    return _SECRET.sub(r"\1***", str(error) or type(error).__name__)[:limit]
