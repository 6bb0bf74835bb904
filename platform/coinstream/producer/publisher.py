"""The hot path: encode typed messages and produce them through the pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from confluent_kafka import KafkaException

from coinstream.messages import Message
from coinstream.producer.delivery_counter import Destination
from coinstream.producer.delivery_kinds import ChunkDelivery
from coinstream.producer.delivery_tracker import DeliveryTracker
from coinstream.producer.pool import ProducerPool
from coinstream.producer.pooled_producer import PooledProducer
from coinstream.producer.record_times import RecordTimes
from coinstream.producer.topic_cache import TopicCache
from coinstream.records import Headers
from coinstream.routing import MAX_CACHED_ROUTES, message_key, partition_of, record_time_ms
from coinstream.serialization import (
    COMPRESS_ABOVE,
    UNWRITABLE,
    MessageSerializer,
    Writer,
    compressed,
    unwritable,
)

CHUNK: Final = 500
"""Messages between two polls for delivery reports."""

RouteKey = tuple[type[Message], str, str | None, str | None]
"""Message type, exchange, symbol, and the topic if the caller named one."""


class CachedRoute(Destination):
    """Where the messages of one market go, and how they are encoded.

    Attributes:
        producer: the pooled producer of the key.
        write: encodes a message.
    """

    __slots__ = ("producer", "write")

    def __init__(
        self, topic: str, key: bytes, partition: int, producer: PooledProducer, write: Writer
    ) -> None:
        super().__init__(topic, key, partition)
        self.producer = producer
        self.write = write


class Publisher:
    """Route, encode and produce messages. The route of each market is cached."""

    def __init__(
        self,
        pool: ProducerPool,
        topics: TopicCache,
        tracker: DeliveryTracker,
        times: RecordTimes,
        encoder: MessageSerializer,
    ) -> None:
        self._pool = pool
        self._topics = topics
        self._tracker = tracker
        self._times = times
        self._encoder = encoder
        # An encoder of its own: encoding again after a failure must not count lossy prices twice.
        self._encode_again = MessageSerializer(strict=encoder.rounder.strict).encode
        self._routes: dict[RouteKey, CachedRoute] = {}

    def publish(self, messages: Iterable[Message], topic: str | None = None) -> int:
        """Send messages to the topic named, or each to its own.

        Returns:
            The number of messages that were accepted.

        Raises:
            ProduceError: an earlier message was not acknowledged, or this one cannot be accepted.
            MessageError, UnroutableError, TopicError: a message cannot be encoded, or has no topic.
        """
        count = 0
        for chunk in _chunks(messages):
            self._tracker.raise_first()
            self._send(chunk, topic)
            count += len(chunk)
            self._pool.poll()
        return count

    def _send(self, chunk: Sequence[Message], topic: str | None) -> None:
        routes = self._routes
        delivery = ChunkDelivery(
            next(self._tracker.sequence),
            chunk,
            self._encode_again,
            self._pool.reports_of,
            self._tracker.counter,
        )
        sent = delivery.unsettled.sent.append
        earliest, latest = self._times.safe_limits()
        try:
            for message in chunk:
                key = (type(message), message.exchange_id, getattr(message, "symbol", None), topic)
                route = routes.get(key) or self._route(key, message)
                # `MessageSerializer.encode`, without its call and its search for the writer.
                headers: Headers | None = None
                try:
                    value = route.write(message)
                except UNWRITABLE as error:
                    raise unwritable(message, error) from None
                if len(value) > COMPRESS_ABOVE:
                    value, headers = compressed(value)
                at_ms = record_time_ms(message)
                if not earliest <= at_ms <= latest:
                    at_ms = self._times.hold(route.topic, at_ms)
                try:
                    route.producer.produce(route.topic, value, route.key, -1, delivery, None, at_ms, headers)
                except (BufferError, KafkaException):
                    route.producer.produce_blocking(route.topic, value, route.key, delivery, at_ms, headers)
                sent(route)
        finally:
            # A stored traceback must not keep the delivery: its end is what counts the messages.
            del delivery, sent

    def invalidate(self) -> None:
        """Forget all routes: topics were created or deleted."""
        self._routes = {}

    def _route(self, route_key: RouteKey, message: Message) -> CachedRoute:
        routes = self._routes
        topic = route_key[-1]
        if topic is None:
            topic, key = self._topics.router.route(message)
        else:
            key = message_key(message, topic)
        partition = partition_of(key, self._topics.require(topic, key))
        route = CachedRoute(
            topic, key, partition, self._pool.find(topic, key), self._encoder.writer(route_key[0])
        )
        if len(routes) < MAX_CACHED_ROUTES:
            routes[route_key] = route
        return route


def _chunks(messages: Iterable[Message]) -> Iterator[tuple[Message, ...]]:
    rest = iter(messages)
    while chunk := tuple(islice(rest, CHUNK)):
        yield chunk
