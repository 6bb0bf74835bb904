"""Exactly once from topic to topic: what was consumed and what came of it are committed together.

Each round is one transaction: the messages that the function makes, and the offsets of those it was
given. A crash, an error of the function or a rebalance undoes both. Readers with `isolation.level`
`read_committed` (librdkafka's default) never see what was aborted.
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

from coinstream.consumer.assignment import from_committed
from coinstream.consumer.config import member_config
from coinstream.consumer.consumed_message import BatchDecoder, ConsumedMessage, UndecodableRecord, offset_of
from coinstream.consumer.retry import RetrySchedule
from coinstream.dlq.entry import dead_letter, dead_letter_headers, dlq_topic
from coinstream.dlq.publisher import ensure_dlq_topic
from coinstream.kafka import broker_error
from coinstream.messages import Message
from coinstream.producer.config import latency_profile, transactional_config
from coinstream.serialization import Encoder, Headers
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings

log = logging.getLogger("coinstream.consumer")

_POLL_S: Final = 0.2


class Output(NamedTuple):
    """A message to send. Without a partition the key decides."""

    topic: str
    key: bytes | None
    value: Message | bytes


Transform = Callable[[list[ConsumedMessage]], Iterable[Output]]
"""Makes messages from messages. It may be called again with the same ones, so it should do nothing else."""


@dataclass(frozen=True)
class TransactionReport:
    """What was committed: messages consumed, produced, undecodable ones sent to the dead letters."""

    consumed: int = 0
    produced: int = 0
    dead_letters: int = 0
    transactions: int = 0
    aborted: int = 0


class TransactionalProcessor:
    """Consumes, transforms and produces, exactly once. Run one instance per `transactional_id`.

    Undecodable messages go to `{topic}.dlq` in the same transaction. An error of the function undoes the
    round, which is tried again as the retry schedule says; then the processor stops with that error.
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
        # Eager hand-over is simpler to get right with transactions: no partition changes hands in a round.
        self._config = member_config(brokers, settings, group) | {
            "partition.assignment.strategy": "range",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
        }
        self._producing = transactional_config(brokers, sending, latency_profile(sending), transactional_id)
        self._schedule = RetrySchedule(settings.retries, settings.retry_backoff_ms)
        self._most = max_messages
        self._encoder = Encoder()
        self._decoders: dict[str, BatchDecoder] = {}
        self._dlq_topics: set[str] = set()
        # The coordinator of transactions may still be loading when the broker answers already.
        self._timeout_s = brokers.request_timeout_ms * 3 / 1000
        self._rebalanced = False
        self._ended: set[tuple[str, int]] = set()
        self._totals: dict[str, int] = dict.fromkeys(TransactionReport.__dataclass_fields__, 0)

    def run(self, stop: Event | None = None, *, until_end: bool = False) -> TransactionReport:
        """Work until `stop` is set, or with `until_end` until all its partitions are at their end.

        Raises:
            BrokerError: the cluster refuses, e.g. because another instance has this `transactional_id`.
            Whatever the function raises, after its retries. Nothing of its round is committed.
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
        consumer.assign(from_committed(self._group, consumer, partitions))

    def _on_rebalance(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._rebalanced = True
        self._ended.clear()

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
        # If partitions moved in the meantime, the first record comes again from the committed offset.
        records = rest if self._rebalanced else [first, *rest]
        return [record for record in records if self._is_message(record)]

    def _is_message(self, record: Record) -> bool:
        partition_key, error = (record.topic() or "", record.partition() or 0), record.error()
        if error is None:
            self._ended.discard(partition_key)
            return True
        if error.code() != KafkaError._PARTITION_EOF:
            raise KafkaException(error)
        self._ended.add(partition_key)
        return False

    def _is_at_end(self, consumer: Consumer) -> bool:
        partition_keys = {(part.topic, part.partition) for part in consumer.assignment()}
        return bool(partition_keys) and partition_keys <= self._ended

    def _run_transaction(self, consumer: Consumer, producer: Producer, records: list[Record]) -> None:
        good, bad = self._decode(records)
        outputs = list(self._transform(good)) if good else []
        producer.begin_transaction()
        for output in outputs:
            self._send(producer, output.topic, output.key, *self._encoded(output.value))
        for record, error in bad:
            self._send_to_dlq(producer, record, error)
        offsets: dict[tuple[str, int], int] = {}
        for record in records:
            offsets[record.topic() or "", record.partition() or 0] = offset_of(record) + 1
        positions = [TopicPartition(*partition_key, offset) for partition_key, offset in offsets.items()]
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), self._timeout_s)
        producer.commit_transaction(self._timeout_s)
        self._count(consumed=len(good), produced=len(outputs), dead_letters=len(bad), transactions=1)

    def _abort(self, consumer: Consumer, producer: Producer, records: list[Record]) -> None:
        self._count(aborted=1)
        try:
            producer.abort_transaction(self._timeout_s)
        except KafkaException as failed:
            # Before `begin_transaction` there is nothing to undo.
            if failed.args[0].code() != KafkaError._STATE:
                raise
        first: dict[tuple[str, int], int] = {}
        for record in records:
            first.setdefault((record.topic() or "", record.partition() or 0), offset_of(record))
        for part in consumer.assignment():
            offset = first.get((part.topic, part.partition))
            if offset is not None:
                self._ended.discard((part.topic, part.partition))
                consumer.seek(TopicPartition(part.topic, part.partition, offset))

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
        letter = dead_letter(record, error, 0, self._group)
        if letter.topic not in self._dlq_topics:
            ensure_dlq_topic(letter.topic, self._brokers)
            self._dlq_topics.add(letter.topic)
        self._send(producer, dlq_topic(letter.topic), letter.key, letter.value, dead_letter_headers(letter))

    def _send(
        self, producer: Producer, topic: str, key: bytes | None, value: bytes | None, headers: Headers | None
    ) -> None:
        pairs: list[tuple[str, str | bytes | None]] = [*(headers or ())]
        while True:
            try:
                producer.produce(topic, value, key, headers=pairs)
            except BufferError:
                producer.poll(_POLL_S)
            else:
                return

    def _count(self, **more: int) -> None:
        for name, count in more.items():
            self._totals[name] += count


def _is_fatal(error: Exception) -> bool:
    found = error.args[0] if isinstance(error, KafkaException) and error.args else None
    return isinstance(found, KafkaError) and found.fatal()
