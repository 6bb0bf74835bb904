"""Collect single messages into batches, so that each costs a list append instead of a call of `publish`.

librdkafka batches the messages of one partition. The batcher works one step earlier, for callers that receive
one message at a time, such as a websocket client.
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
"""Weight of the newest batch in the moving average of the rate."""


@dataclass(frozen=True)
class BatchLimits:
    """Limits of a batch: its number of messages, and the age of its oldest message in milliseconds."""

    messages: int
    latency_ms: float


_LIMITS_BY_WORD: Final = (
    ("level1", BatchLimits(1000, 10)),
    ("prices", BatchLimits(500, 50)),
    ("analytics", BatchLimits(100, 1000)),
)
_DEFAULT_LIMITS: Final = BatchLimits(200, 100)


def limits_for(topic: str) -> BatchLimits:
    """Return the limits of a topic, chosen by a word in its name."""
    return next((limits for word, limits in _LIMITS_BY_WORD if word in topic), _DEFAULT_LIMITS)


class AdaptiveSize:
    """Adapt the batch size to the rate: the messages that arrive within the latency, from 1 to the limit.

    At a steady rate a batch is complete just before its oldest message reaches the latency limit. At high
    rates batches grow up to the size limit; at low rates single messages are sent without delay.
    """

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._rate = 0.0
        self.messages = limits.messages

    def observe(self, messages: int, seconds: float) -> None:
        """Update the size from a batch: its number of messages and the seconds in which they arrived."""
        if seconds <= 0:
            self.messages = self._limits.messages
            return
        rate = messages / seconds
        self._rate = rate if not self._rate else _WEIGHT * rate + (1 - _WEIGHT) * self._rate
        wanted = min(self._rate * self._limits.latency_ms / 1000, self._limits.messages)
        self.messages = max(1, round(wanted))


class Batcher:
    """Collect messages for one topic and publish them in batches, in the order of `add`. Thread-safe.

    A full batch is sent in the caller's thread, to which the client's backpressure applies. A batch whose
    oldest message reaches the latency limit is sent in the batcher's own thread; an error there is raised by
    the next `add`, `flush` or `close`.
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
        self._timer = threading.Thread(target=self._run_timer, name=f"coinstream-batch-{topic}", daemon=True)
        self._timer.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of messages that are not published yet."""
        return len(self._waiting)

    def add(self, message: Message) -> None:
        """Add a message. If it completes a batch, the batch is sent before this returns.

        Raises:
            CoinstreamError: an error of `publish`, also for a batch that the timer sent.
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
        """Publish the waiting messages. The client's `flush` then waits for the acknowledgements.

        Raises:
            CoinstreamError: see `add`.
        """
        with self._changed:
            self._raise_error()
            self._send()

    def close(self) -> None:
        """Publish the waiting messages and stop. May be called twice.

        Raises:
            CoinstreamError: see `add`.
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

    def _run_timer(self) -> None:
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
