"""Replay a range of a topic to a handler or to another topic."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from confluent_kafka import KafkaError, Producer
from confluent_kafka import Message as Record

from coinstream.backoff import produce_when_room
from coinstream.consumer.handling import BatchDecoder, ConsumedMessage
from coinstream.dlq.entry import REPLAYED_FROM_HEADER
from coinstream.errors import ConsumeError, DecodeError, ProduceError, TopicError
from coinstream.kafka import produce_error, translate_errors
from coinstream.kafka.partition_reader import OffsetRange, PartitionReader
from coinstream.kafka.records import Headers, headers_of, key_of, offset_of, value_of
from coinstream.producer.config import producer_config, throughput_profile
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings


@dataclass(frozen=True)
class ReplayProgress:
    """Progress of a replay.

    Attributes:
        read: offsets read, of `total`.
        per_second: offsets per second since the start.
        seconds_left: estimated remaining time.
    """

    read: int
    total: int
    per_second: float
    seconds_left: float


@dataclass(frozen=True)
class ReplayReport:
    """Result of a replay.

    Attributes:
        messages: messages handled, or acknowledged by the cluster.
        undecodable: skipped records that cannot be decoded; a replay to a topic skips none.
        seconds: duration.
        without_headers: records sent without headers, because header names are not UTF-8.
    """

    messages: int
    undecodable: int
    seconds: float
    without_headers: int = 0


OnProgress = Callable[[ReplayProgress], None]


def replay(
    brokers: BrokerSettings,
    topic: str,
    handler: Callable[[list[ConsumedMessage]], object],
    offsets: OffsetRange | None = None,
    *,
    settings: ConsumerSettings | None = None,
    on_progress: OnProgress = lambda _: None,
) -> ReplayReport:
    """Pass the messages of an offset range to a handler in lists, in order within each partition.

    Commits no offsets. Errors of the handler are raised.

    Raises:
        TopicError, BrokerError: the topic cannot be read.
    """
    decoder, clock = BatchDecoder(topic), _ProgressReporter(on_progress)
    handled = undecodable = 0
    with PartitionReader(brokers, settings or ConsumerSettings(), topic, offsets) as reader:
        for records in reader:
            good, bad = decoder.decode(records)
            undecodable += len(bad)
            if good:
                handler(good)
                handled += len(good)
            clock.tell(reader)
    return ReplayReport(handled, undecodable, clock.seconds)


def copy(
    brokers: BrokerSettings,
    topic: str,
    to: str,
    offsets: OffsetRange | None = None,
    *,
    settings: ConsumerSettings | None = None,
    producer: ProducerSettings | None = None,
    on_progress: OnProgress = lambda _: None,
) -> ReplayReport:
    """Copy an offset range to another topic with key, value, timestamp and headers, in order per key.

    The header `replayed-from` of each record contains its original position.

    Raises:
        TopicError, BrokerError: a topic cannot be read, or does not exist.
        ProduceError: a message was not acknowledged.
    """
    if to == topic:
        raise ConsumeError(
            f"cannot replay {topic} to itself, which would duplicate its messages; choose another topic"
        )
    clock = _ProgressReporter(on_progress)
    with PartitionReader(brokers, settings or ConsumerSettings(), topic, offsets) as reader:
        sender = _CopyProducer(brokers, producer or ProducerSettings(), to)
        for records in reader:
            sender.send(records)
            clock.tell(reader)
        sent = sender.finish()
    return ReplayReport(sent, 0, clock.seconds, sender.without_headers)


class _ProgressReporter:
    def __init__(self, on_progress: OnProgress) -> None:
        self._started = time.monotonic()
        self._on_progress = on_progress

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def tell(self, reader: PartitionReader) -> None:
        rate = reader.read / max(self.seconds, 1e-6)
        left = (reader.total - reader.read) / rate if rate else 0.0
        self._on_progress(ReplayProgress(reader.read, reader.total, rate, left))


class _CopyProducer:
    """Idempotent producer of copied records."""

    def __init__(self, brokers: BrokerSettings, settings: ProducerSettings, to: str) -> None:
        self._to = to
        self._timeout = settings.delivery_timeout_ms / 1000
        self._failed: ProduceError | None = None
        self._sent = 0
        self.without_headers = 0
        config = producer_config(brokers, settings, throughput_profile(settings), "coinstream-replay")
        self._producer = Producer(
            config
            | {"enable.idempotence": True, "statistics.interval.ms": 0, "delivery.report.only.error": True}
        )
        timeout_s = brokers.request_timeout_ms / 1000
        found = translate_errors(
            lambda: self._producer.list_topics(to, timeout=timeout_s).topics[to],
            f"looking up {to}",
            brokers.brokers,
        )
        if found.error is not None:
            raise TopicError(
                f"topic {to} does not exist at {brokers.brokers}; create it first, "
                "e.g. with `coinstream topics apply`"
            )

    def send(self, records: list[Record]) -> None:
        for record in records:
            self._produce_blocking(record)
        self._producer.poll(0)
        self._check()

    def finish(self) -> int:
        left = self._producer.flush(self._timeout)
        self._check()
        if left:
            raise ProduceError(
                f"{left} message(s) for {self._to} were not acknowledged within {self._timeout:g} s",
                topic=self._to,
                error_type="TIMED_OUT",
            )
        return self._sent

    def _produce_blocking(self, record: Record) -> None:
        origin = f"{record.topic()}[{record.partition()}]@{offset_of(record)}"
        headers: list[tuple[str, str | bytes | None]] = [
            *self._headers(record),
            (REPLAYED_FROM_HEADER, origin),
        ]
        value, key, at_ms = value_of(record), key_of(record), max(record.timestamp()[1], 0)
        produce_when_room(
            lambda: self._producer.produce(
                self._to, value, key, timestamp=at_ms, headers=headers, on_delivery=self._on_delivery
            ),
            self._poll,
        )
        self._sent += 1

    def _poll(self, timeout_s: float) -> None:
        self._producer.poll(timeout_s)
        self._check()

    def _headers(self, record: Record) -> Headers:
        try:
            return headers_of(record)
        except DecodeError:
            self.without_headers += 1
            return []

    def _on_delivery(self, error: KafkaError | None, record: Record) -> None:
        if error is not None and self._failed is None:
            self._failed = produce_error(error, self._to, key_of(record))

    def _check(self) -> None:
        if self._failed is not None:
            raise self._failed
