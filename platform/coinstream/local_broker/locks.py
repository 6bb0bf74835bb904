"""Locks between processes."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coinstream.errors import LocalBrokerError

_RETRY_S = 0.05


@contextmanager
def exclusive_lock(path: Path, timeout_s: float, holder: str) -> Iterator[None]:
    """Hold the lock of `path`. The kernel frees it when the process dies, whatever the cause.

    Args:
        path: the file that stands for the lock; created when absent, and never removed.
        timeout_s: how long to wait for the lock, in seconds.
        holder: who holds the lock when it is taken, for the message.

    Raises:
        LocalBrokerError: the lock was not free in time.
    """
    deadline = time.monotonic() + timeout_s
    with path.open("a") as file:
        while not _try_lock(file.fileno()):
            if time.monotonic() > deadline:
                raise LocalBrokerError(f"{holder}, for longer than {timeout_s:g} s; its lock is {path}")
            time.sleep(_RETRY_S)
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
