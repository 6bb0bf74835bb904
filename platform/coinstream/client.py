"""Produce and consume market data through `RedpandaClient`."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Final, Self, TypedDict

from coinstream.consumer import ConsumerGroupManager, GroupOptions, GroupReport
from coinstream.consumer.transactions import TransactionalProcessor, Transform
from coinstream.consumer.worker import AnyHandler
from coinstream.errors import ProduceError
from coinstream.kafka.records import AnyHeaders, encode_headers
from coinstream.messages import Message, from_wire
from coinstream.monitoring.exporter import serving_metrics
from coinstream.producer.batcher import Batcher, BatchLimits, limits_for
from coinstream.producer.delivery import DeliveryTracker, RecordMetadata
from coinstream.producer.delivery_kinds import SingleDelivery
from coinstream.producer.pool import ProducerPool
from coinstream.producer.pooled_producer import PooledProducer
from coinstream.producer.publisher import Publisher
from coinstream.producer.topic_cache import RecordTimes, TopicCache
from coinstream.producer.transaction import Transaction, Transactions
from coinstream.routing import message_key, record_time_ms
from coinstream.serialization import MessageSerializer
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings

CLOSE_TIMEOUT_S: Final = 30.0
"""Maximum time to wait for acknowledgements at the end of the `with` block, in seconds."""


class TopicBatch(TypedDict):
    """Messages for one topic, an argument of `produce_batch`."""

    topic: str
    messages: Sequence[Message | Mapping[str, Any]]


class RedpandaClient:
    """Client that produces and consumes market messages. Thread-safe.

    Producing is asynchronous: a call returns when the messages are in the send buffer (32 MiB by default). A
    full buffer blocks the call for at most `max_block_ms`. If the cluster does not acknowledge a message, the
    next call that produces or flushes raises the error. The end of the `with` block flushes, and raises an
    error if messages are not acknowledged.
    """

    def __init__(
        self,
        brokers: BrokerSettings,
        producer: ProducerSettings | None = None,
        consumer: ConsumerSettings | None = None,
    ) -> None:
        self.brokers = brokers
        self.producer_settings = producer or ProducerSettings()
        self.consumer_settings = consumer or ConsumerSettings()
        self.encoder: Final = MessageSerializer()
        self._tracker = DeliveryTracker()
        self._topics = TopicCache(brokers, self._invalidate_routes)
        self._times = RecordTimes(self._topics.time_bounds)
        self._pool = ProducerPool(brokers, self.producer_settings, self._tracker, self._times)
        self._publisher = Publisher(self._pool, self._topics, self._tracker, self._times, self.encoder)
        self._transactions = Transactions(
            brokers, self.producer_settings, self._topics, self._times, self.encoder, self._tracker.counter
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def publish(self, messages: Iterable[Message]) -> int:
        """Produce each message to the topic of its type and exchange.

        Returns:
            The number of accepted messages.

        Raises:
            ProduceError: an earlier message was not acknowledged, or a message was not accepted.
            MessageError, UnroutableError: a message has an invalid value or an unregistered type.
            TopicError: a topic does not exist.
        """
        return self._publisher.publish(messages)

    def produce(self, topic: str, messages: Iterable[Message | Mapping[str, Any]]) -> int:
        """Produce messages, or mappings of wire fields, to one topic.

        Returns:
            The number of accepted messages.

        Raises:
            CoinstreamError: see `publish`.
        """
        return self._publisher.publish(map(_as_message, messages), topic)

    def produce_batch(self, batches: Iterable[TopicBatch]) -> int:
        """Produce batches to several topics.

        Returns:
            The number of accepted messages.

        Raises:
            CoinstreamError: see `publish`.
        """
        return sum(self.produce(batch["topic"], batch["messages"]) for batch in batches)

    def send_batch(self, topic: str, messages: Iterable[Message | Mapping[str, Any]]) -> int:
        """Produce a batch to one topic, each key through its own producer.

        Returns:
            The number of accepted messages.

        Raises:
            CoinstreamError: see `publish`.
        """
        return self.produce(topic, messages)

    def batcher(self, topic: str, limits: BatchLimits | None = None) -> Batcher:
        """Return a batcher that collects single messages for a topic.

        By default the limits depend on the topic, for example 1,000 messages and 10 ms for level1. Close the
        batcher before the client.
        """
        return Batcher(topic, lambda batch: self.produce(topic, batch), limits or limits_for(topic))

    def get_producer(self, topic: str = "") -> PooledProducer:
        """Return the next producer of the pool, round-robin, for records without a key.

        For records with a key use `publish` or `send`, which keep the order per key.
        """
        return self._pool.get_producer(topic)

    def send(
        self,
        topic: str,
        key: str | bytes | None,
        value: bytes | Message | None,
        headers: AnyHeaders | None = None,
    ) -> Future[RecordMetadata]:
        """Produce one record.

        By default a `Message` gets the key of its market. Bytes without a key go to the producers in turn,
        without order.

        Returns:
            A future of the record's topic, partition and offset. Errors of the delivery are raised by the
            future. asyncio code awaits it with `asyncio.wrap_future`.

        Raises:
            CoinstreamError: see `publish`.
        """
        raw_key = key.encode() if isinstance(key, str) else key
        if raw_key is None and isinstance(value, Message):
            raw_key = message_key(value, topic)
        self._topics.require(topic, raw_key)
        # Fixed here, so that a message keeps its record time when it is sent again.
        at_ms = int(time.time() * 1000)
        pairs = encode_headers(headers)
        if isinstance(value, Message):
            message, (value, own_headers) = value, self.encoder.encode(value)
            at_ms = self._times.hold(topic, record_time_ms(message))
            pairs = [*(own_headers or []), *pairs]
        producer = self._pool.get_producer(topic) if raw_key is None else self._pool.find(topic, raw_key)
        producer.enable_delivery_reports()
        delivery = SingleDelivery(next(self._tracker.sequence), producer.reports, at_ms)
        producer.produce_blocking(topic, value, raw_key, delivery, at_ms, pairs or None)
        return delivery.future

    def create_consumer_group(
        self, group: str, topics: Sequence[str], handler: AnyHandler, options: GroupOptions | None = None
    ) -> ConsumerGroupManager:
        """Return a member of a consumer group. Start it with `start`, or use it as a context manager.

        The handler receives a `ConsumedMessage`, or with `GroupOptions(batch=True)` a list of them, and may
        be asynchronous. Dead letters are produced by this client, so close it after the group.
        """
        return ConsumerGroupManager(
            group, topics, handler, options or GroupOptions(), self.brokers, self.consumer_settings, self.send
        )

    def consume(
        self,
        topics: Sequence[str],
        handler: AnyHandler,
        *,
        group: str = "coinstream",
        options: GroupOptions | None = None,
        stop: threading.Event | None = None,
    ) -> GroupReport:
        """Handle messages until `stop` is set, an error stops the group, or Ctrl-C, then leave the group.

        While the group runs, the process serves its metrics and is discovered by Prometheus.

        Raises:
            CoinstreamError: the error that stopped the group.
        """
        with (
            serving_metrics({"consumer_group": group}),
            self.create_consumer_group(group, topics, handler, options) as manager,
        ):
            while not (manager.wait(0.1) or (stop is not None and stop.is_set())):
                pass
        return manager.report()

    def transaction(self, transactional_id: str) -> AbstractContextManager[Transaction]:
        """Return a context manager that produces messages to any topics in one transaction.

        The transaction is committed at the end of the block and aborted if the block raises. Use the same id
        after a restart, and a different id in each process: a new producer with the same id fences the
        others.

        Raises:
            TransactionError: the transaction was not committed, because another producer uses the id or the
                commit failed.
            BrokerError: the cluster does not answer.
        """
        return self._transactions.open(transactional_id)

    def create_processor(
        self, group: str, topics: Sequence[str], transform: Transform, transactional_id: str
    ) -> TransactionalProcessor:
        """Return a processor that consumes, transforms and produces exactly once. Start it with `run`."""
        settings = self.brokers, self.consumer_settings, self.producer_settings
        return TransactionalProcessor(group, topics, transform, transactional_id, *settings)

    @property
    def delivered(self) -> Mapping[tuple[str, int], int]:
        """Return the number of acknowledged messages by topic and partition; exact after a flush."""
        return self._tracker.counter.delivered()

    @property
    def held_record_times(self) -> Mapping[str, int]:
        """Return the number of messages per topic whose record time was clamped to the broker's bounds.

        Their event time differs too much from this machine's clock. The messages keep their event time.
        """
        return self._times.held

    def route_message(self, data: Message | Mapping[str, Any], data_type: str | None = None) -> str:
        """Return the topic of a message or of wire fields, optionally of a given message type.

        Raises:
            UnroutableError: the fields match no message type; the message lists them.
            BrokerError, AuthenticationError: the topics are not cached and the request to the cluster failed.
        """
        return self._topics.router.topic_of(data, data_type)

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Wait until the cluster has acknowledged all messages.

        Raises:
            ProduceError: a message failed, or messages are unacknowledged after `timeout_s`.
        """
        remaining = self._pool.flush(timeout_s)
        self._tracker.raise_first()
        if remaining:
            raise ProduceError(
                f"{remaining} message(s) were not acknowledged by {self.brokers.brokers} within "
                f"{timeout_s:g} s. Is the broker running?",
                topic="",
                error_type="TIMED_OUT",
            )

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Flush and close the producers. Further calls have no effect.

        Raises:
            ProduceError: a message failed, or messages are unacknowledged after `timeout_s`.
        """
        try:
            self.flush(timeout_s)
        finally:
            self._topics.close()
            self._pool.close()

    def _invalidate_routes(self) -> None:
        self._publisher.invalidate()


def _as_message(data: Message | Mapping[str, Any]) -> Message:
    if isinstance(data, Message):
        return data
    message, _ = from_wire(data)
    return message


__all__ = ["RecordMetadata", "RedpandaClient", "TopicBatch"]
