"""Run signal handlers between the steps of an event loop instead of inside them."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

Handler = Callable[[int, FrameType | None], Any]
Arrival = tuple[Handler, int, FrameType | None]


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
