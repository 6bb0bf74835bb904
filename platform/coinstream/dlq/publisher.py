"""Create dead-letter topics, and produce dead letters until the cluster acknowledges them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, Protocol

from confluent_kafka import KafkaException

from coinstream.dlq.entry import DeadLetter, dead_letter_headers, smaller
from coinstream.errors import CoinstreamError, ConsumeError, MessageTooLargeError, TopicError
from coinstream.kafka import admin_client, broker_error
from coinstream.kafka.records import Headers
from coinstream.settings import BrokerSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import (
    CORE_TOPICS,
    DEAD_LETTER_SUFFIX,
    TopicSpec,
    dead_letter_topic,
    exchange_topic,
)

log = logging.getLogger("coinstream.dlq")

_FOREIGN_TOPIC: Final = CORE_TOPICS[0]
"""Spec whose retention applies to dead letters of topics that are not in the catalogue."""
_DAY_MS: Final = 86_400_000
REPLAY_LOG: Final = TopicSpec(
    name="coinstream-dlq-replays",
    partitions=1,
    retention_ms=400 * _DAY_MS,
    retention_bytes=-1,
    segment_ms=7 * _DAY_MS,
    segment_bytes=16 * 1_048_576,
)
"""Topic of the replay log, with a longer retention than any dead-letter topic."""


def dlq_topic(topic: str) -> str:
    """Return the name of the dead-letter topic of a topic."""
    return topic + DEAD_LETTER_SUFFIX


def topics_with_dead_letters(brokers: BrokerSettings) -> list[str]:
    """Return the topics that have a dead-letter topic.

    Raises:
        BrokerError: the cluster does not answer.
    """
    admin = admin_client(brokers)
    try:
        found = admin.list_topics(timeout=brokers.request_timeout_ms / 1000).topics
    except KafkaException as failed:
        raise broker_error(failed.args[0], "listing topics", brokers.brokers) from None
    return sorted(
        name.removesuffix(DEAD_LETTER_SUFFIX) for name in found if name.endswith(DEAD_LETTER_SUFFIX)
    )


def ensure_dlq_topic(topic: str, brokers: BrokerSettings) -> None:
    """Create the dead-letter topic of a topic if it does not exist.

    Raises:
        TopicError: the topic cannot be created.
        BrokerError: the cluster does not answer.
    """
    need = f"{topic} needs the dead-letter topic {dlq_topic(topic)}"
    _ensure(dlq_spec(topic), brokers, need, "Create it with `coinstream topics apply`")


def ensure_replay_log(brokers: BrokerSettings) -> None:
    """Create the topic of the replay log if it does not exist.

    Raises:
        TopicError: the topic cannot be created.
        BrokerError: the cluster does not answer.
    """
    need = f"a replay is recorded in {REPLAY_LOG.name}"
    _ensure(REPLAY_LOG, brokers, need, "Create it with one partition")


def dlq_spec(topic: str) -> TopicSpec:
    """Return the spec of the dead-letter topic of a topic."""
    for spec in CORE_TOPICS:
        if topic == spec.name:
            return dead_letter_topic(spec)
        if topic.startswith(spec.name + "-"):
            return dead_letter_topic(exchange_topic(spec, topic.removeprefix(spec.name + "-")))
    return dead_letter_topic(_FOREIGN_TOPIC.model_copy(update={"name": topic}))


def _ensure(spec: TopicSpec, brokers: BrokerSettings, need: str, remedy: str) -> None:
    provisioner = Provisioner(brokers)
    try:
        if any(existing.name == spec.name for existing in provisioner.actual()):
            return
        provisioner.apply(provisioner.plan([spec]))
    except TopicError as error:
        raise TopicError(
            f"{need}, which cannot be created: {error}. {remedy}, or grant this user CREATE on it."
        ) from None
    log.info("created %s", spec.name)


RESEND_DELAY_S: Final = 1.0
"""Delay before an unacknowledged dead letter is sent again, in seconds."""


class Send(Protocol):
    """`RedpandaClient.send`."""

    def __call__(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> Future[Any]:
        """Send one message; the future completes with its acknowledgement."""
        ...


@dataclass(frozen=True)
class _Pending:
    dead_letter: DeadLetter
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

    def send_to_dlq(self, dead_letter: DeadLetter, on_acknowledged: Callable[[], None]) -> None:
        """Send a dead letter, and call `on_acknowledged` in another thread when it is acknowledged.

        Raises:
            TopicError, BrokerError: the dead-letter topic does not exist and cannot be created.
        """
        self._ensure_topic(dead_letter.topic)
        self._start(_Pending(dead_letter, on_acknowledged))

    def resend(self) -> None:
        """Send unacknowledged dead letters again after `RESEND_DELAY_S`."""
        now = time.monotonic()
        with self._lock:
            due = [pending for at, pending in self._to_resend if at <= now]
            self._to_resend = [(at, pending) for at, pending in self._to_resend if at > now]
        for pending in due:
            self._start(pending)

    def _start(self, pending: _Pending) -> None:
        dead_letter = pending.dead_letter
        try:
            future = self._send(
                dlq_topic(dead_letter.topic),
                dead_letter.key,
                dead_letter.value,
                dead_letter_headers(dead_letter),
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
        dead_letter, delay_s = pending.dead_letter, RESEND_DELAY_S
        what = f"dead letter of {dead_letter.topic}[{dead_letter.partition}] offset {dead_letter.offset}"
        if isinstance(error, MessageTooLargeError):
            reduced = smaller(dead_letter)
            if reduced is None:
                self._on_fatal(
                    ConsumeError(f"{what} does not fit into {dlq_topic(dead_letter.topic)}: {error}")
                )
                return
            log.warning(
                "%s does not fit into %s and is truncated: %s", what, dlq_topic(dead_letter.topic), error
            )
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
