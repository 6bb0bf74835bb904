"""The hot path: typed messages to records on the lanes of the pool."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from confluent_kafka import KafkaException

from coinstream.messages import Message
from coinstream.producer.delivery import Chunk, Ledger
from coinstream.producer.delivery_counter import Target
from coinstream.producer.pool import ProducerPool
from coinstream.producer.topic_cache import TopicCache
from coinstream.routing import MAX_CACHED_ROUTES, message_key, partition_of, record_time_ms
from coinstream.serialization import COMPRESS_ABOVE, UNWRITABLE, Encoder, Headers, compressed, unwritable

CHUNK: Final = 500
"""Messages between two looks at delivery reports."""


Place = tuple[type[Message], str, str | None, str | None]
"""Message type, exchange, symbol, and the topic if the caller named one."""


class Publisher:
    """Routes, writes and produces. Remembers where each market's messages go."""

    def __init__(self, pool: ProducerPool, topics: TopicCache, ledger: Ledger, encoder: Encoder) -> None:
        self._pool = pool
        self._topics = topics
        self._ledger = ledger
        self._encoder = encoder
        # One of its own: what is written again after a failure must not count lossy prices twice.
        self._write_again = Encoder().encode
        self._targets: dict[Place, Target] = {}

    def publish(self, messages: Iterable[Message], topic: str | None = None) -> int:
        """Send messages to the topic named, or each to its own; how many were taken.

        Raises:
            ProduceError: an earlier message was not acknowledged, or this one cannot be taken.
            MessageError, UnroutableError, TopicError: a message cannot be written, or has no topic.
        """
        count = 0
        for chunk in _chunks(messages):
            self._ledger.raise_first()
            self._send(chunk, topic)
            count += len(chunk)
            self._pool.poll()
        return count

    def _send(self, chunk: Sequence[Message], topic: str | None) -> None:
        targets = self._targets
        token = Chunk(
            next(self._ledger.sequence), chunk, self._write_again, self._pool.find, self._ledger.receipts
        )
        taken = token.targets.append
        try:
            for message in chunk:
                place = (type(message), message.exchange_id, getattr(message, "symbol", None), topic)
                target = targets.get(place) or self._target(place, message)
                # `Encoder.encode`, without its call and its search for the writer.
                headers: Headers | None = None
                try:
                    value = target.write(message)
                except UNWRITABLE as error:
                    raise unwritable(message, error) from None
                if len(value) > COMPRESS_ABOVE:
                    value, headers = compressed(value)
                at_ms = record_time_ms(message)
                try:
                    target.lane.produce(target.topic, value, target.key, -1, token, None, at_ms, headers)
                except (BufferError, KafkaException):
                    target.lane.insist(target.topic, value, target.key, token, at_ms, headers)
                taken(target)
        finally:
            # A traceback that someone keeps must not keep the token, whose end is what counts the messages.
            del token

    def forget(self) -> None:
        """Find all targets anew: topics have come or gone."""
        self._targets = {}

    def _target(self, place: Place, message: Message) -> Target:
        targets = self._targets
        topic = place[-1]
        if topic is None:
            topic, key = self._topics.router.route(message)
        else:
            key = message_key(message, topic)
        partition = partition_of(key, self._topics.require(topic, key))
        target = Target(self._pool.find(topic, key), topic, key, partition, self._encoder.writer(place[0]))
        if len(targets) < MAX_CACHED_ROUTES:
            targets[place] = target
        return target


def _chunks(messages: Iterable[Message]) -> Iterator[tuple[Message, ...]]:
    rest = iter(messages)
    while chunk := tuple(islice(rest, CHUNK)):
        yield chunk
