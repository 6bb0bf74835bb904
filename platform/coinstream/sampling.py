"""Read the newest records of a topic, and count the records of topics."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from coinstream.consumer.offset_range import OffsetRange
from coinstream.consumer.partition_reader import PartitionReader
from coinstream.kafka import admin_client, translate_errors
from coinstream.records import (
    Headers,
    PartitionKey,
    key_of,
    offset_of,
    readable_headers,
    timestamp_ms_of,
    value_of,
)
from coinstream.settings import BrokerSettings, ConsumerSettings


@dataclass(frozen=True, slots=True)
class Record:
    """A record of a topic. Headers are omitted if a name is not UTF-8."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int = -1


def newest_records(brokers: BrokerSettings, topic: str, limit: int) -> list[Record]:
    """Return the newest records of every partition, at most `limit` in all.

    Raises:
        TopicError: the topic does not exist.
        BrokerError: the cluster does not answer in time.
    """
    newest = OffsetRange(newest=limit)
    with PartitionReader(brokers, ConsumerSettings(), topic, newest) as reader:
        return [_record(message) for batch in reader for message in batch]


def end_offsets(brokers: BrokerSettings, partitions: Iterable[PartitionKey]) -> dict[PartitionKey, int]:
    """Return the high watermark of each partition.

    Raises:
        BrokerError: the cluster does not answer.
    """
    return _offsets(brokers, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]


def count_messages(brokers: BrokerSettings, partitions: Mapping[str, int]) -> dict[str, int]:
    """Return the number of offsets in each topic, including control records.

    Raises:
        BrokerError: the cluster does not answer.
    """
    keys = [(topic, part) for topic, count in partitions.items() for part in range(count)]
    starts = _offsets(brokers, keys, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    ends = end_offsets(brokers, keys)
    held = dict.fromkeys(partitions, 0)
    for key in keys:
        # Retention may have advanced the start since it was read.
        held[key[0]] += max(ends[key] - starts[key], 0)
    return held


def _offsets(
    brokers: BrokerSettings, partitions: Iterable[PartitionKey], at: OffsetSpec
) -> dict[PartitionKey, int]:
    wanted = {TopicPartition(topic, part): at for topic, part in partitions}
    if not wanted:
        return {}
    # Keep the client until the responses arrive: a released client never completes its futures.
    admin = admin_client(brokers)
    answers = admin.list_offsets(wanted, request_timeout=brokers.request_timeout_ms / 1000)
    return {
        (part.topic, part.partition): translate_errors(
            answer.result, f"asking for the offsets of {part.topic}", brokers.brokers
        ).offset
        for part, answer in answers.items()
    }


def _record(message: Message) -> Record:
    return Record(
        message.partition() or 0,
        offset_of(message),
        key_of(message),
        value_of(message),
        readable_headers(message),
        timestamp_ms_of(message),
    )
