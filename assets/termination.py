"""Stop work gracefully when Dagster terminates its run."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from dagster import DagsterExecutionInterruptedError

T = TypeVar("T")

END_S: Final = 60.0
"""Timeout of a graceful stop in seconds, shorter than `cancel_timeout_seconds` in dagster.yaml."""


def run_interruptibly(work: Callable[[threading.Event], T]) -> T:
    """Run work in a separate thread, and set its event when the run is terminated.

    Dagster terminates a run by a signal that raises an exception at any point of the main thread: within a
    batch, a flush or a callback. The main thread therefore only waits, and the work checks the event.

    Raises:
        DagsterExecutionInterruptedError: the run was terminated and the work has stopped.
        TimeoutError: the run was terminated and the work did not stop within `END_S`.
        BaseException: any error of the work.
    """
    stop = threading.Event()
    pool = ThreadPoolExecutor(1, thread_name_prefix="feed")
    try:
        future = pool.submit(work, stop)
        try:
            return future.result()
        except DagsterExecutionInterruptedError:
            stop.set()
            future.result(END_S)
            raise
    finally:
        stop.set()
        pool.shutdown(wait=False)
