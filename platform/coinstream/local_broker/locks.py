"""Hold locks between processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from coinstream.errors import LocalBrokerError


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
    lock = FileLock(path, timeout=timeout_s)
    try:
        lock.acquire()
    except Timeout:
        raise LocalBrokerError(f"{holder}, for longer than {timeout_s:g} s; its lock is {path}") from None
    try:
        yield
    finally:
        lock.release()
