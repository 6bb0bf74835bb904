"""Define the delivery callbacks of `publish`, of `send`, and of messages sent again."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from confluent_kafka import KafkaError
from confluent_kafka import Message as KafkaMessage

from coinstream.errors import MessageError, ProduceError
from coinstream.kafka.records import Headers
from coinstream.messages import Message
from coinstream.producer.delivery import Delivery, DeliveryReports, Failure, RecordMetadata, as_bytes
from coinstream.producer.delivery_counter import DeliveryCounter, Unsettled
from coinstream.routing import record_time_ms

Encode = Callable[[Message], tuple[bytes, Headers | None]]
"""Function that returns the payload and the headers of a message as they were sent."""


class ChunkDelivery(Delivery):
    """Messages of one chunk of `publish`, counted when all of them are settled.

    Attributes:
        unsettled: adds the chunk to the counter when this delivery is released.
    """

    __slots__ = ("_encode", "_messages", "_positions", "_reports_of", "unsettled")

    def __init__(
        self,
        sequence: int,
        messages: Sequence[Message],
        encode: Encode,
        reports_of: Callable[[str, bytes], DeliveryReports],
        counter: DeliveryCounter,
    ) -> None:
        super().__init__(sequence)
        self.unsettled = Unsettled(counter.settled)
        self._messages = messages
        self._positions: dict[bytes, list[int]] | None = None
        self._encode = encode
        self._reports_of = reports_of

    def __call__(self, error: KafkaError | None, record: KafkaMessage) -> None:
        """Record a failure; a success needs no work."""
        if error is not None:
            reports = self._reports_of(record.topic() or "", as_bytes(record.key()) or b"")
            reports.failed.append(Failure(self, error, record))

    def position(self, record: KafkaMessage) -> int:
        """Return the index of a failed record. Call it once per failure, from the last to the first."""
        if self._positions is None:
            # The payloads are encoded again, since only failures need the positions. Producers fail in
            # threads of their own, so the table is complete before it is assigned.
            self._positions = self._encoded_positions()
        # Equal payloads have one key, and messages of one key fail in order: the last ones failed.
        equal = self._positions.get(record.value() or b"")
        return equal.pop() if equal else len(self._messages)

    def record_time_ms(self, position: int) -> int:
        """Return the record time of the message at a position."""
        return record_time_ms(self._messages[position]) if position < len(self._messages) else 0

    def fail(self, error: ProduceError, report: Callable[[ProduceError], None]) -> None:
        """Exclude the message from the count of acknowledged ones, and report the error to the next call."""
        for counted in self.unsettled.sent:
            if counted.holds(error.topic, error.key or b""):
                self.unsettled.lost.append(counted)
                break
        report(error)

    def _encoded_positions(self) -> dict[bytes, list[int]]:
        positions: dict[bytes, list[int]] = {}
        for at, message in enumerate(self._messages):
            try:
                payload = self._encode(message)[0]
            except MessageError:
                break  # `publish` stopped at this message
            positions.setdefault(payload, []).append(at)
        return positions


class SingleDelivery(Delivery):
    """One message of `send` with the future of its caller."""

    __slots__ = ("_record_time_ms", "_reports", "future")

    def __init__(self, sequence: int, reports: DeliveryReports, record_time_ms: int) -> None:
        super().__init__(sequence)
        self._reports = reports
        self._record_time_ms = record_time_ms
        self.future: Future[RecordMetadata] = Future()

    def __call__(self, error: KafkaError | None, record: KafkaMessage) -> None:
        """Record the result. The future is completed after the poll: its callbacks may call the client."""
        if error is not None:
            self._reports.failed.append(Failure(self, error, record))
        else:
            latency = (time.perf_counter() - self.since) * 1000
            self._reports.acknowledged.append((self.future, _metadata(record, latency)))

    def record_time_ms(self, position: int) -> int:
        """Return the record time of the message."""
        return self._record_time_ms

    def fail(self, error: ProduceError, report: Callable[[ProduceError], None]) -> None:
        """Set the error of the future."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(error)


class RepeatedDelivery(Delivery):
    """One message sent again after a failure."""

    __slots__ = ("_original", "_position", "_record_time_ms", "_reports")

    def __init__(self, reports: DeliveryReports, failure: Failure) -> None:
        before = failure.delivery
        alone = before.alone or failure.alone
        super().__init__(before.sequence, before.attempts + 1, failure.refusals, alone=alone)
        self.since = before.since
        self._reports = reports
        self._original: Delivery = before._original if isinstance(before, RepeatedDelivery) else before
        self._position = failure.position
        self._record_time_ms = failure.record_time_ms

    def __call__(self, error: KafkaError | None, record: KafkaMessage) -> None:
        """Record a failure, or report the success to the future of the first attempt."""
        if error is not None:
            self._reports.failed.append(Failure(self, error, record))
        elif isinstance(self._original, SingleDelivery):
            self._original(None, record)

    def position(self, record: KafkaMessage) -> int:
        """Return the index of the message in its first delivery."""
        return self._position

    def record_time_ms(self, position: int) -> int:
        """Return the record time of the first attempt."""
        return self._record_time_ms

    def fail(self, error: ProduceError, report: Callable[[ProduceError], None]) -> None:
        """Report the error to the delivery of the first attempt."""
        self._original.fail(error, report)


def _metadata(record: KafkaMessage, latency_ms: float) -> RecordMetadata:
    return RecordMetadata(
        record.topic() or "", record.partition() or 0, record.offset() or 0, record.timestamp()[1], latency_ms
    )
