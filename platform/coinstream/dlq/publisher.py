"""Where dead letters leave the group: sent until the cluster has acknowledged them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol

from coinstream.dlq.entry import DeadLetter, dead_letter_headers, dlq_topic
from coinstream.errors import CoinstreamError, ConsumeError, MessageTooLargeError, TopicError
from coinstream.serialization import Headers
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import CORE_TOPICS, TopicSpec, dead_letter_topic, exchange_topic

log = logging.getLogger("coinstream.consumer")

RESEND_DELAY_S: Final = 1.0
"""Pause before a dead letter that was not acknowledged is sent again."""
_FOREIGN_TOPIC: Final = CORE_TOPICS[0]
"""Dead letters of topics that are not in the catalogue are kept as those of this one."""


class Send(Protocol):
    """`RedpandaClient.send`."""

    def __call__(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Future[Any]:
        """Send one message; the future ends with its acknowledgement."""
        ...


@dataclass(frozen=True)
class _PendingDeadLetter:
    letter: DeadLetter
    on_acknowledged: Callable[[], None]


class DeadLetterPublisher:
    """Sends dead letters. A letter is on_acknowledged when the cluster has it, and sent again until then.

    Attributes:
        acknowledged: letters that the cluster has.
    """

    def __init__(self, send: Send, brokers: BrokerSettings, on_fatal: Callable[[CoinstreamError], None]):
        self._send = send
        self._brokers = brokers
        self._on_fatal = on_fatal
        self._lock = threading.Lock()
        self._to_resend: list[tuple[float, _PendingDeadLetter]] = []
        self._creating = threading.Lock()
        self._known: set[str] = set()
        self.acknowledged = 0

    def send_to_dlq(self, letter: DeadLetter, on_acknowledged: Callable[[], None]) -> None:
        """Send a letter; `on_acknowledged` is called when the cluster has it, from another thread.

        Raises:
            TopicError, BrokerError: its topic does not exist and cannot be created.
        """
        self._ensure(letter)
        self._send_pending(_PendingDeadLetter(letter, on_acknowledged))

    def resend(self) -> None:
        """Send what was not acknowledged and has waited long enough."""
        now = time.monotonic()
        with self._lock:
            due = [pending for at, pending in self._to_resend if at <= now]
            self._to_resend = [(at, pending) for at, pending in self._to_resend if at > now]
        for pending in due:
            self._send_pending(pending)

    def _send_pending(self, pending: _PendingDeadLetter) -> None:
        letter = pending.letter
        try:
            future = self._send(
                dlq_topic(letter.topic), letter.key, letter.value, dead_letter_headers(letter)
            )
        except CoinstreamError as error:
            self._on_failure(pending, error)
        else:
            future.add_done_callback(lambda done: self._on_delivery(pending, done))

    def _on_delivery(self, pending: _PendingDeadLetter, done: Future[Any]) -> None:
        error = done.exception()
        if error is not None:
            self._on_failure(pending, error)
            return
        with self._lock:
            self.acknowledged += 1
        pending.on_acknowledged()

    def _on_failure(self, pending: _PendingDeadLetter, error: BaseException) -> None:
        letter = pending.letter
        where = f"dead letter of {letter.topic}[{letter.partition}] offset {letter.offset}"
        if isinstance(error, MessageTooLargeError):
            self._on_fatal(ConsumeError(f"{where} does not fit into {dlq_topic(letter.topic)}: {error}"))
            return
        log.warning("%s is sent again: %s", where, error)
        with self._lock:
            self._to_resend.append((time.monotonic() + RESEND_DELAY_S, pending))

    def _ensure(self, letter: DeadLetter) -> None:
        topic = dlq_topic(letter.topic)
        if topic in self._known:
            return
        with self._creating:
            if topic not in self._known:
                ensure_dlq_topic(letter.topic, self._brokers)
                self._known.add(topic)


def ensure_dlq_topic(topic: str, brokers: BrokerSettings) -> None:
    """Create the dead-letter topic of a topic, if there is none.

    Raises:
        TopicError, BrokerError: it cannot be created.
    """
    provisioner = Provisioner(brokers)
    wanted = dlq_topic(topic)
    if any(existing.name == wanted for existing in provisioner.actual()):
        return
    try:
        provisioner.apply(provisioner.plan([_dlq_spec(topic)]))
    except TopicError as error:
        raise TopicError(
            f"{topic} needs the dead-letter topic {wanted}, which cannot be created: {error}. "
            "Create it with `coinstream topics apply`, or give this user the right to."
        ) from None
    log.info("created %s", wanted)


def _dlq_spec(topic: str) -> TopicSpec:
    for spec in CORE_TOPICS:
        if topic == spec.name:
            return dead_letter_topic(spec)
        if topic.startswith(spec.name + "-"):
            return dead_letter_topic(exchange_topic(spec, topic.removeprefix(spec.name + "-")))
    return dead_letter_topic(_FOREIGN_TOPIC.model_copy(update={"name": topic}))
