"""Wrap an idempotent librdkafka producer that is replaced after a fatal error."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer

from coinstream.errors import AuthenticationError
from coinstream.kafka import broker_error, checked, refusal
from coinstream.producer.delivery import DeliveryTracker
from coinstream.settings import KafkaConfig

log = logging.getLogger("coinstream.producer")

DRAIN_S: Final = 5.0
"""Maximum time to wait for the in-flight requests of a failed producer, in seconds."""


class IdempotentProducer:
    """Own one librdkafka producer at a time.

    Attributes:
        produce: bound method `produce` of the current producer, called directly on the hot path.
        is_fatal: whether the current producer failed and must be replaced.
    """

    def __init__(
        self,
        config: KafkaConfig,
        tracker: DeliveryTracker,
        on_statistics: Callable[[str], None] | None = None,
    ) -> None:
        self.is_fatal = False
        self._config = config
        self._tracker = tracker
        self._on_statistics = on_statistics
        self._lock = threading.RLock()
        self._reports_success = False
        self._generation = 0
        self._producer = self._build()
        self.produce: Callable[..., None] = self._producer.produce

    @property
    def name(self) -> str:
        """Return the client id."""
        return str(self._config["client.id"])

    def list_topics(self, timeout_s: float) -> frozenset[str]:
        """Return the topics of the cluster.

        Raises:
            KafkaException: the request failed.
        """
        return frozenset(self._producer.list_topics(timeout=timeout_s).topics)

    def _serve(self, timeout_s: float, *, at_once: bool = False) -> None:
        """Run due callbacks; with `at_once` send without waiting for full batches."""
        try:
            (self._producer.flush if at_once else self._producer.poll)(timeout_s)
        except KafkaException as failed:
            # For a fatal error librdkafka raises what the error callback would be given.
            if not is_fatal_to_producer(failed.args[0]):
                raise
            self._on_error(self._generation, failed.args[0])

    def _pause(self) -> None:
        """Make callers of `produce` wait for the lock, which the calling thread holds, until `_resume`."""
        self.produce = self._wait_and_produce

    def _wait_and_produce(self, *arguments: Any) -> None:
        try:
            with self._lock:
                self._producer.produce(*arguments)
        finally:
            # A stored traceback must not keep a reference to the delivery: its release counts the messages.
            del arguments

    def _resume(self) -> None:
        self.produce = self._producer.produce

    def _replace(self) -> None:
        self._producer = self._build()
        self.is_fatal = False

    def _drain(self) -> None:
        """Wait for the result of every message of the producer."""
        deadline = time.monotonic() + DRAIN_S
        self._producer.purge(in_queue=True, in_flight=False, blocking=False)
        while len(self._producer) and time.monotonic() < deadline:
            self._serve(0.05)
        # Requests without an answer by now may have been written: their messages may become duplicates.
        self._producer.purge(in_queue=True, in_flight=True, blocking=True)
        while len(self._producer):
            self._serve(0.05)

    def _await_empty(self) -> None:
        """Wait until the producer has no message. The delivery timeout of librdkafka bounds this."""
        while len(self._producer) and not self.is_fatal:
            self._serve(0.05, at_once=True)

    def _build(self) -> Producer:
        self._generation += 1
        config: dict[str, Any] = {
            **self._config,
            "error_cb": self._error_callback(self._generation),
            "delivery.report.only.error": not self._reports_success,
        }
        if self._on_statistics is not None:
            config["stats_cb"] = self._on_statistics
        return checked(lambda: Producer(config))

    def _error_callback(self, generation: int) -> Callable[[KafkaError], None]:
        # A weak reference: a producer in a reference cycle is freed by the garbage collector, which may run
        # in a thread of librdkafka, and there freeing it aborts the process.
        owner = weakref.ref(self)

        def on_error(error: KafkaError) -> None:
            if (alive := owner()) is not None:
                alive._on_error(generation, error)

        return on_error

    def _on_error(self, generation: int, error: KafkaError) -> None:
        if is_fatal_to_producer(error):
            # A late error of a producer that was replaced already must not cost its successor.
            self.is_fatal = self.is_fatal or generation == self._generation
        if (reason := refusal(error)) is not None:
            refused = broker_error(reason, "connecting", str(self._config["bootstrap.servers"]))
            self._tracker.keep(AuthenticationError(str(refused)))
        log.info("%s: %s", self.name, error.str())


def is_fatal_to_producer(error: KafkaError) -> bool:
    """Return whether an error means that its producer can send no more messages."""
    return bool(error.fatal()) or error.code() in (KafkaError._FATAL, KafkaError._STATE)
