"""Produce as soon as the send buffer of librdkafka has room. All producing code waits in this loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

PAUSE_S: Final = 0.01
"""Longest wait for delivery reports between two attempts, in seconds."""


def produce_when_room(
    produce: Callable[[], object], poll: Callable[[float], object], timeout_s: float | None = None
) -> None:
    """Call `produce`; while it raises `BufferError`, call `poll`, which makes room, and try again.

    Args:
        produce: hands one message to librdkafka.
        poll: serves delivery reports for at most the seconds given; it may raise to stop waiting.
        timeout_s: longest wait; None: until there is room.

    Raises:
        BufferError: there was no room within the timeout.
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
