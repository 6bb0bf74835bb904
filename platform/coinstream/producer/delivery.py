"""Track deliveries, and record failed messages so that they can be sent again in order.

librdkafka keeps each payload until it is acknowledged and returns it with an error otherwise, so the platform
keeps no copies. Each message has a delivery callback with the order and record time of its messages;
`delivery_kinds` has one class for each way of sending.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, NamedTuple

from confluent_kafka import KafkaError
from confluent_kafka import Message as KafkaMessage

from coinstream.errors import CoinstreamError, FatalProducerError, ProduceError
from coinstream.kafka import produce_error
from coinstream.monitoring.metrics import METRICS, Metrics
from coinstream.producer.delivery_counter import DeliveryCounter

_CURABLE: Final = {
    KafkaError._INCONSISTENT,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
}
"""Errors resolved by a new producer or by a record time within the broker's bounds."""

_RETURNED: Final = {
    KafkaError._FATAL,
    KafkaError._GAPLESS_GUARANTEE,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._PURGE_QUEUE,
    KafkaError._STATE,
}
"""Errors of messages that were not sent because another message failed the producer."""

_RETRIABLE: Final = _CURABLE | _RETURNED

REFUSED_TOGETHER: Final = {
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
}
"""Errors of a batch that a single message may have caused: each message is sent again alone."""


class RecordMetadata(NamedTuple):
    """Position of an acknowledged message. `latency_ms` is from `send` to the acknowledgement."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    latency_ms: float


class DeliveryReports:
    """Delivery reports of one pooled producer, collected until it handles them after a poll.

    Attributes:
        failed: messages that were not acknowledged.
        acknowledged: futures of `send` whose messages were acknowledged.
    """

    __slots__ = ("acknowledged", "failed")

    def __init__(self) -> None:
        self.failed: list[Failure] = []
        self.acknowledged: deque[tuple[Future[RecordMetadata], RecordMetadata]] = deque()

    def __len__(self) -> int:
        return len(self.failed) + len(self.acknowledged)

    def take_failed(self) -> list[Failure]:
        """Return the failures so far and start a new list."""
        failed, self.failed = self.failed, []
        return failed


@dataclass(eq=False, slots=True)
class Failure:
    """A message that was not acknowledged."""

    delivery: Delivery
    error: KafkaError
    record: KafkaMessage
    _position: int | None = None

    @property
    def position(self) -> int:
        """Return the index of the message in its delivery."""
        if self._position is None:
            self._position = self.delivery.position(self.record)
        return self._position

    @property
    def order(self) -> tuple[int, int]:
        """Return a sort key for the order in which messages were first sent."""
        return self.delivery.sequence, self.position

    @property
    def record_time_ms(self) -> int:
        """Return the record time of the message, which the failed record no longer has."""
        return self.delivery.record_time_ms(self.position)

    @property
    def refusals(self) -> int:
        """Return how often the message itself was refused, not counting failures of other messages."""
        return self.delivery.refusals + (self.error.code() not in _RETURNED)

    @property
    def is_time_refused(self) -> bool:
        """Return whether the broker refused the batch because of a record time."""
        return self.error.code() == KafkaError.INVALID_TIMESTAMP

    @property
    def alone(self) -> bool:
        """Return whether the broker refused the batch and the message must be sent alone."""
        return self.error.code() in REFUSED_TOGETHER and not self.delivery.alone

    def retriable(self, timeout_s: float, retries: int) -> bool:
        """Return whether to send the message again, within the timeout and the number of retries."""
        may_help = self.error.code() in _RETRIABLE or self.alone
        in_time = time.perf_counter() - self.delivery.since < timeout_s
        return may_help and in_time and self.refusals <= retries

    def as_error(self) -> ProduceError:
        """Return the exception that reports this failure."""
        key = self.record.key()
        found = produce_error(self.error, self.record.topic() or "", as_bytes(key))
        if self.error.code() not in _RETRIABLE or self.is_time_refused:
            return found
        return FatalProducerError(
            f"{found} after {self.delivery.attempts} replacement(s) of the producer",
            topic=found.topic,
            key=found.key,
            error_type=found.error_type,
        )


class Delivery:
    """Delivery callback of one or more messages, called by the polling thread.

    It only records failures: polling or producing inside a delivery callback is not allowed.

    Attributes:
        sequence: position in the order of the client's deliveries.
        attempts: number of earlier attempts to send the messages.
        refusals: number of earlier refusals of the messages themselves.
        alone: whether the message is sent alone after the broker refused its batch.
        since: time of the first attempt, from `time.perf_counter`.
    """

    __slots__ = ("alone", "attempts", "refusals", "sequence", "since")

    def __init__(self, sequence: int, attempts: int = 0, refusals: int = 0, *, alone: bool = False) -> None:
        self.sequence = sequence
        self.attempts = attempts
        self.refusals = refusals
        self.alone = alone
        self.since = time.perf_counter()

    def position(self, record: KafkaMessage) -> int:
        """Return the index of a failed record among the messages of this delivery."""
        return 0

    def record_time_ms(self, position: int) -> int:
        """Return the record time of the message at an index."""
        raise NotImplementedError

    def fail(self, error: ProduceError, report: Callable[[ProduceError], None]) -> None:
        """Report a message that will not be sent again."""
        report(error)


class DeliveryTracker:
    """Number, count and report the deliveries of all producers of a client. Thread-safe.

    Attributes:
        sequence: numbers the deliveries in the order of sending.
        counter: counts acknowledged messages.
    """

    def __init__(self, metrics: Metrics = METRICS) -> None:
        self.sequence = itertools.count()
        self.metrics = metrics
        self.counter = DeliveryCounter(metrics)
        self._lock = threading.Lock()
        self._first: CoinstreamError | None = None
        self._more = 0

    def give_up(self, failure: Failure) -> None:
        """Report a message that will not be sent again."""
        error = failure.as_error()
        self.count_error(error)
        failure.delivery.fail(error, self.keep)

    def count_error(self, error: ProduceError) -> None:
        """Count an error in the metrics."""
        self.metrics.producer_errors.labels(error.topic, error.error_type).inc()

    def keep(self, error: CoinstreamError) -> None:
        """Keep the first error until the next call raises it."""
        with self._lock:
            if self._first is None:
                self._first = error
            else:
                self._more += 1

    def raise_first(self) -> None:
        """Raise the kept error, once.

        Raises:
            ProduceError, AuthenticationError: an earlier message was not acknowledged.
        """
        if self._first is None:
            return
        with self._lock:
            error, more = self._first, self._more
            self._first, self._more = None, 0
        if error is not None:
            if more:
                error.add_note(f"{more} more message(s) failed after this one")
            raise error


def as_bytes(key: str | bytes | None) -> bytes | None:
    """Return the key of a record as bytes."""
    return key.encode() if isinstance(key, str) else key
