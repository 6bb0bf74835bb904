"""Provide helpers to tests, such as waiting for a condition."""

from __future__ import annotations

import fcntl
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from confluent_kafka import Message

T = TypeVar("T")

READY_TIMEOUT_S = 600.0
"""Timeout of the start of a broker, which takes seconds on a quiet machine."""


def wait_until(
    condition: Callable[[], T | None],
    timeout: float = 120.0,
    what: str = "the condition",
    pause_s: float = 0.02,
) -> T:
    """Return the first truthy result of `condition`, called at that pause; fail after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come true within {timeout} s; last: {result!r}")
        time.sleep(pause_s)


def typed(value: object, kind: type[T]) -> T:
    """Return the value, which must be of this type."""
    assert isinstance(value, kind), f"{value!r} is no {kind.__name__}"
    return value


def headers_of(record: Message) -> dict[str, bytes]:
    """Return the headers of a record, each of which must have bytes."""
    return {name: typed(value, bytes) for name, value in typed(record.headers() or [], list)}


def unique(name: str) -> str:
    """Return a topic or group name that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:10]}"


def restore_sigint() -> None:
    """Undo an inherited "ignore" of Ctrl-C, for this process and for the children it starts from now on.

    A shell without job control starts background jobs with SIGINT ignored, and children inherit that. A
    signal with a handler is reset to its default in a child instead.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def first_alone(file: Path) -> Iterator[None]:
    """Run the block alone in the first process that comes with this file, then in all others at once.

    What the first one stores, such as compiled modules, the others find.
    """
    with file.open("r+b") as opened:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            fcntl.flock(opened, fcntl.LOCK_SH)
        yield
