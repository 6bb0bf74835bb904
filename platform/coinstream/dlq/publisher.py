"""Produce dead letters, with retries until the cluster acknowledges them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol

from coinstream.dlq.entry import DeadLetter, dead_letter_headers, smaller
from coinstream.dlq.topics import dlq_topic, ensure_dlq_topic
from coinstream.errors import CoinstreamError, ConsumeError, MessageTooLargeError
from coinstream.records import Headers
from coinstream.settings import BrokerSettings

log = logging.getLogger("coinstream.dlq")

RESEND_DELAY_S: Final = 1.0
"""Delay before an unacknowledged dead letter is sent again, in seconds."""


class Send(Protocol):
    """`RedpandaClient.send`."""

    def __call__(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Future[Any]:
        """Send one message; the future completes with its acknowledgement."""
        ...


@dataclass(frozen=True)
class _Pending:
    letter: DeadLetter
    on_acknowledged: Callable[[], None]


class DeadLetterPublisher:
    """Producer of dead letters that retries until the cluster acknowledges them.

    Attributes:
        acknowledged: number of acknowledged dead letters.
    """

    def __init__(
        self, send: Send, brokers: BrokerSettings, on_fatal: Callable[[CoinstreamError], None]
    ) -> None:
        self._send = send
        self._brokers = brokers
        self._on_fatal = on_fatal
        self._lock = threading.Lock()
        self._to_resend: list[tuple[float, _Pending]] = []
        self._creating = threading.Lock()
        self._known: set[str] = set()
        self.acknowledged = 0

    def send_to_dlq(self, letter: DeadLetter, on_acknowledged: Callable[[], None]) -> None:
        """Send a dead letter, and call `on_acknowledged` in another thread when it is acknowledged.

        Raises:
            TopicError, BrokerError: the dead-letter topic does not exist and cannot be created.
        """
        self._ensure_topic(letter.topic)
        self._start(_Pending(letter, on_acknowledged))

    def resend(self) -> None:
        """Send unacknowledged dead letters again after `RESEND_DELAY_S`."""
        now = time.monotonic()
        with self._lock:
            due = [pending for at, pending in self._to_resend if at <= now]
            self._to_resend = [(at, pending) for at, pending in self._to_resend if at > now]
        for pending in due:
            self._start(pending)

    def _start(self, pending: _Pending) -> None:
        letter = pending.letter
        try:
            future = self._send(
                dlq_topic(letter.topic), letter.key, letter.value, dead_letter_headers(letter)
            )
        except CoinstreamError as error:
            self._on_failure(pending, error)
        else:
            future.add_done_callback(lambda done: self._on_delivery(pending, done))

    def _on_delivery(self, pending: _Pending, done: Future[Any]) -> None:
        error = done.exception()
        if error is not None:
            self._on_failure(pending, error)
            return
        with self._lock:
            self.acknowledged += 1
        pending.on_acknowledged()

    def _on_failure(self, pending: _Pending, error: BaseException) -> None:
        letter, delay_s = pending.letter, RESEND_DELAY_S
        what = f"dead letter of {letter.topic}[{letter.partition}] offset {letter.offset}"
        if isinstance(error, MessageTooLargeError):
            reduced = smaller(letter)
            if reduced is None:
                self._on_fatal(ConsumeError(f"{what} does not fit into {dlq_topic(letter.topic)}: {error}"))
                return
            log.warning("%s does not fit into %s and is truncated: %s", what, dlq_topic(letter.topic), error)
            pending, delay_s = _Pending(reduced, pending.on_acknowledged), 0.0
        else:
            log.warning("%s is sent again: %s", what, error)
        # Sent later, because this may be a delivery callback, which must not produce.
        with self._lock:
            self._to_resend.append((time.monotonic() + delay_s, pending))

    def _ensure_topic(self, topic: str) -> None:
        if topic in self._known:
            return
        with self._creating:
            if topic not in self._known:
                ensure_dlq_topic(topic, self._brokers)
                self._known.add(topic)
