"""Produce messages to several topics atomically in transactions.

There is one transactional producer per transactional id. A later producer with the same id, for example after
a restart, fences the earlier one, which can then commit nothing.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Producer

from coinstream.backoff import produce_when_room
from coinstream.errors import BufferFullError, CoinstreamError, TransactionError
from coinstream.kafka import broker_error, checked, error_name, produce_error
from coinstream.kafka.records import Headers
from coinstream.messages import Message
from coinstream.producer.config import latency_profile, transactional_config
from coinstream.producer.delivery_counter import DeliveryCounter, Partition
from coinstream.producer.topic_cache import RecordTimes, TopicCache
from coinstream.routing import message_key, partition_of_key, record_time_ms
from coinstream.serialization import MessageSerializer
from coinstream.settings import BrokerSettings, ProducerSettings

_FENCED: Final = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}
_UNREACHABLE: Final = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN}


class Transaction:
    """Transaction of one `with client.transaction(id)` block. Not thread-safe.

    Attributes:
        counts: number of accepted messages by topic and partition.
    """

    def __init__(
        self,
        producer: Producer,
        topics: TopicCache,
        times: RecordTimes,
        encoder: MessageSerializer,
        max_block_s: float,
    ) -> None:
        self.counts: Counter[Partition] = Counter()
        self._producer = producer
        self._topics = topics
        self._times = times
        self._encoder = encoder
        self._max_block_s = max_block_s

    def publish(self, messages: Iterable[Message], topic: str | None = None) -> int:
        """Send messages to `topic`, or by default each to the topic of its type and exchange.

        Returns:
            The number of accepted messages.

        Raises:
            MessageError, UnroutableError, TopicError, ProduceError: as `RedpandaClient.publish`.
        """
        count = 0
        for count, message in enumerate(messages, start=1):  # noqa: B007
            place = topic or self._topics.router.route(message).topic
            value, headers = self._encoder.encode(message)
            at_ms = self._times.hold(place, record_time_ms(message))
            self.send(place, message_key(message, place), value, headers, at_ms)
        return count

    def send(
        self,
        topic: str,
        key: bytes,
        value: bytes,
        headers: Headers | None = None,
        at_ms: int = 0,
    ) -> None:
        """Send one record.

        Raises:
            TopicError: the topic does not exist.
            ProduceError: the record is too large, or the buffer stayed full.
        """
        partition = partition_of_key(key, self._topics.require(topic, key))
        produce: Callable[..., None] = self._producer.produce
        try:
            produce_when_room(
                lambda: produce(topic, value, key, -1, None, None, at_ms, headers),
                self._producer.poll,
                self._max_block_s,
            )
        except BufferError:
            raise BufferFullError(
                f"no room for a message for {topic} (key {key!r}) of a transaction",
                topic=topic,
                key=key,
                error_type="QUEUE_FULL",
            ) from None
        except KafkaException as failed:
            raise produce_error(failed.args[0], topic, key) from None
        self.counts[topic, partition] += 1


class Transactions:
    """Transactional producers of a client, one per id, opened at first use. Thread-safe."""

    def __init__(
        self,
        brokers: BrokerSettings,
        settings: ProducerSettings,
        topics: TopicCache,
        times: RecordTimes,
        encoder: MessageSerializer,
        counter: DeliveryCounter,
    ) -> None:
        self._brokers = brokers
        self._settings = settings
        self._topics = topics
        self._times = times
        self._encoder = encoder
        self._counter = counter
        self._timeout_s = settings.transaction_timeout_ms / 1000
        self._producers: dict[str, Producer] = {}
        self._turns: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    @contextmanager
    def open(self, name: str) -> Iterator[Transaction]:
        """Run a transaction: commit it when the block ends, abort it when the block raises.

        Blocks with the same id run one at a time.

        Raises:
            TransactionError: another producer fenced this one, or the commit failed.
            BrokerError: the cluster does not answer.
        """
        with self._lock:
            turn = self._turns.setdefault(name, threading.Lock())
        with turn:
            producer = self._producer(name)
            self._call(producer.begin_transaction, "beginning", name)
            transaction = Transaction(
                producer, self._topics, self._times, self._encoder, self._settings.max_block_ms / 1000
            )
            try:
                yield transaction
                self._call(lambda: producer.commit_transaction(self._timeout_s), "committing", name)
            except BaseException:
                self._abort(producer, name)
                raise
            self._counter.credit(transaction.counts)

    def _abort(self, producer: Producer, name: str) -> None:
        # Without `purge`: purged requests leave a gap in the sequence numbers, so that the next transaction
        # fails with OUT_OF_ORDER_SEQUENCE_NUMBER. `abort_transaction` itself drops what was not sent yet.
        try:
            producer.abort_transaction(self._timeout_s)
        except KafkaException:
            # Fenced or broken: the cluster aborts the transaction, and the next block opens a new producer.
            self._producers.pop(name, None)

    def _producer(self, name: str) -> Producer:
        found = self._producers.get(name)
        if found is not None:
            return found
        config = transactional_config(self._brokers, self._settings, latency_profile(self._settings), name)
        producer = checked(lambda: Producer(config))
        self._call(lambda: producer.init_transactions(self._timeout_s), "starting", name)
        self._producers[name] = producer
        return producer

    def _call(self, call: Callable[[], None], doing: str, name: str) -> None:
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                call()
                return
            except KafkaException as failed:
                error: KafkaError = failed.args[0]
                if not error.retriable() or time.monotonic() > deadline:
                    raise self._error(error, f"{doing} transaction {name!r}") from None

    def _error(self, error: KafkaError, doing: str) -> CoinstreamError:
        if error.code() in _FENCED or "fenced" in error.str().lower():
            return TransactionError(
                f"{doing}: another producer has used this id since, so nothing of this transaction is "
                "written. Give each process its own id."
            )
        if error.code() in _UNREACHABLE:
            return broker_error(error, doing, self._brokers.brokers)
        return TransactionError(f"{doing}: {error.str()} ({error_name(error)}); nothing of it is written")
