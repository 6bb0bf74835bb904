"""Implement one producer of the pool with backpressure, ordered retries and recovery from fatal errors."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Message as KafkaMessage

from coinstream.backoff import Backoff, produce_when_room
from coinstream.errors import BufferFullError, FatalProducerError, ProduceError
from coinstream.kafka import error_name, produce_error
from coinstream.producer.delivery import Delivery, DeliveryReports, DeliveryTracker, Failure
from coinstream.producer.delivery_kinds import RepeatedDelivery
from coinstream.producer.idempotent_producer import IdempotentProducer, is_fatal_to_producer
from coinstream.producer.topic_cache import RecordTimes
from coinstream.settings import KafkaConfig

log = logging.getLogger("coinstream.producer")

MAX_BACKOFF_S: Final = 2.0
"""Maximum backoff before a producer is replaced, in seconds; it doubles up to this value."""

Headers = list[tuple[str, bytes]] | None


class PooledProducer(IdempotentProducer):
    """Producer that delivers every message in order or reports its error.

    Attributes:
        reports: delivery reports not handled yet.
    """

    def __init__(
        self,
        config: KafkaConfig,
        tracker: DeliveryTracker,
        times: RecordTimes,
        *,
        max_block_ms: int,
        delivery_timeout_ms: int,
        retries: int,
        retry_backoff_ms: int,
        on_statistics: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(config, tracker, on_statistics)
        self.reports = DeliveryReports()
        self._recovering = False
        self._times = times
        self._max_block_s = max_block_ms / 1000
        self._delivery_timeout_s = delivery_timeout_ms / 1000
        self._retries = retries
        self._backoff = Backoff(retry_backoff_ms / 1000, MAX_BACKOFF_S)

    def __len__(self) -> int:
        return len(self._producer) + len(self.reports) + self._recovering

    def poll(self, timeout_s: float = 0.0) -> None:
        """Serve delivery reports, send failed messages again and complete futures."""
        self._serve(timeout_s)
        if self.reports.failed or self.is_fatal:
            self._recover()
        # Last, since the callbacks of futures may call the client.
        self._complete()

    def produce_blocking(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        delivery: Delivery,
        record_time_ms: int,
        headers: Headers,
    ) -> None:
        """Produce one message. Waits for room in the buffer and replaces a failed producer as needed.

        Raises:
            BufferFullError: the buffer stayed full for `max_block_ms`.
            MessageTooLargeError, FatalProducerError, ProduceError: the message cannot be sent.
        """
        deadline = time.monotonic() + self._max_block_s
        try:
            while not self._try_produce(topic, value, key, delivery, record_time_ms, headers, deadline):
                self.poll()
        finally:
            # A stored traceback must not keep a reference to the delivery: its release counts the messages.
            del delivery

    def _try_produce(
        self,
        topic: str,
        value: bytes | None,
        key: bytes | None,
        delivery: Delivery,
        record_time_ms: int,
        headers: Headers,
        deadline: float,
    ) -> bool:
        """Produce one message if there is room; return whether the producer accepted it or failed."""
        produce = self.produce
        try:
            produce_when_room(
                lambda: produce(topic, value, key, -1, delivery, None, record_time_ms, headers),  # noqa: F821
                self.poll,
                max(deadline - time.monotonic(), 0.0),
            )
        except BufferError:
            raise self._counted(self._buffer_full(topic, key)) from None
        except KafkaException as failed:
            error: KafkaError = failed.args[0]
            if not is_fatal_to_producer(error):
                raise self._counted(produce_error(error, topic, key)) from None
            if produce is self.produce:
                self.is_fatal = True
            if time.monotonic() >= deadline:
                raise self._counted(_not_accepted(error, topic, key)) from None
            return False
        else:
            return True
        finally:
            del delivery

    def enable_delivery_reports(self) -> None:
        """Enable delivery reports for successes, which `send` requires.

        Reports cost a third of the throughput, so a producer runs without them until the first `send`. This
        waits for outstanding messages, which keeps the order of keys, and replaces the producer. Batch sizes
        that the old producer has not reported are missing from the metrics.

        Raises:
            BufferFullError: outstanding messages were not acknowledged within `max_block_ms`.
        """
        if not self._reports_success:
            self._enable_delivery_reports()

    def _enable_delivery_reports(self) -> None:
        with self._lock:
            if self._reports_success:
                return
            self._pause()
            try:
                self.flush(self._max_block_s)
                if len(self):
                    raise BufferFullError(
                        f"{len(self)} earlier message(s) of {self.name} were not acknowledged within "
                        f"{self._max_block_s:g} s. Is the broker running?",
                        topic="",
                        error_type="QUEUE_FULL",
                    )
                self._reports_success = True
                self._replace()
            finally:
                self._resume()

    def flush(self, timeout_s: float) -> None:
        """Send without waiting for full batches until all messages are acknowledged or given up.

        Args:
            timeout_s: maximum time to wait, in seconds.
        """
        deadline = time.monotonic() + timeout_s
        while len(self) and (left := deadline - time.monotonic()) > 0:
            self._serve(min(left, 0.05), at_once=True)
            self.poll()
            # Another thread sends failed messages again, and has the lock until it is done.
            if self._recovering and self._lock.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
                self._lock.release()

    def close(self) -> None:
        """Close the producer. Outstanding messages are given up and reported."""
        self._producer.purge()
        self._serve(0)
        self._complete()
        for failure in self.reports.take_failed():
            self._tracker.give_up(failure)

    def _complete(self) -> None:
        while True:
            # Without a check first: the poll thread may take the last future in between.
            try:
                future, metadata = self.reports.acknowledged.popleft()
            except IndexError:
                return
            self._tracker.counter.add(metadata.topic, metadata.partition, metadata.latency_ms)
            if future.set_running_or_notify_cancel():
                future.set_result(metadata)

    def _retriable(self, failure: Failure) -> bool:
        return failure.retriable(self._delivery_timeout_s, self._retries)

    def _recover(self) -> None:
        with self._lock:
            # Failures are in no queue until they are sent again or given up, and yet outstanding.
            self._recovering = True
            try:
                failed = self.reports.take_failed()
                if self.is_fatal or any(map(self._retriable, failed)):
                    self._pause()
                    try:
                        self._replace_and_repeat(failed)
                    finally:
                        self._resume()
                    return
                for failure in failed:
                    self._tracker.give_up(failure)
            finally:
                self._recovering = False

    def _replace_and_repeat(self, failed: list[Failure]) -> None:
        # 1. Pause producing, so that no message overtakes a failed one. The old producer acknowledges or
        #    returns its remaining messages.
        self._drain()
        failed += self.reports.take_failed()
        for topic in {failure.record.topic() or "" for failure in failed if failure.is_time_refused}:
            self._times.tighten(topic)
        # Positions of equal messages are found from the last failure to the first.
        retriable = [failure for failure in reversed(failed) if self._retriable(failure)]
        again = sorted(retriable, key=lambda failure: failure.order)
        log.warning(
            "%s failed (%s); replacing it and sending %d message(s) again",
            self.name,
            ", ".join(sorted({error_name(failure.error) for failure in failed})) or "fatal",
            len(again),
        )
        attempts = max((failure.delivery.attempts for failure in again), default=0)
        time.sleep(self._backoff.after_s(attempts + 1))
        # 2. A new producer sends them in the order in which they were first sent.
        self._replace()
        repeated = set(map(id, again))
        for failure in failed:
            if id(failure) not in repeated:
                self._tracker.give_up(failure)
        for failure in again:
            self._repeat(failure)

    def _repeat(self, failure: Failure) -> None:
        delivery = RepeatedDelivery(self.reports, failure)
        if delivery.alone:
            self._await_empty()
        self._produce_again(failure.record, delivery)
        if delivery.alone:
            self._await_empty()

    def _produce_again(self, record: KafkaMessage, delivery: RepeatedDelivery) -> None:
        topic, value, key, headers = record.topic() or "", record.value(), record.key(), record.headers()
        # The failed record has lost its time (librdkafka reports -1); the delivery stores it.
        event_ms = delivery.record_time_ms(0)
        is_first = delivery.refusals == 1 and not self._times.was_held(event_ms)
        at_ms = self._times.hold(topic, event_ms, count=is_first)
        try:
            # Only `_serve`: a recovery within the recovery would mix the order.
            produce_when_room(
                lambda: self._producer.produce(topic, value, key, -1, delivery, None, at_ms, headers),
                self._serve,
            )
        except KafkaException as failed:
            self.reports.failed.append(Failure(delivery, failed.args[0], record))

    def _buffer_full(self, topic: str, key: bytes | None) -> ProduceError:
        return BufferFullError(
            f"no room for a message for {topic} (key {key!r}) within {self._max_block_s:g} s: "
            f"{len(self._producer)} messages of {self.name} wait for the broker. Is it running? "
            "Raise REDPANDA_PRODUCER_BUFFER_BYTES or produce more slowly.",
            topic=topic,
            key=key,
            error_type="QUEUE_FULL",
        )

    def _counted(self, error: ProduceError) -> ProduceError:
        self._tracker.count_error(error)
        return error


def _not_accepted(error: KafkaError, topic: str, key: bytes | None) -> ProduceError:
    return FatalProducerError(
        f"message for {topic} (key {key!r}) was not accepted: {error.str()}; a new producer fails too",
        topic=topic,
        key=key,
        error_type=error_name(error),
    )
