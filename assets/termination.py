"""Ends work in order when Dagster terminates its run."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from dagster import DagsterExecutionInterruptedError

T = TypeVar("T")

END_S: Final = 60.0
"""How long the work may take to end. Shorter than `cancel_timeout_seconds` in dagster.yaml."""


def run_interruptibly(work: Callable[[threading.Event], T]) -> T:
    """Do the work in a thread of its own, and set its event when the run is terminated.

    Dagster terminates a run by an exception, which a signal raises wherever the main thread happens to be:
    in the middle of a batch, of a flush, of a callback. So the main thread only waits, and the work ends
    where it looks at the event.

    Raises:
        DagsterExecutionInterruptedError: the run was terminated, and the work has ended well.
        TimeoutError: the run was terminated, and the work did not end within `END_S`.
        BaseException: what the work raised.
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
