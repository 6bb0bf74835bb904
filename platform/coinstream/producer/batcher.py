"""Batches for messages that trickle in one by one, so that each costs an append and not a call.

librdkafka batches what goes to one partition, timed from its oldest message; this is one step earlier: it
spares callers that have one message at a time (a websocket) the cost of a `publish` for each. Sizes and
latencies are those of specification section 7.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Self

from coinstream.errors import CoinstreamError
from coinstream.messages import Message

_WEIGHT: Final = 0.3
"""Weight of the newest batch in the rate that is remembered."""


@dataclass(frozen=True)
class BatchLimits:
    """What flushes a batch: so many messages, or the age of its oldest one in milliseconds."""

    messages: int
    latency_ms: float


_BY_WORD: Final = (
    ("level1", BatchLimits(1000, 10)),
    ("prices", BatchLimits(500, 50)),
    ("analytics", BatchLimits(100, 1000)),
)
_OTHERWISE: Final = BatchLimits(200, 100)


def limits_for(topic: str) -> BatchLimits:
    """The limits of a topic, by a word in its name."""
    return next((limits for word, limits in _BY_WORD if word in topic), _OTHERWISE)


class AdaptiveSize:
    """How many messages make a batch: those that arrive within the latency, between 1 and the limit.

    A batch of that size goes out just before its time is up, so that at a steady rate the size flushes and
    not the timer; a burst fills batches up to the limit, a trickle is not held back for company.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._rate = 0.0
        self.messages = limits.messages

    def observe(self, messages: int, seconds: float) -> None:
        """Learn from a batch: so many messages arrived over so many seconds."""
        if seconds <= 0:
            self.messages = self._limits.messages
            return
        rate = messages / seconds
        self._rate = rate if not self._rate else _WEIGHT * rate + (1 - _WEIGHT) * self._rate
        wanted = min(self._rate * self._limits.latency_ms / 1000, self._limits.messages)
        self.messages = max(1, round(wanted))


class Batcher:
    """Collects messages for one topic and hands them on in batches, in the order of `add`. Thread-safe.

    A batch goes out when it is full (in the thread of the caller, which the client's backpressure then holds)
    or when its oldest message has waited for the latency (in a thread of the batcher's own). What fails
    there is raised by the next `add`, `flush` or `close`.
    """

    def __init__(self, topic: str, publish: Callable[[Sequence[Message]], int], limits: BatchLimits) -> None:
        self.topic = topic
        self.limits = limits
        self.size = AdaptiveSize(limits)
        self._publish = publish
        self._latency_s = limits.latency_ms / 1000
        self._waiting: list[Message] = []
        self._oldest = 0.0
        self._error: CoinstreamError | None = None
        self._changed = threading.Condition(threading.RLock())
        self._closed = False
        self._timer = threading.Thread(target=self._watch, name=f"coinstream-batch-{topic}", daemon=True)
        self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Messages that wait for company."""
        return len(self._waiting)

    def add(self, message: Message) -> None:
        """Take a message; the batch it completes is sent before this returns.

        Raises:
            CoinstreamError: what `publish` raises, also of a batch that was sent by the timer.
            ValueError: the batcher is closed.
        """
        with self._changed:
            if self._closed:
                raise ValueError(f"the batcher of {self.topic} is closed")
            self._raise_error()
            if not self._waiting:
                self._oldest = time.monotonic()
                self._changed.notify()
            self._waiting.append(message)
            if len(self._waiting) >= self.size.messages:
                self._send()

    def flush(self) -> None:
        """Hand on what waits. The client's `flush` then waits for the acknowledgements.

        Raises:
            CoinstreamError: as `add`.
        """
        with self._changed:
            self._raise_error()
            self._send()

    def close(self) -> None:
        """Hand on what waits and stop. May be called twice.

        Raises:
            CoinstreamError: as `add`.
        """
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._timer.join()
        self.flush()

    def _send(self) -> None:
        if not self._waiting:
            return
        batch, self._waiting = self._waiting, []
        self.size.observe(len(batch), time.monotonic() - self._oldest)
        # Under the lock, so that batches leave in order.
        self._publish(batch)

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                if not self._waiting:
                    self._changed.wait()
                    continue
                left = self._oldest + self._latency_s - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                try:
                    self._send()
                except CoinstreamError as error:
                    self._error = error
