"""Which topics exist: asked when the client starts and now and then, never per message."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from confluent_kafka import KafkaException

from coinstream.errors import CoinstreamError, TopicError
from coinstream.kafka import AUTHORIZATION, admin_client, broker_error
from coinstream.routing import Router
from coinstream.settings import BrokerSettings

log = logging.getLogger("coinstream.producer")

LOOK_AGAIN_S: Final = 1.0
"""A topic that is missing is asked for again after this time, in seconds."""


class TopicCache:
    """The topics of the cluster, refreshed in the background, and the router that knows them."""

    def __init__(self, brokers: BrokerSettings, refresh_ms: int, on_change: Callable[[], None]) -> None:
        self._brokers = brokers
        self._refresh_s = refresh_ms / 1000
        self._on_change = on_change
        self._admin = admin_client(brokers)
        self._lock = threading.Lock()
        self._asked = 0.0
        self._existing: dict[str, int] = {}
        self._router = Router()
        self._stopping = threading.Event()
        self._refresher = threading.Thread(target=self._keep_fresh, name="coinstream-topics", daemon=True)

    @property
    def router(self) -> Router:
        """The router, which knows the topics; the first use asks the cluster.

        Raises:
            BrokerError, AuthenticationError: the cluster does not answer.
        """
        if not self._asked:
            self.refresh()
        return self._router

    def require(self, topic: str, key: bytes | None = None) -> int:
        """The number of partitions of a topic; looks again before it says no, but at most once a second.

        Raises:
            TopicError: the topic does not exist. Names it and the key that should have gone there.
            BrokerError, AuthenticationError: the cluster does not answer.
        """
        partitions = self._existing.get(topic)
        if partitions is None and time.monotonic() - self._asked > LOOK_AGAIN_S:
            self.refresh()
            partitions = self._existing.get(topic)
        if partitions is None:
            self._may_describe(topic)
            raise TopicError(
                f"topic {topic} does not exist at {self._brokers.brokers} (message with key {key!r}); "
                "create it with `coinstream topics apply`"
            )
        return partitions

    def _may_describe(self, topic: str) -> None:
        # A topic that this user may not see is left out of the list of all; asked for by name it is refused.
        try:
            found = self._admin.list_topics(topic, timeout=self._brokers.request_timeout_ms / 1000)
        except KafkaException as failed:
            raise broker_error(failed.args[0], f"asking for {topic}", self._brokers.brokers) from None
        error = found.topics[topic].error if topic in found.topics else None
        if error is not None and error.code() in AUTHORIZATION:
            raise broker_error(error, f"asking for {topic}", self._brokers.brokers)

    def refresh(self) -> None:
        """Ask the cluster now.

        Raises:
            BrokerError, AuthenticationError: it does not answer.
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

    def _keep_fresh(self) -> None:
        while not self._stopping.wait(self._refresh_s):
            try:
                self.refresh()
            except CoinstreamError as error:
                # What is known stays true enough; producing itself says when the broker is gone.
                log.warning("%s", error)
