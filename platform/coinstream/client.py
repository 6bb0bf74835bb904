"""RedpandaClient: the face of the platform for code that sends and receives market data."""

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
from coinstream.messages import Message, from_wire
from coinstream.monitoring.prometheus_sd import serving_metrics
from coinstream.producer.batcher import Batcher, BatchLimits, limits_for
from coinstream.producer.delivery import RecordMetadata
from coinstream.producer.delivery_kinds import SingleDelivery
from coinstream.producer.delivery_tracker import DeliveryTracker
from coinstream.producer.pool import ProducerPool
from coinstream.producer.pooled_producer import PooledProducer
from coinstream.producer.publisher import Publisher
from coinstream.producer.record_times import RecordTimes
from coinstream.producer.topic_cache import TopicCache
from coinstream.producer.transaction import Transaction, Transactions
from coinstream.records import Headers
from coinstream.routing import message_key, record_time_ms
from coinstream.serialization import MessageSerializer
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings

AnyHeaders = Mapping[str, str | bytes] | Sequence[tuple[str, str | bytes]]
"""Record headers as a caller may give them."""

CLOSE_TIMEOUT_S: Final = 30.0
"""How long leaving the `with` block waits for acknowledgements."""


class TopicBatch(TypedDict):
    """Messages for one topic, as `produce_batch` takes them."""

    topic: str
    messages: Sequence[Message | Mapping[str, Any]]


class RedpandaClient:
    """Sends and receives market messages. Thread-safe.

    Sending is asynchronous: a call returns when the messages are in the send buffer, which is
    bounded (32 MiB by default); a full buffer blocks, at most `max_block_ms`. A message that the
    cluster did not acknowledge is an error raised by the next call that sends or flushes.
    Leaving the `with` block flushes, and raises if a message remains.
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
        """Send each message to its topic; how many were taken.

        Raises:
            ProduceError: an earlier message was not acknowledged, or this one cannot be taken.
            MessageError, UnroutableError: a message cannot be written, or is of no known type.
            TopicError: its topic does not exist.
        """
        return self._publisher.publish(messages)

    def produce(self, topic: str, messages: Iterable[Message | Mapping[str, Any]]) -> int:
        """Send messages, or wire fields that make messages, to one topic; how many were taken.

        Raises:
            As `publish`.
        """
        return self._publisher.publish(map(_as_message, messages), topic)

    def produce_batch(self, batches: Iterable[TopicBatch]) -> int:
        """Send batches for several topics; how many messages were taken.

        Raises:
            As `publish`.
        """
        return sum(self.produce(batch["topic"], batch["messages"]) for batch in batches)

    def send_batch(self, topic: str, messages: Iterable[Message | Mapping[str, Any]]) -> int:
        """Send a batch to one topic, each key through its own producer; how many were taken.

        Raises:
            As `publish`.
        """
        return self.produce(topic, messages)

    def batcher(self, topic: str, limits: BatchLimits | None = None) -> Batcher:
        """Return a batcher that collects single messages for a topic.

        Without `limits` the topic's own: at most 1,000 messages and 10 ms for level1, and so on. Close it, or
        leave its `with` block, before the client.
        """
        return Batcher(topic, lambda batch: self.produce(topic, batch), limits or limits_for(topic))

    def get_producer(self, topic: str = "") -> PooledProducer:
        """Return the next producer of the pool, round-robin, for records without an order.

        What has a key goes through `publish` or `send`, which keep a key on its producer.
        """
        return self._pool.get_producer(topic)

    def send(
        self,
        topic: str,
        key: str | bytes | None,
        value: bytes | Message | None,
        headers: AnyHeaders | None = None,
    ) -> Future[RecordMetadata]:
        """Send one message; the future gives where it lies. asyncio code awaits `asyncio.wrap_future` of it.

        A `Message` without a key is sent under its own; bytes without one are nobody's order, and the
        producers take turns. Headers are a mapping or a list of pairs, of text or bytes.

        Raises:
            As `publish`. What happens after the message was taken is raised by the future.
        """
        raw_key = key.encode() if isinstance(key, str) else key
        if raw_key is None and isinstance(value, Message):
            raw_key = message_key(value, topic)
        self._topics.require(topic, raw_key)
        # Fixed here, so that a message that is sent again after a failure keeps its time.
        at_ms = int(time.time() * 1000)
        pairs = _pairs(headers)
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
        """Return a member of a consumer group; it begins with `start`, or as a context.

        The handler takes a `ConsumedMessage`, or with `GroupOptions(batch=True)` a list of them, and may be
        asynchronous. Dead letters are sent through this client: close it after the group.
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
        """Handle messages until `stop` is set, an error stops the group, or Ctrl-C; then leave in good order.

        The process serves its metrics meanwhile, and Prometheus discovers it.

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
        """Return a context whose messages, over any topics, are all written or none.

        It commits at the end of the block and is undone when the block raises. The id is the caller's: the
        same after a restart, and nobody else's at the same time, as whoever took it last fences the others.

        Raises:
            TransactionError: nothing was written: the id was taken by another producer, or the commit failed.
            BrokerError: the cluster does not answer.
        """
        return self._transactions.open(transactional_id)

    def create_processor(
        self, group: str, topics: Sequence[str], transform: Transform, transactional_id: str
    ) -> TransactionalProcessor:
        """Consume, make messages of them and produce those, exactly once; it works in `run`."""
        return TransactionalProcessor(
            group,
            topics,
            transform,
            transactional_id,
            self.brokers,
            self.consumer_settings,
            self.producer_settings,
        )

    @property
    def delivered(self) -> Mapping[tuple[str, int], int]:
        """Messages that the cluster acknowledged, by topic and partition. Exact after a flush."""
        return self._tracker.counter.delivered()

    @property
    def held_record_times(self) -> Mapping[str, int]:
        """Messages whose record time was held within the bounds of the broker, by topic.

        Their event time is far from the clock of this machine. The messages keep it.
        """
        return self._times.held

    def route_message(self, data: Message | Mapping[str, Any], data_type: str | None = None) -> str:
        """Return the topic of a message or of wire fields, whose type may be named.

        Raises:
            UnroutableError: the fields fit no type. Names the fields seen.
            BrokerError, AuthenticationError: the topics are not known yet and the cluster does not answer.
        """
        return self._topics.router.topic_of(data, data_type)

    def flush(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Wait until the cluster has acknowledged everything.

        Raises:
            ProduceError: messages remain after the time, or one failed.
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
        """Flush and let go of the producers. May be called twice.

        Raises:
            ProduceError: messages remain after the time, or one failed.
        """
        try:
            self.flush(timeout_s)
        finally:
            self._topics.close()
            self._pool.close()

    def _invalidate_routes(self) -> None:
        self._publisher.invalidate()


def _pairs(headers: AnyHeaders | None) -> Headers:
    pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
    return [(name, value.encode() if isinstance(value, str) else value) for name, value in pairs]


def _as_message(data: Message | Mapping[str, Any]) -> Message:
    if isinstance(data, Message):
        return data
    message, _ = from_wire(data)
    return message


__all__ = ["RecordMetadata", "RedpandaClient", "TopicBatch"]
