"""Read the newest records of a topic, follow it as it grows, and count its records."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record
from confluent_kafka.admin import OffsetSpec

from coinstream.errors import TopicError
from coinstream.kafka import (
    AUTHENTICATION,
    CONSUME_BATCH,
    admin_client,
    broker_error,
    is_fatal,
    translate_errors,
)
from coinstream.kafka.partition_reader import (
    OffsetRange,
    PartitionReader,
    RangeReader,
    reader_config,
    start_offsets,
)
from coinstream.kafka.records import (
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
class TopicRecord:
    """A record of a topic. Headers are omitted if a name is not UTF-8."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int = -1


def newest_records(brokers: BrokerSettings, topic: str, limit: int) -> list[TopicRecord]:
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


def _record(message: Record) -> TopicRecord:
    return TopicRecord(
        message.partition() or 0,
        offset_of(message),
        key_of(message),
        value_of(message),
        readable_headers(message),
        timestamp_ms_of(message),
    )


log = logging.getLogger("coinstream.consumer")

NEW_PARTITIONS_S: Final = 5.0
"""Interval of checks for added partitions, in seconds."""
SEARCH_TIMEOUT_S: Final = 2.0
_POLL_S: Final = 0.1
_FATAL_ERRORS: Final = AUTHENTICATION | {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}
"""Permanent errors. librdkafka retries the others."""


class TailReader(RangeReader):
    """Reader of a topic's records from a start position, including new ones, in order within each partition.

    Without `since` and `from_offset` it starts at the end. An added partition is read from its start.
    """

    def __init__(self, brokers: BrokerSettings, topic: str, offsets: OffsetRange | None = None) -> None:
        super().__init__(brokers, topic, offsets, reader_config(brokers, ConsumerSettings(), "tail"))
        self._known: set[int] = set()
        self._behind: set[int] = set()
        self._next_search = 0.0

    def _locate(self) -> None:
        numbers = self._partitions(self._range.partitions, self._timeout_s)
        starts = start_offsets(self._consumer, self._topic, self._range, numbers, self._timeout_s)
        self._consumer.assign([TopicPartition(self._topic, *start) for start in starts.items()])
        self._known, self._behind = set(numbers), set(numbers)
        self._next_search = time.monotonic() + NEW_PARTITIONS_S

    @property
    def at_end(self) -> bool:
        """Return whether the end of every partition was reached once."""
        return not self._behind

    def __iter__(self) -> Iterator[list[Record]]:
        """Yield batches of records without end, including empty ones while no record arrives.

        Raises:
            BrokerError: the topic was deleted, or may not be read.
        """
        while True:
            self._add_partitions()
            first = self._consumer.poll(_POLL_S)
            batch = [] if first is None else [first, *self._consumer.consume(CONSUME_BATCH, 0)]
            yield [record for record in batch if self._is_record(record)]

    def _is_record(self, record: Record) -> bool:
        error = record.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            self._behind.discard(record.partition() or 0)
        elif error.code() in _FATAL_ERRORS or is_fatal(error):
            raise broker_error(error, f"reading {self._topic}", self._brokers.brokers)
        else:
            log.warning("reading %s: %s; trying again", self._topic, error.str())
        return False

    def _add_partitions(self) -> None:
        if self._range.partitions or time.monotonic() < self._next_search:
            return
        self._next_search = time.monotonic() + NEW_PARTITIONS_S
        try:
            added = set(self._partitions(None, SEARCH_TIMEOUT_S)) - self._known
        except (KafkaException, TopicError) as failed:
            log.warning("reading %s: looking for added partitions: %s", self._topic, failed)
            return
        if added:
            log.info("reading %s: partitions %s were added", self._topic, sorted(added))
            self._known |= added
            self._behind |= added
            self._consumer.incremental_assign(
                [TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in sorted(added)]
            )
