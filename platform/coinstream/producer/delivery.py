"""Record which messages failed, so that they can be sent again in order.

librdkafka keeps the payload of every message until it is acknowledged, and returns it with the error when
it is not. So the platform keeps no copies. Each message has a delivery callback, which knows the order and
the record time of its messages; `delivery_kinds` has one class for each way of sending.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, NamedTuple

from confluent_kafka import KafkaError
from confluent_kafka import Message as KafkaMessage

from coinstream.errors import FatalProducerError, ProduceError
from coinstream.kafka import produce_error

_CURABLE: Final = {
    KafkaError._INCONSISTENT,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
}
"""Errors that a new producer, or a record time within the broker's bounds, resolves."""

_RETURNED: Final = {
    KafkaError._FATAL,
    KafkaError._GAPLESS_GUARANTEE,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._PURGE_QUEUE,
    KafkaError._STATE,
}
"""Errors of messages that were not sent, since the producer failed over another message."""

_RETRIABLE: Final = _CURABLE | _RETURNED

REFUSED_TOGETHER: Final = {
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
}
"""Errors of a whole batch that one message may have caused: each message is sent once more, alone."""


class RecordMetadata(NamedTuple):
    """Position of an acknowledged message. `latency_ms` is from `send` to the acknowledgement."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    latency_ms: float


class DeliveryReports:
    """Collect the delivery reports of one pooled producer until it handles them after a poll.

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
        """The position of the message among those of its delivery."""
        if self._position is None:
            self._position = self.delivery.position(self.record)
        return self._position

    @property
    def order(self) -> tuple[int, int]:
        """A sort key: the order in which the messages were first sent."""
        return self.delivery.sequence, self.position

    @property
    def record_time_ms(self) -> int:
        """The record time with which the message was sent; a failed record itself has lost it."""
        return self.delivery.record_time_ms(self.position)

    @property
    def refusals(self) -> int:
        """How often the message itself was refused, and not returned because another one was."""
        return self.delivery.refusals + (self.error.code() not in _RETURNED)

    @property
    def is_time_refused(self) -> bool:
        """Whether the broker refused the batch for a record time."""
        return self.error.code() == KafkaError.INVALID_TIMESTAMP

    @property
    def alone(self) -> bool:
        """Whether the broker refused the batch and this message has not been sent without the others yet."""
        return self.error.code() in REFUSED_TOGETHER and not self.delivery.alone

    def retriable(self, timeout_s: float, retries: int) -> bool:
        """Tell whether to send the message again, within the timeout and the number of retries."""
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
    """The delivery callback of one or more messages, called by the thread that polls.

    It only records failures: polling or producing inside a delivery callback is not allowed.

    Attributes:
        sequence: orders the deliveries of a client.
        attempts: how often the messages were sent before.
        refusals: how often the messages themselves were refused before.
        alone: whether the message is sent without others after the broker refused its batch.
        since: when the messages were first sent, on the clock of `time.perf_counter`.
    """

    __slots__ = ("alone", "attempts", "refusals", "sequence", "since")

    def __init__(self, sequence: int, attempts: int = 0, refusals: int = 0, *, alone: bool = False) -> None:
        self.sequence = sequence
        self.attempts = attempts
        self.refusals = refusals
        self.alone = alone
        self.since = time.perf_counter()

    def position(self, record: KafkaMessage) -> int:
        """Return the position of a failed record among the messages of this delivery."""
        return 0

    def record_time_ms(self, position: int) -> int:
        """Return the record time with which the message at a position was sent."""
        raise NotImplementedError

    def fail(self, error: ProduceError, report: Callable[[ProduceError], None]) -> None:
        """Report that a message is given up."""
        report(error)


def as_bytes(key: str | bytes | None) -> bytes | None:
    """Return the key of a record as bytes."""
    return key.encode() if isinstance(key, str) else key
