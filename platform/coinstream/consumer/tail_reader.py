"""Follow a topic as it grows, from a given position. Joins no group and commits nothing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from coinstream.consumer.config import reader_config
from coinstream.consumer.offset_range import OffsetRange, start_offsets, topic_partitions
from coinstream.errors import TopicError
from coinstream.kafka import AUTHENTICATION, CONSUME_BATCH, BrokerConsumer, broker_error, is_fatal
from coinstream.settings import BrokerSettings, ConsumerSettings

log = logging.getLogger("coinstream.consumer")

NEW_PARTITIONS_S: Final = 5.0
"""How often the reader looks for added partitions."""
SEARCH_TIMEOUT_S: Final = 2.0
_POLL_S: Final = 0.1
_FATAL_ERRORS: Final = AUTHENTICATION | {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}
"""Errors that do not pass with time. librdkafka retries the others."""


class TailReader:
    """Reads what a topic holds from the start of the range, and what comes, each partition in order.

    Without `since` and `from_offset` it begins at the end. An added partition is read from its start.
    """

    def __init__(self, brokers: BrokerSettings, topic: str, offsets: OffsetRange | None = None) -> None:
        self._brokers = brokers
        self._topic = topic
        self._range = offsets or OffsetRange()
        self._timeout_s = brokers.request_timeout_ms / 1000
        self._known: set[int] = set()
        self._behind: set[int] = set()
        self._next_search = 0.0
        # When retention deletes what is still to be read, reading goes on at the earliest record left.
        config = reader_config(brokers, ConsumerSettings(), "tail") | {"auto.offset.reset": "earliest"}
        self._consumer = BrokerConsumer(config | {"enable.partition.eof": True}, brokers)

    def __enter__(self) -> Self:
        try:
            numbers = self._partitions(self._range.partitions, self._timeout_s)
            starts = start_offsets(self._consumer, self._topic, self._range, numbers, self._timeout_s)
            self._consumer.assign([TopicPartition(self._topic, *start) for start in starts.items()])
        except KafkaException as failed:
            self._consumer.close()
            raise broker_error(failed.args[0], f"reading {self._topic}", self._brokers.brokers) from None
        except BaseException:
            self._consumer.close()
            raise
        self._known, self._behind = set(numbers), set(numbers)
        self._next_search = time.monotonic() + NEW_PARTITIONS_S
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    @property
    def at_end(self) -> bool:
        """Return whether the end of every partition was reached once."""
        return not self._behind

    def __iter__(self) -> Iterator[list[Record]]:
        """Yield batches of records, without end; an empty one when nothing came for a moment.

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

    def _partitions(self, wanted: tuple[int, ...] | None, timeout_s: float) -> list[int]:
        return topic_partitions(self._consumer, self._topic, wanted, self._brokers.brokers, timeout_s)
