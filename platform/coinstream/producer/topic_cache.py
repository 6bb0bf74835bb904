"""Cache the topics of the cluster, requested at first use and every 30 seconds."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import ConfigResource

from coinstream.errors import CoinstreamError, TopicError
from coinstream.kafka import AUTHORIZATION, admin_client, broker_error
from coinstream.producer.record_times import UNBOUNDED_MS, TimeBounds
from coinstream.routing import MessageRouter
from coinstream.settings import BrokerSettings

log = logging.getLogger("coinstream.producer")

REFRESH_S: Final = 30.0
"""Interval of background refreshes, in seconds."""
RETRY_S: Final = 1.0
"""Minimum interval between requests for a missing topic, in seconds."""

_TIME_BOUND: Final = "message.timestamp"


class TopicCache:
    """Cached topics of the cluster, refreshed in the background and passed to the router."""

    def __init__(self, brokers: BrokerSettings, on_change: Callable[[], None]) -> None:
        self._brokers = brokers
        self._on_change = on_change
        self._admin = admin_client(brokers)
        self._lock = threading.Lock()
        self._asked = 0.0
        self._existing: dict[str, int] = {}
        self._router = MessageRouter()
        self._stopping = threading.Event()
        self._refresher = threading.Thread(
            target=self._refresh_regularly, name="coinstream-topics", daemon=True
        )

    @property
    def router(self) -> MessageRouter:
        """Return the router with the current topics, which are requested at first use.

        Raises:
            BrokerError, AuthenticationError: the request to the cluster failed.
        """
        if not self._asked:
            self.refresh()
        return self._router

    def require(self, topic: str, key: bytes | None = None) -> int:
        """Return the number of partitions of a topic. A missing topic is requested at most once per second.

        Raises:
            TopicError: the topic does not exist; the message contains the topic and the key.
            BrokerError, AuthenticationError: the request to the cluster failed.
        """
        partitions = self._existing.get(topic)
        if partitions is None and time.monotonic() - self._asked > RETRY_S:
            self.refresh()
            partitions = self._existing.get(topic)
        if partitions is None:
            self._check_access(topic)
            raise TopicError(
                f"topic {topic} does not exist at {self._brokers.brokers} (message with key {key!r}); "
                "create it with `coinstream topics apply`"
            )
        return partitions

    def _check_access(self, topic: str) -> None:
        # The list of all topics omits topics without DESCRIBE; a request by name fails for them.
        try:
            found = self._admin.list_topics(topic, timeout=self._brokers.request_timeout_ms / 1000)
        except KafkaException as failed:
            raise broker_error(failed.args[0], f"asking for {topic}", self._brokers.brokers) from None
        error = found.topics[topic].error if topic in found.topics else None
        if error is not None and error.code() in AUTHORIZATION:
            raise broker_error(error, f"asking for {topic}", self._brokers.brokers)

    def time_bounds(self, topic: str) -> TimeBounds | None:
        """Return the bounds of a topic's record times, or None if they are unknown."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        timeout_s = self._brokers.request_timeout_ms / 1000
        try:
            found = self._admin.describe_configs([resource], request_timeout=timeout_s)[resource].result(
                timeout_s
            )
        except (KafkaException, TimeoutError) as error:
            log.warning("cannot read the bounds of record times of %s: %s", topic, error)
            return None
        before, ahead = found.get(f"{_TIME_BOUND}.before.max.ms"), found.get(f"{_TIME_BOUND}.after.max.ms")
        if before is None or ahead is None:
            return None  # a broker before Kafka 3.6
        return TimeBounds(min(int(before.value), UNBOUNDED_MS), min(int(ahead.value), UNBOUNDED_MS))

    def refresh(self) -> None:
        """Request the topics now.

        Raises:
            BrokerError, AuthenticationError: the request to the cluster failed.
        """
        with self._lock:
            try:
                found = self._admin.list_topics(timeout=self._brokers.request_timeout_ms / 1000).topics
            except KafkaException as failed:
                raise broker_error(failed.args[0], "listing topics", self._brokers.brokers) from None
            if not self._asked:
                self._refresher.start()
            self._asked = time.monotonic()
            existing = {name: len(topic.partitions) for name, topic in found.items()}
            if existing != self._existing:
                self._existing = existing
                self._router.know(existing)
                self._on_change()

    def close(self) -> None:
        """Stop refreshing."""
        self._stopping.set()
        if self._refresher.is_alive():
            self._refresher.join()

    def _refresh_regularly(self) -> None:
        while not self._stopping.wait(REFRESH_S):
            try:
                self.refresh()
            except CoinstreamError as error:
                # The cached topics stay in use; producing reports a broker that does not answer.
                log.warning("%s", error)
