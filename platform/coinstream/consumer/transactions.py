"""Consume, transform and produce exactly once from topic to topic.

Each round is one transaction that contains the produced messages and the offsets of the consumed ones. A
crash, an error of the function or a rebalance aborts it. Consumers with `isolation.level` `read_committed`
(librdkafka's default) never see aborted messages.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from threading import Event
from typing import Final, NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka import Message as Record

from coinstream.backoff import produce_when_room
from coinstream.consumer.handling import (
    BatchDecoder,
    ConsumedMessage,
    RetrySchedule,
    UndecodableRecord,
    member_config,
)
from coinstream.consumer.start_offsets import OffsetGap, StartOffsets
from coinstream.dlq.entry import DeadLetter, dead_letter_headers, smaller, to_dead_letter
from coinstream.dlq.publisher import dlq_topic, ensure_dlq_topic
from coinstream.kafka import broker_error, is_fatal
from coinstream.kafka.records import Headers, PartitionKey, offset_of, partition_of
from coinstream.messages import Message
from coinstream.producer.config import latency_profile, transactional_config
from coinstream.serialization import MessageSerializer
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings

log = logging.getLogger("coinstream.consumer")

_POLL_S: Final = 0.2


class Output(NamedTuple):
    """Message to produce. By default the key determines the partition."""

    topic: str
    key: bytes | None
    value: Message | bytes


Transform = Callable[[list[ConsumedMessage]], Iterable[Output]]
"""Function from consumed to produced messages. It may be called repeatedly, so avoid side effects."""


@dataclass(frozen=True)
class TransactionReport:
    """Committed numbers of messages: consumed, produced, and undecodable ones sent to dead letters."""

    consumed: int = 0
    produced: int = 0
    dead_letters: int = 0
    transactions: int = 0
    aborted: int = 0


class TransactionalProcessor:
    """Processor that consumes, transforms and produces exactly once. Run one instance per `transactional_id`.

    Undecodable messages go to `{topic}.dlq` in the same transaction. An error of the function aborts the
    transaction, which is retried according to the retry schedule; then the processor stops with the error.
    """

    def __init__(
        self,
        group: str,
        topics: Sequence[str],
        transform: Transform,
        transactional_id: str,
        brokers: BrokerSettings,
        consumer: ConsumerSettings | None = None,
        producer: ProducerSettings | None = None,
        *,
        max_messages: int = 2000,
    ) -> None:
        self._group = group
        self._topics = list(topics)
        self._transform = transform
        self._brokers = brokers
        settings, sending = consumer or ConsumerSettings(), producer or ProducerSettings()
        # Eager rebalancing: no partition is reassigned within a transaction.
        self._config = member_config(brokers, settings, group) | {
            "partition.assignment.strategy": "range",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
        self._producing = transactional_config(brokers, sending, latency_profile(sending), transactional_id)
        self._starts = StartOffsets(group, brokers, settings.offset_reset)
        self._schedule = RetrySchedule(settings.retries, settings.retry_backoff_ms)
        self._most = max_messages
        self._encoder = MessageSerializer()
        self._decoders: dict[str, BatchDecoder] = {}
        self._dlq_topics: set[str] = set()
        # The transaction coordinator may still be loading when the broker already answers.
        self._timeout_s = brokers.request_timeout_ms * 3 / 1000
        self._rebalanced = False
        self._ended: set[PartitionKey] = set()
        self._next: dict[PartitionKey, int] = {}
        self._totals: dict[str, int] = dict.fromkeys(TransactionReport.__dataclass_fields__, 0)

    @property
    def gaps(self) -> tuple[OffsetGap, ...]:
        """Return the offsets that were deleted before they were processed."""
        return tuple(self._starts.gaps)

    def run(self, stop: Event | None = None, *, until_end: bool = False) -> TransactionReport:
        """Process messages until `stop` is set, or with `until_end` until all partitions are at their end.

        An error of the function is raised after its retries; its transaction is aborted.

        Raises:
            BrokerError: the cluster refused, for example because another instance uses this
                `transactional_id`.
        """
        consumer, producer = Consumer(self._config), Producer(self._producing)
        try:
            producer.init_transactions(self._timeout_s)
            consumer.subscribe(self._topics, on_assign=self._on_assign, on_revoke=self._on_rebalance)
            self._run_transactions(consumer, producer, stop or Event(), until_end)
        except KafkaException as failed:
            doing = f"processing as {self._group}"
            raise broker_error(failed.args[0], doing, self._brokers.brokers) from None
        finally:
            consumer.close()
        return TransactionReport(**self._totals)

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._on_rebalance(consumer, partitions)
        found = self._starts.find(consumer, partitions)
        self._next |= {(part.topic, part.partition): part.offset for part in found}
        consumer.assign(found)

    def _on_rebalance(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalanced = True
        self._ended.clear()
        self._next.clear()

    def _run_transactions(self, consumer: Consumer, producer: Producer, stop: Event, until_end: bool) -> None:
        failures = 0
        while not stop.is_set():
            records = self._fetch(consumer)
            if not records:
                if until_end and self._is_at_end(consumer):
                    return
                continue
            try:
                self._run_transaction(consumer, producer, records)
                failures = 0
            except Exception as error:
                failures += 1
                self._abort(consumer, producer, records)
                delay = self._schedule.delay_s(failures)
                if delay is None or _is_fatal(error):
                    raise
                log.warning("group %s: a round is aborted and repeated: %s", self._group, error)
                stop.wait(delay)

    def _fetch(self, consumer: Consumer) -> list[Record]:
        first = consumer.poll(_POLL_S)
        if first is None:
            return []
        self._rebalanced = False
        rest = consumer.consume(self._most - 1, 0)
        # After a rebalance the first record is read again from the committed offset.
        records = rest if self._rebalanced else [first, *rest]
        return [record for record in records if self._is_message(consumer, record)]

    def _is_message(self, consumer: Consumer, record: Record) -> bool:
        key, error = partition_of(record), record.error()
        if error is None:
            self._ended.discard(key)
            self._next[key] = offset_of(record) + 1
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            self._ended.add(key)
        elif error.code() != KafkaError._AUTO_OFFSET_RESET or not self._skip_gap(consumer, key):
            raise KafkaException(error)
        return False

    def _skip_gap(self, consumer: Consumer, key: PartitionKey) -> bool:
        """Continue at the earliest available record; return False if the offset reset is `error`."""
        position = self._next.get(key, -1)
        start = self._starts.after_gap(consumer, key, position if position >= 0 else None)
        if start is None:
            return False
        self._next[key] = start
        # Eager assignments can only be replaced as a whole.
        consumer.assign([TopicPartition(*each, offset) for each, offset in self._next.items()])
        return True

    def _is_at_end(self, consumer: Consumer) -> bool:
        keys = {(part.topic, part.partition) for part in consumer.assignment()}
        return bool(keys) and keys <= self._ended

    def _run_transaction(self, consumer: Consumer, producer: Producer, records: list[Record]) -> None:
        good, bad = self._decode(records)
        outputs = list(self._transform(good)) if good else []
        producer.begin_transaction()
        for output in outputs:
            self._send(producer, output.topic, output.key, *self._encoded(output.value))
        for record, error in bad:
            self._send_to_dlq(producer, record, error)
        offsets = {partition_of(record): offset_of(record) + 1 for record in records}
        positions = [
            TopicPartition(*key, offset, metadata=self._starts.metadata(key[0]))
            for key, offset in offsets.items()
        ]
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), self._timeout_s)
        producer.commit_transaction(self._timeout_s)
        self._count(consumed=len(good), produced=len(outputs), dead_letters=len(bad), transactions=1)

    def _abort(self, consumer: Consumer, producer: Producer, records: list[Record]) -> None:
        self._count(aborted=1)
        try:
            producer.abort_transaction(self._timeout_s)
        except KafkaException as failed:
            # Before `begin_transaction` there is nothing to abort.
            if failed.args[0].code() != KafkaError._STATE:
                raise
        first: dict[PartitionKey, int] = {}
        for record in records:
            first.setdefault(partition_of(record), offset_of(record))
        for part in consumer.assignment():
            key = (part.topic, part.partition)
            offset = first.get(key)
            if offset is not None:
                self._ended.discard(key)
                self._next[key] = offset
                consumer.seek(TopicPartition(*key, offset))

    def _decode(self, records: list[Record]) -> tuple[list[ConsumedMessage], list[UndecodableRecord]]:
        good: list[ConsumedMessage] = []
        bad: list[UndecodableRecord] = []
        for topic, run in groupby(records, Record.topic):
            name = topic or ""
            decoder = self._decoders.setdefault(name, BatchDecoder(name))
            fine, faulty = decoder.decode(list(run))
            good += fine
            bad += faulty
        return good, bad

    def _encoded(self, value: Message | bytes) -> tuple[bytes, Headers | None]:
        return self._encoder.encode(value) if isinstance(value, Message) else (value, None)

    def _send_to_dlq(self, producer: Producer, record: Record, error: Exception) -> None:
        dead_letter: DeadLetter | None = to_dead_letter(record, error, 0, self._group)
        topic = record.topic() or ""
        if topic not in self._dlq_topics:
            ensure_dlq_topic(topic, self._brokers)
            self._dlq_topics.add(topic)
        while dead_letter is not None:
            try:
                self._send(
                    producer,
                    dlq_topic(topic),
                    dead_letter.key,
                    dead_letter.value,
                    dead_letter_headers(dead_letter),
                )
            except KafkaException as failed:
                dead_letter = smaller(dead_letter)
                if failed.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE or dead_letter is None:
                    raise
            else:
                return

    def _send(
        self, producer: Producer, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None
    ) -> None:
        pairs: list[tuple[str, str | bytes | None]] = [*(headers or ())]
        produce_when_room(lambda: producer.produce(topic, value, key, headers=pairs), producer.poll)

    def _count(self, **more: int) -> None:
        for name, count in more.items():
            self._totals[name] += count


def _is_fatal(error: Exception) -> bool:
    found = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return isinstance(found, KafkaError) and is_fatal(found)
