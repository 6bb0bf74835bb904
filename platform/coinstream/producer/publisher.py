"""Encode typed messages and produce them through the pool (the hot path)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Final, NamedTuple

from confluent_kafka import KafkaException

from coinstream.kafka.records import Headers
from coinstream.messages import Message, type_of
from coinstream.producer.delivery import DeliveryTracker
from coinstream.producer.delivery_counter import CountedPartition, Partition
from coinstream.producer.delivery_kinds import ChunkDelivery
from coinstream.producer.pool import ProducerPool
from coinstream.producer.pooled_producer import PooledProducer
from coinstream.producer.topic_cache import RecordTimes, TopicCache
from coinstream.routing import MAX_CACHED_ROUTES, message_key, partition_of_key, record_time_ms
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

_NO_HEADERS: Final[Headers | None] = None

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY: Final = timedelta(days=1)
_DAY_MS: Final = 86_400_000


class CachedRoute:
    """Topic, key and partition of one market's messages, and the pooled producer of their key."""

    __slots__ = ("counted", "key", "producer", "topic")

    def __init__(self, topic: str, key: bytes, counted: CountedPartition, producer: PooledProducer) -> None:
        self.topic = topic
        self.key = key
        self.counted = counted
        self.producer = producer


Routes = dict[str | None, CachedRoute]
"""Routes of one exchange by symbol; None for messages without a symbol."""


class RouteGroup(NamedTuple):
    """State shared by the messages of one type, and of one topic if the caller chose it.

    Attributes:
        write: encodes a message.
        has_symbol: whether the type has symbols.
        by_exchange: routes of each exchange.
    """

    write: Writer
    has_symbol: bool
    by_exchange: dict[str, Routes]


class Publisher:
    """Routes, encodes and produces messages, with a cached route for each market."""

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
        self._groups: dict[tuple[type[Message], str | None], RouteGroup] = {}
        self._partitions: dict[Partition, CountedPartition] = {}
        self._cached = 0
        self._day = _EPOCH, 0

    def publish(self, messages: Iterable[Message], topic: str | None = None) -> int:
        """Send messages to `topic`, or by default each to the topic of its type and exchange.

        Returns:
            The number of accepted messages.

        Raises:
            ProduceError: an earlier message was not acknowledged, or a message was not accepted.
            MessageError, UnroutableError, TopicError: a message cannot be encoded, or has no topic.
        """
        count = 0
        for chunk in _chunks(messages):
            self._tracker.raise_first()
            self._send(chunk, topic)
            count += len(chunk)
            self._pool.poll()
        return count

    def invalidate(self) -> None:
        """Clear the cached routes after topics were created or deleted."""
        self._groups = {}
        self._cached = 0

    def _send(self, chunk: Sequence[Message], topic: str | None) -> None:
        delivery = ChunkDelivery(
            next(self._tracker.sequence),
            chunk,
            self._encode_again,
            self._pool.reports_of,
            self._tracker.counter,
        )
        try:
            self._produce(chunk, topic, delivery)
        finally:
            # A stored traceback must not keep a reference to the delivery: its release counts the messages.
            del delivery

    def _produce(self, chunk: Sequence[Message], topic: str | None, delivery: ChunkDelivery) -> None:
        # Hot path: avoid calls, and reuse what consecutive messages share.
        sent = delivery.unsettled.sent.append
        earliest, latest = self._times.safe_limits()
        day, day_ms = self._day_of(chunk[0])
        kind: type[Message] | None = None
        moment, at_ms, outside, refused = None, 0, False, False
        try:
            for message in chunk:
                if type(message) is not kind:
                    kind = type(message)
                    write, has_symbol, by_exchange = self._group(message, topic)
                symbol = message.symbol if has_symbol else None  # type: ignore[attr-defined]
                try:
                    route = by_exchange[message.exchange_id][symbol]
                except KeyError:
                    routes = by_exchange.setdefault(message.exchange_id, {})
                    route = self._route(routes, message, topic)
                try:
                    value, headers = write(message), _NO_HEADERS
                except UNWRITABLE as error:
                    raise unwritable(message, error) from None
                if len(value) > COMPRESS_ABOVE:
                    value, headers = compressed(value)
                if message.last_updated is not moment:
                    moment = message.last_updated
                    since = moment - day
                    # Equal to `record_time_ms` at half the cost; dividing timedeltas is slow.
                    at_ms = (
                        record_time_ms(message)
                        if since.days
                        else day_ms + since.seconds * 1000 + since.microseconds // 1000
                    )
                    outside = at_ms > latest or at_ms < earliest
                held = self._times.hold(route.topic, at_ms) if outside else at_ms
                try:
                    route.producer.produce(route.topic, value, route.key, -1, delivery, None, held, headers)
                except (BufferError, KafkaException):
                    refused = True
                if refused:
                    # Not in the handler: see `produce_when_room`.
                    route.producer.produce_blocking(route.topic, value, route.key, delivery, held, headers)
                    refused = False
                sent(route.counted)
        finally:
            del delivery, sent

    def _group(self, message: Message, topic: str | None) -> RouteGroup:
        """Return what the messages of this type share."""
        kind = type(message)
        found = self._groups.get((kind, topic))
        if found is None:
            type_of(message)  # raises for a type that is not registered
            group = RouteGroup(self._encoder.writer(kind), hasattr(kind, "symbol"), {})
            found = self._groups.setdefault((kind, topic), group)
        return found

    def _day_of(self, message: Message) -> tuple[datetime, int]:
        """Return the start of the message's day as a datetime and in Unix milliseconds."""
        day, day_ms = self._day
        try:
            days = (message.last_updated - day).days
        except TypeError:
            days = 0  # no time, or one without a zone: the encoder refuses the message
        if days:
            self._day = day, day_ms = day + days * _DAY, day_ms + days * _DAY_MS
        return day, day_ms

    def _route(self, routes: Routes, message: Message, topic: str | None) -> CachedRoute:
        if topic is None:
            topic, key = self._topics.router.route(message)
        else:
            key = message_key(message, topic)
        partitions = self._topics.require(topic, key)
        partition = partition_of_key(key, partitions)
        counted = self._partitions.get((topic, partition))
        if counted is None or counted.partitions != partitions:
            counted = CountedPartition(topic, partition, partitions)
            self._partitions[topic, partition] = counted
        route = CachedRoute(topic, key, counted, self._pool.find(topic, key))
        if self._cached < MAX_CACHED_ROUTES:
            self._cached += 1
            routes[getattr(message, "symbol", None)] = route
        return route


def _chunks(messages: Iterable[Message]) -> Iterator[tuple[Message, ...]]:
    rest = iter(messages)
    while chunk := tuple(islice(rest, CHUNK)):
        yield chunk
