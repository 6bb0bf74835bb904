"""Retry: exponential backoff between attempts, and the loop that produces when the send buffer has room."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    stop_after_delay,
    wait_exponential,
    wait_random_exponential,
)

PAUSE_S: Final = 0.01
"""Maximum time to wait for delivery reports between two attempts, in seconds."""


class Backoff:
    """Delays that double with each consecutive failure, up to a maximum.

    Args:
        first_s: delay after the first failure, in seconds.
        longest_s: maximum delay, in seconds.
        full_jitter: draw each delay at random between zero and its bound, so that clients that failed
            together do not come back together.
    """

    def __init__(self, first_s: float, longest_s: float, *, full_jitter: bool = False) -> None:
        kind = wait_random_exponential if full_jitter else wait_exponential
        self._wait = kind(multiplier=first_s, max=longest_s)
        self._failures = 0

    def after_s(self, failures: int) -> float:
        """Return the delay after a number of consecutive failures, at least one, in seconds."""
        state = RetryCallState(Retrying(), None, (), {})
        state.attempt_number = failures
        return float(self._wait(state))

    def next_s(self) -> float:
        """Count a failure, and return the delay after it in seconds."""
        self._failures += 1
        return self.after_s(self._failures)

    def reset(self) -> None:
        """Forget the failures after a success."""
        self._failures = 0


def produce_when_room(
    produce: Callable[[], object], poll: Callable[[float], object], timeout_s: float | None = None
) -> None:
    """Call `produce`; while it raises `BufferError`, call `poll` to make room and try again.

    All producing code waits for librdkafka's send buffer in this loop.

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
        else:
            return
        # Not in the handler: confluent-kafka raises errors without releasing the exception that is being
        # handled, which keeps the variables of its frames alive, with the deliveries in them (2.16).
        poll(PAUSE_S)


NO_LEADER: Final = frozenset({KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE})
"""Codes with which a partition refuses requests while its leader is changing."""


def while_refused(codes: Collection[int], timeout_s: float) -> Retrying:
    """Return a caller that repeats a request while the cluster refuses it with one of the codes.

    After `timeout_s` seconds, and for every other error, the caller raises the error of the request.
    """

    def is_temporary(error: BaseException) -> bool:
        return isinstance(error, KafkaException) and error.args[0].code() in codes

    return Retrying(
        retry=retry_if_exception(is_temporary),
        wait=wait_exponential(0.1, max=1),
        stop=stop_after_delay(timeout_s),
        reraise=True,
    )
