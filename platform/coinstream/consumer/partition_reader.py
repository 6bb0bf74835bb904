"""A part of a topic, by time or by offsets, read once from its beginning to its end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from coinstream.consumer.config import reader_config
from coinstream.consumer.consumed_message import offset_of
from coinstream.errors import BrokerError, ConsumeError, TopicError
from coinstream.kafka import broker_error
from coinstream.settings import BrokerSettings, ConsumerSettings
from coinstream.suggestions import no_such_topic

MAX_RECORDS: Final = 5_000
SILENCE_TIMEOUT_S: Final = 30.0
"""A broker that sends nothing for so long, although there is more, is an error."""
_PAUSE_S: Final = 0.2


@dataclass(frozen=True)
class OffsetRange:
    """Which messages. Ends that are not given are those of the topic when reading begins.

    Attributes:
        since: the first record timestamp.
        until: only record timestamps before this. Since timestamps are not in order within a partition
            (keys come over different connections), everything up to the end is read and sorted out.
        from_offset: the first offset, in every partition.
        to_offset: the last offset, in every partition.
        partitions: only these; None: all.
    """

    since: datetime | None = None
    until: datetime | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    partitions: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise ConsumeError(
                    f"time {moment.isoformat()} has no time zone; write it like 2026-11-01T00:00Z"
                )


class PartitionReader:
    """Reads a span. Joins no group and commits nothing; ends at what the topic held at the beginning.

    Attributes:
        total: offsets in the span: the count of messages, or a little more where records were compacted.
        read: how many offsets of them are behind.
    """

    def __init__(
        self, brokers: BrokerSettings, settings: ConsumerSettings, topic: str, span: OffsetRange | None = None
    ) -> None:
        self._brokers = brokers
        self._topic = topic
        self._span = span or OffsetRange()
        self._timeout = brokers.request_timeout_ms / 1000
        self._consumer = Consumer(
            reader_config(brokers, settings, "coinstream-span")
            | {"enable.partition.eof": True, "auto.offset.reset": "earliest"}
        )
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._at: dict[int, int] = {}
        self._since_ms = _milliseconds(self._span.since, 0)
        self._until_ms = _milliseconds(self._span.until, 2**62)

    def __enter__(self) -> Self:
        try:
            self._locate()
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

    def __iter__(self) -> Iterator[list[Record]]:
        """Records in batches, each partition in order.

        Raises:
            BrokerError: the broker does not send them.
        """
        open_ones = {number for number, end in self._ends.items() if self._at[number] < end}
        self._consumer.assign([TopicPartition(self._topic, number, self._at[number]) for number in open_ones])
        silent = 0.0
        while open_ones:
            first = self._consumer.poll(_PAUSE_S)
            if first is None:
                silent += _PAUSE_S
                if silent > SILENCE_TIMEOUT_S:
                    raise BrokerError(
                        f"reading {self._topic}: {self._brokers.brokers} sent nothing for "
                        f"{SILENCE_TIMEOUT_S:g} s. Is the broker running?"
                    )
                continue
            silent = 0.0
            batch = [first, *self._consumer.consume(MAX_RECORDS, 0)]
            records = [record for record in batch if self._belongs(record)]
            if records:
                yield records
            open_ones -= {number for number in open_ones if self._at[number] >= self._ends[number]}

    @property
    def total(self) -> int:
        """Offsets in the span."""
        return sum(max(self._ends[number] - start, 0) for number, start in self._starts.items())

    @property
    def read(self) -> int:
        """Offsets that are behind."""
        return sum(self._at[number] - start for number, start in self._starts.items())

    def _belongs(self, record: Record) -> bool:
        number, error = record.partition() or 0, record.error()
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise broker_error(error, f"reading {self._topic}[{number}]", self._brokers.brokers)
            # Control records and open transactions: there is no more to read before the end.
            self._at[number] = self._ends[number]
            return False
        offset = offset_of(record)
        if self._at[number] <= offset < self._ends[number]:
            self._at[number] = offset + 1
            return self._since_ms <= max(record.timestamp()[1], 0) < self._until_ms
        self._at[number] = max(self._at[number], self._ends[number])
        return False

    def _locate(self) -> None:
        found = self._consumer.list_topics(self._topic, timeout=self._timeout).topics[self._topic]
        if found.error is not None:
            there = self._consumer.list_topics(timeout=self._timeout).topics
            raise TopicError(no_such_topic(self._topic, there, self._brokers.brokers))
        wanted = self._span.partitions or tuple(sorted(found.partitions))
        if strange := sorted(set(wanted) - found.partitions.keys()):
            raise TopicError(f"{self._topic} has no partition {strange}; it has {len(found.partitions)}")
        since = self._first_offsets(wanted)
        for number in wanted:
            low, high = self._consumer.get_watermark_offsets(
                TopicPartition(self._topic, number), timeout=self._timeout
            )
            start = max(low, since.get(number, low), self._span.from_offset or 0)
            end = high if self._span.to_offset is None else min(high, self._span.to_offset + 1)
            self._starts[number] = self._at[number] = min(start, high)
            self._ends[number] = end

    def _first_offsets(self, partitions: tuple[int, ...]) -> dict[int, int]:
        if self._span.since is None:
            return {}
        asked = [TopicPartition(self._topic, number, self._since_ms) for number in partitions]
        answers = self._consumer.offsets_for_times(asked, timeout=self._timeout)
        # -1: every message is older, so there is nothing to read.
        return {part.partition: part.offset if part.offset >= 0 else 2**62 for part in answers}


def _milliseconds(moment: datetime | None, otherwise: int) -> int:
    return otherwise if moment is None else -(-int(moment.timestamp() * 1_000_000) // 1000)
