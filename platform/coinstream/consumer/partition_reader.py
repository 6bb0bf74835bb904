"""Read a part of a topic once, from its beginning to its end. Joins no group and commits nothing."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Final, Self

from confluent_kafka import KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from coinstream.consumer.config import PREFETCH_KBYTES, reader_config
from coinstream.consumer.offset_range import OffsetRange, locate, topic_partitions
from coinstream.errors import BrokerError
from coinstream.kafka import BrokerConsumer, broker_error
from coinstream.records import offset_of, timestamp_ms_of
from coinstream.settings import BrokerSettings, ConsumerSettings

MAX_RECORDS: Final = 5_000
SILENCE_TIMEOUT_S: Final = 30.0
"""A broker that sends nothing for this long, although there is more, is an error."""
_POLL_S: Final = 0.2


class PartitionReader:
    """Reads an offset range of a topic, each partition in order, up to its end when reading began.

    Attributes:
        total: offsets in the range: the count of messages, or a little more where records were compacted.
        read: how many of these offsets have been passed.
    """

    def __init__(
        self,
        brokers: BrokerSettings,
        settings: ConsumerSettings,
        topic: str,
        offsets: OffsetRange | None = None,
        *,
        max_records: int = MAX_RECORDS,
        prefetch_kbytes: int = PREFETCH_KBYTES,
    ) -> None:
        self._brokers = brokers
        self._topic = topic
        self._range = offsets or OffsetRange()
        self._max_records = max_records
        self._timeout_s = brokers.request_timeout_ms / 1000
        self._consumer = BrokerConsumer(
            reader_config(brokers, settings, "coinstream-reader")
            | {
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": prefetch_kbytes,
            },
            brokers,
        )
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._at: dict[int, int] = {}

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
        """Yield the records in batches, each partition in order.

        Raises:
            BrokerError: the broker does not send them.
        """
        unfinished = {number for number, end in self._ends.items() if self._at[number] < end}
        self._consumer.assign(
            [TopicPartition(self._topic, number, self._at[number]) for number in unfinished]
        )
        silent_s = 0.0
        while unfinished:
            first = self._consumer.poll(_POLL_S)
            if first is None:
                silent_s += _POLL_S
                self._check_silence(silent_s)
                continue
            silent_s = 0.0
            batch = [first, *self._consumer.consume(self._max_records - 1, 0)]
            records = [record for record in batch if self._belongs(record)]
            if records:
                yield records
            unfinished -= {number for number in unfinished if self._at[number] >= self._ends[number]}

    @property
    def total(self) -> int:
        """Return the count of offsets in the range."""
        return sum(max(self._ends[number] - start, 0) for number, start in self._starts.items())

    @property
    def read(self) -> int:
        """Return the count of offsets that have been passed."""
        return sum(self._at[number] - start for number, start in self._starts.items())

    def _check_silence(self, silent_s: float) -> None:
        refused = self._consumer.failure()
        if refused is not None:
            raise broker_error(refused, f"reading {self._topic}", self._brokers.brokers)
        if silent_s > SILENCE_TIMEOUT_S:
            raise BrokerError(
                f"reading {self._topic}: {self._brokers.brokers} sent nothing for "
                f"{SILENCE_TIMEOUT_S:g} s. Is the broker running?"
            )

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
            return self._range.since_ms <= max(timestamp_ms_of(record), 0) < self._range.until_ms
        self._at[number] = max(self._at[number], self._ends[number])
        return False

    def _locate(self) -> None:
        numbers = topic_partitions(
            self._consumer, self._topic, self._range.partitions, self._brokers.brokers, self._timeout_s
        )
        for number, (start, end) in locate(
            self._consumer, self._topic, self._range, numbers, self._timeout_s
        ).items():
            self._starts[number] = self._at[number] = start
            self._ends[number] = end
