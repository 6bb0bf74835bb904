"""One place of the pool: an idempotent producer that is replaced when it fails fatally."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka import Message as KafkaMessage

from coinstream.errors import AuthenticationError, BufferFullError, FatalProducerError, ProduceError
from coinstream.kafka import broker_error, checked, error_name, produce_error, refusal
from coinstream.producer.delivery import Failure, Ledger, RecordMetadata, Single, Token
from coinstream.settings import KafkaConfig

log = logging.getLogger("coinstream.producer")

SETTLE_S: Final = 5.0
"""How long a failed producer may take to learn the fate of what is in flight."""

LONGEST_PAUSE_S: Final = 2.0
"""The pause before a producer is replaced doubles up to this."""

Headers = list[tuple[str, bytes]] | None


class Lane:
    """An idempotent producer, and what keeps its promise when it fails.

    Attributes:
        produce: the current producer's own `produce`, called directly on the hot path.
        failed: failures noted by delivery callbacks, not yet dealt with.
        acknowledged: futures whose messages were acknowledged, completed after polling.
    """

    def __init__(
        self,
        config: KafkaConfig,
        ledger: Ledger,
        *,
        max_block_ms: int,
        delivery_timeout_ms: int,
        retry_backoff_ms: int,
        on_statistics: Callable[[str], None] | None = None,
    ) -> None:
        self.failed: list[Failure] = []
        self.acknowledged: deque[tuple[Future[RecordMetadata], RecordMetadata]] = deque()
        self._config = config
        self._ledger = ledger
        self._max_block_s = max_block_ms / 1000
        self._patience_s = delivery_timeout_ms / 1000
        self._backoff_s = retry_backoff_ms / 1000
        self._on_statistics = on_statistics
        self._lock = threading.RLock()
        self._tracked = False
        self._fatal = False
        self._generation = 0
        self._producer = self._build()
        self.produce: Callable[..., None] = self._producer.produce

    def __len__(self) -> int:
        return len(self._producer) + len(self.failed) + len(self.acknowledged)

    @property
    def name(self) -> str:
        """The client id that the broker sees."""
        return str(self._config["client.id"])

    def poll(self, timeout_s: float = 0.0) -> None:
        """Serve delivery reports, complete futures, and mend what failed."""
        self._serve(timeout_s)
        if self.failed or self._fatal:
            self._settle()
        # Last, as callbacks of futures may do anything, also send.
        self._complete()

    def insist(
        self, topic: str, value: bytes | None, key: bytes | None, token: Token, at_ms: int, headers: Headers
    ) -> None:
        """Produce, with whatever it takes: wait for room in the buffer, replace a failed producer.

        Raises:
            BufferFullError: the buffer stayed full for the longest allowed time.
            MessageTooLargeError, FatalProducerError, ProduceError: the message cannot be sent.
        """
        deadline = time.monotonic() + self._max_block_s
        while True:
            produce = self.produce
            try:
                produce(topic, value, key, -1, token, None, at_ms, headers)
            except BufferError:
                if time.monotonic() >= deadline:
                    raise self._buffer_full(topic, key) from None
                self.poll(0.01)
            except KafkaException as failed:
                error: KafkaError = failed.args[0]
                if not _is_fatal(error):
                    raise self._refused(error, topic, key) from None
                if produce is self.produce:
                    self._fatal = True
                if time.monotonic() >= deadline:
                    raise self._beyond_mending(error, topic, key) from None
                self.poll()
            else:
                return

    def track(self) -> None:
        """From now on report each success too, which `send` needs.

        Reports cost a third of the rate, so a lane does without until the first `send`. What is
        outstanding is awaited first, so the order of keys holds. The producer is replaced, and with it go the
        batch sizes that it had not told the metrics yet.

        Raises:
            BufferFullError: it was not acknowledged within the longest allowed block.
        """
        if not self._tracked:
            self._begin_tracking()

    def _begin_tracking(self) -> None:
        with self._lock:
            if self._tracked:
                return
            self._hold()
            try:
                self.flush(self._max_block_s)
                if len(self):
                    raise BufferFullError(
                        f"{len(self)} earlier message(s) of {self.name} were not acknowledged within "
                        f"{self._max_block_s:g} s; is the broker well?",
                        topic="",
                        error_type="QUEUE_FULL",
                    )
                self._tracked = True
                self._swap()
            finally:
                self._release()

    def flush(self, timeout_s: float) -> None:
        """Wait until everything is acknowledged or given up, or the time is over."""
        deadline = time.monotonic() + timeout_s
        while len(self) and (left := deadline - time.monotonic()) > 0:
            self._serve(min(left, 0.05))
            self.poll()

    def list_topics(self, timeout_s: float) -> frozenset[str]:
        """The topics of the cluster. Raises KafkaException."""
        return frozenset(self._producer.list_topics(timeout=timeout_s).topics)

    def close(self) -> None:
        """Let go of the producer; what is still outstanding is given up and reported."""
        self._producer.purge()
        self._serve(0)
        self._complete()
        failed, self.failed = self.failed, []
        for failure in failed:
            self._ledger.give_up(failure)

    def _serve(self, timeout_s: float) -> None:
        """Run the callbacks that are due."""
        try:
            self._producer.poll(timeout_s)
        except KafkaException as failed:
            # Of a fatal error poll raises what the error callback would be told.
            if not _is_fatal(failed.args[0]):
                raise
            self._on_error(self._generation, failed.args[0])

    def _complete(self) -> None:
        while True:
            # Not asked before whether one is there: the caretaker may take it in between.
            try:
                future, metadata = self.acknowledged.popleft()
            except IndexError:
                return
            self._ledger.receipts.add(metadata.topic, metadata.partition, metadata.latency_ms)
            if future.set_running_or_notify_cancel():
                future.set_result(metadata)

    def _settle(self) -> None:
        with self._lock:
            failed, self.failed = self.failed, []
            if self._fatal or any(failure.mendable(self._patience_s) for failure in failed):
                self._hold()
                try:
                    self._replace(failed)
                finally:
                    self._release()
                return
        for failure in failed:
            self._ledger.give_up(failure)

    def _replace(self, failed: list[Failure]) -> None:
        # 1. No message may follow those that failed, so new ones are held. What the producer still has comes
        #    back, or turns out to be acknowledged.
        self._drain()
        failed += self.failed
        self.failed = []
        mendable = [failure for failure in reversed(failed) if failure.mendable(self._patience_s)]
        again = sorted(mendable, key=lambda failure: failure.order)
        log.warning(
            "%s failed (%s); replacing it and sending %d message(s) again",
            self.name,
            ", ".join(sorted({error_name(failure.error) for failure in failed})) or "fatal",
            len(again),
        )
        attempts = max((failure.token.attempts for failure in again), default=0)
        time.sleep(min(self._backoff_s * 2 ** min(attempts, 10), LONGEST_PAUSE_S))
        # 2. A new producer takes them in the order in which they were first sent.
        self._swap()
        for failure in failed:
            if not failure.mendable(self._patience_s):
                self._ledger.give_up(failure)
        for failure in again:
            self._send_again(failure)

    def _drain(self) -> None:
        deadline = time.monotonic() + SETTLE_S
        self._producer.purge(in_queue=True, in_flight=False, blocking=False)
        while len(self._producer) and time.monotonic() < deadline:
            self._serve(0.05)
        # Nobody can know whether what is still in flight was written: sent again, it may be there twice.
        self._producer.purge(in_queue=True, in_flight=True, blocking=True)
        while len(self._producer):
            self._serve(0.05)

    def _hold(self) -> None:
        """Let nobody produce until `_release`: callers wait for the lock that this thread holds."""
        self.produce = self._wait_and_produce

    def _wait_and_produce(self, *arguments: Any) -> None:
        with self._lock:
            self._producer.produce(*arguments)

    def _release(self) -> None:
        self.produce = self._producer.produce

    def _swap(self) -> None:
        self._producer = self._build()
        self._fatal = False

    def _send_again(self, failure: Failure) -> None:
        record, single = failure.record, Single(self, failure)
        if single.alone:
            self._empty()
        self._take_again(record, single)
        if single.alone:
            self._empty()

    def _empty(self) -> None:
        # librdkafka bounds this: nothing waits longer than the delivery timeout.
        while len(self._producer) and not self._fatal:
            self._serve(0.05)

    def _take_again(self, record: KafkaMessage, single: Single) -> None:
        headers = record.headers()
        while True:
            try:
                self._producer.produce(
                    record.topic() or "",
                    record.value(),
                    record.key(),
                    -1,
                    single,
                    None,
                    record.timestamp()[1],
                    headers,
                )
            except BufferError:
                # Only the bare poll: mending what is being mended would mix the order.
                self._serve(0.01)
            except KafkaException as failed:
                self.failed.append(Failure(single, failed.args[0], record))
                return
            else:
                return

    def _build(self) -> Producer:
        self._generation += 1
        config: dict[str, Any] = {
            **self._config,
            "error_cb": self._listener(self._generation),
            "delivery.report.only.error": not self._tracked,
        }
        if self._on_statistics is not None:
            config["stats_cb"] = self._on_statistics
        return checked(lambda: Producer(config))

    def _listener(self, generation: int) -> Callable[[KafkaError], None]:
        # Without a reference to the lane: a producer in a reference cycle is freed by the garbage collector,
        # which may run in a thread of librdkafka's, and there that aborts the process.
        lane = weakref.ref(self)

        def hear(error: KafkaError) -> None:
            if (alive := lane()) is not None:
                alive._on_error(generation, error)

        return hear

    def _on_error(self, generation: int, error: KafkaError) -> None:
        if _is_fatal(error):
            # A late word from a producer that was replaced already must not cost its successor.
            self._fatal = self._fatal or generation == self._generation
        if (reason := refusal(error)) is not None:
            refused = broker_error(reason, "connecting", str(self._config["bootstrap.servers"]))
            self._ledger.latch(AuthenticationError(str(refused)))
        log.info("%s: %s", self.name, error.str())

    def _buffer_full(self, topic: str, key: bytes | None) -> ProduceError:
        return self._counted(
            BufferFullError(
                f"no room for a message for {topic} (key {key!r}) within {self._max_block_s:g} s: "
                f"{len(self._producer)} messages of {self.name} wait for the broker. Is it running? "
                "Raise REDPANDA_PRODUCER_BUFFER_BYTES or produce more slowly.",
                topic=topic,
                key=key,
                error_type="QUEUE_FULL",
            )
        )

    def _beyond_mending(self, error: KafkaError, topic: str, key: bytes | None) -> ProduceError:
        return self._counted(
            FatalProducerError(
                f"message for {topic} (key {key!r}) was not taken: {error.str()}; a new producer fails too",
                topic=topic,
                key=key,
                error_type=error_name(error),
            )
        )

    def _refused(self, error: KafkaError, topic: str, key: bytes | None) -> ProduceError:
        return self._counted(produce_error(error, topic, key))

    def _counted(self, error: ProduceError) -> ProduceError:
        self._ledger.count(error)
        return error


def _is_fatal(error: KafkaError) -> bool:
    return bool(error.fatal()) or error.code() in (KafkaError._FATAL, KafkaError._STATE)
