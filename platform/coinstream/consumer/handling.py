"""Define the messages that a handler receives, and the options of its consumer group."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

import msgspec
from confluent_kafka import Message as Record

from coinstream.backoff import Backoff
from coinstream.errors import DecodeError
from coinstream.kafka.partition_reader import reader_config
from coinstream.kafka.records import (
    Headers,
    has_headers,
    headers_of,
    key_of,
    offset_of,
    readable_headers,
    timestamp_ms_of,
    value_of,
)
from coinstream.messages import Message, type_for_topic
from coinstream.serialization import UNREADABLE, MessageDeserializer
from coinstream.settings import BrokerSettings, ConsumerSettings, KafkaConfig

JITTER = 0.2
"""Maximum relative change of a delay, so that retries do not coincide."""


@dataclass(frozen=True)
class RetrySchedule:
    """Exponential backoff with jitter: 100 ms, 200 ms and so on.

    Attributes:
        retries: number of retries after the first attempt.
        initial_ms: delay before the first retry, in milliseconds.
        max_delay_ms: maximum delay before jitter, in milliseconds.
    """

    retries: int = 8
    initial_ms: float = 100.0
    max_delay_ms: float = 30_000.0
    rng: random.Random = field(default_factory=random.Random, repr=False, compare=False)

    def delay_s(self, failures: int) -> float | None:
        """Return the seconds until the next attempt after a number of failures, or None to give up."""
        if failures > self.retries:
            return None
        delay_s = Backoff(self.initial_ms / 1000, self.max_delay_ms / 1000).after_s(failures)
        return delay_s * self.rng.uniform(1 - JITTER, 1 + JITTER)


METADATA_REFRESH_MS: Final = 5_000
_MIB = 1_048_576


@dataclass(frozen=True)
class StuckPartition:
    """Partition on which the handler makes no progress.

    Attributes:
        offset: offset of the message in work.
        seconds: time without progress.
        failures: failed attempts at this message.
    """

    topic: str
    partition: int
    offset: int
    seconds: float
    failures: int


@dataclass(frozen=True)
class GroupOptions:
    """Options of one consumer group. None uses the value of `ConsumerSettings`.

    Attributes:
        batch: pass a list of messages of one partition to the handler instead of one message.
        batch_size: maximum messages in such a list.
        concurrent_partitions: partitions handled concurrently.
        retries: number of retries of a failed message.
        retry_backoff_ms: backoff before the first retry; it doubles with each retry.
        offset_reset: start of a group without offsets: `latest`, `earliest`, or `error`.
        dead_letters: send messages that cannot be handled to `{topic}.dlq`. If false, the group stops.
        commit_interval_ms: interval of commits.
        drain_timeout_s: maximum time to wait for messages in work when partitions are revoked.
        stop_timeout_s: maximum time to wait for messages in work when the group stops.
        stuck_after_s: time without progress after which a partition is reported as stuck.
        on_stuck: called for each stuck partition, in addition to the log and the metrics.
        backlog_bytes: maximum bytes fetched but not handled, over all partitions.
        partition_backlog_bytes: the same for one partition, which is paused above it.
        instance_id: static membership (`group.instance.id`): a restart causes no rebalance.
    """

    batch: bool = False
    batch_size: int = 1000
    concurrent_partitions: int | None = None
    retries: int | None = None
    retry_backoff_ms: int | None = None
    offset_reset: Literal["latest", "earliest", "error"] | None = None
    dead_letters: bool = True
    commit_interval_ms: int = 1000
    drain_timeout_s: float = 10.0
    stop_timeout_s: float = 30.0
    stuck_after_s: float = 60.0
    on_stuck: Callable[[StuckPartition], None] | None = None
    backlog_bytes: int = 16 * _MIB
    partition_backlog_bytes: int = 4 * _MIB
    instance_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "commit_interval_ms", "backlog_bytes", "partition_backlog_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")

    def schedule(self, settings: ConsumerSettings) -> RetrySchedule:
        """Return the schedule of retries."""
        retries = settings.retries if self.retries is None else self.retries
        return RetrySchedule(retries, self.retry_backoff_ms or settings.retry_backoff_ms)


def member_config(
    brokers: BrokerSettings, settings: ConsumerSettings, group: str, instance_id: str | None = None
) -> KafkaConfig:
    """Return the configuration of a group member with cooperative rebalancing."""
    config = reader_config(brokers, settings, group)
    config["partition.assignment.strategy"] = "cooperative-sticky"
    # `start_offsets` decides where to begin, also when a fetched offset is gone.
    config["auto.offset.reset"] = "error"
    # So soon are added partitions found; the default is five minutes.
    config["topic.metadata.refresh.interval.ms"] = METADATA_REFRESH_MS
    if instance_id is not None:
        config["group.instance.id"] = instance_id
    return config


_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class ConsumedMessage(msgspec.Struct, gc=False, eq=False):
    """A message with its position in the topic.

    Attributes:
        message: decoded message of a registered type.
        record: record of confluent-kafka.
        unknown: wire fields that the message type does not have; times are datetimes.
    """

    message: Message
    record: Record
    unknown: Mapping[str, Any] = _NOTHING

    @property
    def topic(self) -> str:
        """Return the topic of the message."""
        return self.record.topic() or ""

    @property
    def partition(self) -> int:
        """Return the partition of the message."""
        return self.record.partition() or 0

    @property
    def offset(self) -> int:
        """Return the offset of the message in its partition."""
        return offset_of(self.record)

    @property
    def key(self) -> bytes | None:
        """Return the key of the record."""
        return key_of(self.record)

    @property
    def timestamp_ms(self) -> int:
        """Return the timestamp of the record (`lastUpdated` of the message); -1 if it has none."""
        return timestamp_ms_of(self.record)

    @property
    def headers(self) -> Headers:
        """Return the headers of the record."""
        return readable_headers(self.record)


class UndecodableRecord(NamedTuple):
    """A record that cannot be decoded, and the reason."""

    record: Record
    error: DecodeError


class BatchDecoder:
    """Decodes batches of records of one topic; the common case costs no Python code per message."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        kind = type_for_topic(topic)
        self._fast = msgspec.json.Decoder(kind.cls).decode if kind else None
        self._full = MessageDeserializer()

    def decode(self, records: Sequence[Record]) -> tuple[list[ConsumedMessage], list[UndecodableRecord]]:
        """Return the messages in order, and the records that cannot be decoded."""
        try:
            if self._fast is None or has_headers(records):
                return self._one_by_one(records)
            messages = list(map(self._fast, map(Record.value, records)))  # type: ignore[arg-type]
        except (*UNREADABLE, TypeError):
            # A record is compressed, has unknown fields or unreadable headers, or is not a message.
            return self._one_by_one(records)
        return list(map(ConsumedMessage, messages, records, repeat(_NOTHING))), []

    def _one_by_one(self, records: Sequence[Record]) -> tuple[list[ConsumedMessage], list[UndecodableRecord]]:
        good: list[ConsumedMessage] = []
        bad: list[UndecodableRecord] = []
        decode = self._full.decode
        for record in records:
            try:
                message, unknown = decode(value_of(record), headers_of(record), self._topic)
            except DecodeError as error:
                bad.append(UndecodableRecord(record, error))
            else:
                good.append(ConsumedMessage(message, record, unknown))
        return good, bad
