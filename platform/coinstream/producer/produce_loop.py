"""Produce as soon as librdkafka's send buffer has room. All producing code uses this loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PAUSE_S: Final = 0.01
"""Maximum time to wait for delivery reports between two attempts, in seconds."""


def produce_when_room(
    produce: Callable[[], object], poll: Callable[[float], object], timeout_s: float | None = None
) -> None:
    """Call `produce`; while it raises `BufferError`, call `poll` to make room and try again.

    Args:
        produce: passes one message to librdkafka.
        poll: serves delivery reports for at most the given seconds; it may raise to stop waiting.
        timeout_s: maximum time to wait; None waits until there is room.

    Raises:
        BufferError: the buffer had no room within the timeout.
    """
    deadline = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        try:
            produce()
        except BufferError:
            if deadline is not None and time.monotonic() >= deadline:
                raise
            poll(PAUSE_S)
        else:
            return
