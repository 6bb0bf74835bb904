"""What happens to a message after it was handed to librdkafka: acknowledged, sent again, or reported.

librdkafka keeps the payload of every message until it is acknowledged, and hands it back with the
error when it is not. So the platform keeps no copies: each call of `publish` gives all its messages
one `Chunk` as delivery callback, which is called for failures only and which knows their order.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from confluent_kafka import KafkaError
from confluent_kafka import Message as KafkaMessage

from coinstream.errors import CoinstreamError, FatalProducerError, ProduceError
from coinstream.kafka import produce_error
from coinstream.messages import Message
from coinstream.monitoring.metrics import METRICS, Metrics
from coinstream.producer.delivery_counter import Receipt, Receipts, Target

if TYPE_CHECKING:
    from coinstream.producer.pooled_producer import Lane

Encode = Callable[[Message], tuple[bytes, list[tuple[str, bytes]] | None]]

_MENDABLE: Final = {
    KafkaError._FATAL,
    KafkaError._GAPLESS_GUARANTEE,
    KafkaError._INCONSISTENT,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._PURGE_QUEUE,
    KafkaError._STATE,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.UNKNOWN_PRODUCER_ID,
}
"""Errors of the producer, not of the message: a new producer can send it."""

REFUSED_TOGETHER: Final = {
    KafkaError.INVALID_MSG,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
}
"""Errors of a batch, which may be the fault of one message in it: each is sent once more, alone."""


class RecordMetadata(NamedTuple):
    """Where an acknowledged message lies. `latency_ms` is from `send` to the acknowledgement."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    latency_ms: float


@dataclass(eq=False, slots=True)
class Failure:
    """A message that was not acknowledged, and its place in the order of sending."""

    token: Token
    error: KafkaError
    record: KafkaMessage
    _order: tuple[int, int] | None = None

    @property
    def order(self) -> tuple[int, int]:
        """Sorts failures as their messages were first sent."""
        if self._order is None:
            self._order = self.token.sequence, self.token.position(self.record)
        return self._order

    def mendable(self, patience_s: float) -> bool:
        """Whether sending again through a new producer may help, and the message may still wait."""
        may_help = self.error.code() in _MENDABLE or self.alone
        return may_help and time.perf_counter() - self.token.since < patience_s

    @property
    def alone(self) -> bool:
        """Whether the broker refused the batch, and this message has not been tried without the others."""
        return self.error.code() in REFUSED_TOGETHER and not self.token.alone

    def as_error(self) -> ProduceError:
        """The failure in our words."""
        key = self.record.key()
        found = produce_error(self.error, self.record.topic() or "", _as_bytes(key))
        if self.error.code() not in _MENDABLE:
            return found
        return FatalProducerError(
            f"{found} after {self.token.attempts} replacement(s) of the producer",
            topic=found.topic,
            key=found.key,
            error_type=found.error_type,
        )


class Token:
    """The delivery callback of one or more messages. Called by whichever thread polls.

    It only takes notes: polling or producing inside a delivery callback is not allowed.
    """

    __slots__ = ("alone", "attempts", "sequence", "since")

    def __init__(self, sequence: int, attempts: int = 0, *, alone: bool = False) -> None:
        self.sequence = sequence
        self.attempts = attempts
        self.alone = alone
        self.since = time.perf_counter()

    def position(self, record: KafkaMessage) -> int:
        """The place of a record among those that share this token."""
        return 0

    def fail(self, error: ProduceError, ledger: Ledger) -> None:
        """Tell whoever waits that the message is given up."""
        ledger.latch(error)


class Chunk(Token):
    """The messages of one `publish`. Lives until the last of them is acknowledged, and is counted then.

    Attributes:
        targets: where each message went that librdkafka took.
    """

    __slots__ = ("_encode", "_find", "_lost", "_messages", "_places", "_receipts", "targets")

    def __init__(
        self,
        sequence: int,
        messages: Sequence[Message],
        encode: Encode,
        find: Callable[[str, bytes], Lane],
        receipts: Receipts,
    ) -> None:
        super().__init__(sequence)
        self.targets: list[Target] = []
        self._messages = messages
        self._places: dict[bytes, list[int]] | None = None
        self._encode = encode
        self._find = find
        self._receipts = receipts
        self._lost: list[Target] = []

    def __del__(self) -> None:
        """Nobody waits for any of the messages any more."""
        latency = (time.perf_counter() - self.since) * 1000
        # Only noted here: this runs wherever the last reference goes, maybe while a lock is held.
        self._receipts.new.append(Receipt(latency, self.targets, self._lost))

    def __call__(self, error: KafkaError | None, record: KafkaMessage) -> None:
        """Note a failure; success needs nothing."""
        if error is not None:
            lane = self._find(record.topic() or "", _as_bytes(record.key()) or b"")
            lane.failed.append(Failure(self, error, record))

    def position(self, record: KafkaMessage) -> int:
        """Where the message stands in the chunk. To be asked once for each failure, the last one first."""
        if self._places is None:
            # Only failures ask, so the payloads are written again then: keeping count would cost all.
            # Lanes fail in threads of their own: what another one sees must be complete.
            places: dict[bytes, list[int]] = {}
            for at, message in enumerate(self._messages):
                places.setdefault(self._encode(message)[0], []).append(at)
            self._places = places
        # Of equal payloads (which have one key, whose messages fail in order) the last ones failed.
        equal = self._places.get(record.value() or b"")
        return equal.pop() if equal else len(self._messages)

    def fail(self, error: ProduceError, ledger: Ledger) -> None:
        """Take the message off the account, and keep the error for the next call."""
        for target in self.targets:
            if target.topic == error.topic and target.key == error.key:
                self._lost.append(target)
                break
        super().fail(error, ledger)


class Single(Token):
    """One message that is sent again after a failure."""

    __slots__ = ("_at", "_lane", "_original")

    def __init__(self, lane: Lane, failure: Failure) -> None:
        before = failure.token
        super().__init__(before.sequence, before.attempts + 1, alone=before.alone or failure.alone)
        self.since = before.since
        self._lane = lane
        self._original: Token = before._original if isinstance(before, Single) else before
        self._at = failure.order[1]

    def __call__(self, error: KafkaError | None, record: KafkaMessage) -> None:
        """Note a failure; pass a success on to who asked for it."""
        if error is not None:
            self._lane.failed.append(Failure(self, error, record))
        elif isinstance(self._original, Sending):
            self._original(None, record)

    def position(self, record: KafkaMessage) -> int:
        """The place that the message had at first."""
        return self._at

    def fail(self, error: ProduceError, ledger: Ledger) -> None:
        """Tell whoever waited for the first attempt."""
        self._original.fail(error, ledger)


class Sending(Token):
    """One message of `send`, whose caller holds a future."""

    __slots__ = ("_lane", "future")

    def __init__(self, sequence: int, lane: Lane) -> None:
        super().__init__(sequence)
        self._lane = lane
        self.future: Future[RecordMetadata] = Future()

    def __call__(self, error: KafkaError | None, record: KafkaMessage) -> None:
        """Note the outcome. The future is completed after polling, since its callbacks may do anything."""
        if error is not None:
            self._lane.failed.append(Failure(self, error, record))
        else:
            latency = (time.perf_counter() - self.since) * 1000
            self._lane.acknowledged.append((self.future, _metadata(record, latency)))

    def fail(self, error: ProduceError, ledger: Ledger) -> None:
        """Give the error to the future."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


def _metadata(record: KafkaMessage, latency_ms: float) -> RecordMetadata:
    return RecordMetadata(
        record.topic() or "", record.partition() or 0, record.offset() or 0, record.timestamp()[1], latency_ms
    )


class Ledger:
    """Shared by all producers of a client: the order of calls, and the first error that nobody has seen."""

    def __init__(self, metrics: Metrics = METRICS) -> None:
        self.sequence = itertools.count()
        self.metrics = metrics
        self.receipts = Receipts(metrics)
        self._lock = threading.Lock()
        self._first: CoinstreamError | None = None
        self._more = 0

    def give_up(self, failure: Failure) -> None:
        """Report a message that will not be sent again."""
        error = failure.as_error()
        self.count(error)
        failure.token.fail(error, self)

    def count(self, error: ProduceError) -> None:
        """Count an error in the metrics."""
        self.metrics.producer_errors.labels(error.topic, error.error_type).inc()

    def latch(self, error: CoinstreamError) -> None:
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


def _as_bytes(key: str | bytes | None) -> bytes | None:
    return key.encode() if isinstance(key, str) else key
