"""Follows a topic as it grows, from its beginning or its end. Joins no group, commits nothing."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from types import TracebackType
from typing import Final, Self

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from coinstream.consumer.config import reader_config
from coinstream.errors import TopicError
from coinstream.kafka import AUTHENTICATION, CONSUME_BATCH, broker_error
from coinstream.settings import BrokerSettings, ConsumerSettings
from coinstream.suggestions import no_such_topic

_PAUSE_S: Final = 0.1
_FATAL_ERRORS: Final = AUTHENTICATION | {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
}
"""Errors that time does not mend. The others are librdkafka's to retry."""
_log = logging.getLogger(__name__)


class TailReader:
    """Reads what is there (from the beginning) and what comes, each partition in order."""

    def __init__(
        self,
        brokers: BrokerSettings,
        topic: str,
        *,
        from_beginning: bool = False,
        partitions: Collection[int] = (),
    ) -> None:
        self._brokers = brokers
        self._topic = topic
        self._start = OFFSET_BEGINNING if from_beginning else OFFSET_END
        self._wanted = frozenset(partitions)
        self._timeout = brokers.request_timeout_ms / 1000
        self._behind: set[int] = set()
        # A topic that lost its segments is read on from what is left.
        config = reader_config(brokers, ConsumerSettings(), "tail") | {"auto.offset.reset": "earliest"}
        self._consumer = Consumer(config | {"enable.partition.eof": True})

    def __enter__(self) -> Self:
        try:
            numbers = self._numbers()
            self._behind = set(numbers)
            self._consumer.assign([TopicPartition(self._topic, number, self._start) for number in numbers])
        except KafkaException as failed:
            self._consumer.close()
            raise broker_error(failed.args[0], f"reading {self._topic}", self._brokers.brokers) from None
        except BaseException:
            self._consumer.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    @property
    def at_end(self) -> bool:
        """Whether the end of every partition was reached once."""
        return not self._behind

    def __iter__(self) -> Iterator[list[Record]]:
        """Batches of records, without end; an empty one when nothing came for a moment.

        Raises:
            BrokerError: the topic was deleted, or may not be read.
        """
        while True:
            first = self._consumer.poll(_PAUSE_S)
            batch = [] if first is None else [first, *self._consumer.consume(CONSUME_BATCH, 0)]
            yield [record for record in batch if self._is_record(record)]

    def _is_record(self, record: Record) -> bool:
        error = record.error()
        if error is None:
            return True
        if error.code() == KafkaError._PARTITION_EOF:
            self._behind.discard(record.partition() or 0)
        elif error.code() in _FATAL_ERRORS or error.fatal():
            raise broker_error(error, f"reading {self._topic}", self._brokers.brokers)
        else:
            _log.warning("reading %s: %s; trying again", self._topic, error.str())
        return False

    def _numbers(self) -> list[int]:
        topics = self._consumer.list_topics(timeout=self._timeout).topics
        if self._topic not in topics:
            raise TopicError(no_such_topic(self._topic, topics, self._brokers.brokers))
        there = topics[self._topic].partitions.keys()
        if strange := sorted(self._wanted - there):
            raise TopicError(
                f"{self._topic} has no partition {strange[0]}; it has {len(there)}, from 0 to {max(there)}"
            )
        return sorted(self._wanted or there)
