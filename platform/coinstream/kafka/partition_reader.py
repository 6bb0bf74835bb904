"""Read a part of a topic once, selected by time or offsets. Joins no group and commits nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from coinstream.backoff import NO_LEADER, while_refused
from coinstream.errors import BrokerError, ConsumeError, TopicError
from coinstream.kafka import FETCH_QUEUE_BACKOFF_MS, BrokerConsumer, base_config, broker_error
from coinstream.kafka.records import offset_of, timestamp_ms_of
from coinstream.settings import BrokerSettings, ConsumerSettings, KafkaConfig
from coinstream.text import no_such_topic

PREFETCH_KBYTES: Final = 16_384
"""Prefetch limit of librdkafka over all partitions. A higher limit takes memory and is not faster."""


def reader_config(brokers: BrokerSettings, settings: ConsumerSettings, group: str) -> KafkaConfig:
    """Return the configuration of a bare consumer without commits."""
    return {
        **base_config(brokers, f"coinstream-{group}"),
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": settings.offset_reset,
        "session.timeout.ms": settings.session_timeout_ms,
        # librdkafka requires a poll interval of at least the session timeout.
        "max.poll.interval.ms": max(settings.max_poll_interval_ms, settings.session_timeout_ms),
        "heartbeat.interval.ms": settings.heartbeat_interval_ms,
        # A member that lost its session rejoins when its last commit is answered or given up, not before.
        "socket.timeout.ms": max(settings.session_timeout_ms, brokers.request_timeout_ms),
        "fetch.min.bytes": settings.fetch_min_bytes,
        "fetch.max.bytes": settings.fetch_max_bytes,
        "message.max.bytes": min(settings.fetch_max_bytes, 1_000_000_000),
        "max.partition.fetch.bytes": settings.partition_fetch_bytes,
        "fetch.wait.max.ms": settings.fetch_wait_ms,
        "queued.max.messages.kbytes": PREFETCH_KBYTES,
        "fetch.queue.backoff.ms": FETCH_QUEUE_BACKOFF_MS,
        "allow.auto.create.topics": False,
    }


_AFTER_ALL: Final = 2**62
Span = tuple[int, int]
"""First offset, and the offset after the last."""


@dataclass(frozen=True)
class OffsetRange:
    """Range of a topic. Missing ends are those of the topic when reading starts.

    Attributes:
        since: first record timestamp.
        until: record timestamp after the last. Timestamps are not ordered within a partition, so all records
            up to the end are read and filtered.
        from_offset: first offset in every partition.
        to_offset: last offset in every partition.
        partitions: partitions to read; None reads all.
        newest: maximum number of newest records over all partitions.
    """

    since: datetime | None = None
    until: datetime | None = None
    from_offset: int | None = None
    to_offset: int | None = None
    partitions: tuple[int, ...] | None = None
    newest: int | None = None

    def __post_init__(self) -> None:
        for moment in (self.since, self.until):
            if moment is not None and moment.tzinfo is None:
                raise ConsumeError(
                    f"time {moment.isoformat()} has no time zone; write it like 2026-11-01T00:00Z"
                )

    @property
    def since_ms(self) -> int:
        """Return the first timestamp in milliseconds, rounded up, at least 0."""
        return 0 if self.since is None else max(_milliseconds(self.since), 0)

    @property
    def until_ms(self) -> int:
        """Return the timestamp after the last in milliseconds, rounded up."""
        return _AFTER_ALL * 2 if self.until is None else _milliseconds(self.until)


def topic_partitions(
    consumer: Consumer, topic: str, wanted: tuple[int, ...] | None, brokers: str, timeout_s: float
) -> list[int]:
    """Return the requested partitions of a topic, or all if `wanted` is None.

    Raises:
        TopicError: the topic or a partition does not exist.
    """
    found = consumer.list_topics(topic, timeout=timeout_s).topics[topic]
    if found.error is not None:
        raise TopicError(no_such_topic(topic, consumer.list_topics(timeout=timeout_s).topics, brokers))
    count = len(found.partitions)
    if strange := sorted(set(wanted or ()) - found.partitions.keys()):
        raise TopicError(f"{topic} has no partition {strange[0]}; it has {count}, from 0 to {count - 1}")
    return sorted(wanted or found.partitions)


def locate(
    consumer: Consumer, topic: str, part: OffsetRange, partitions: list[int], timeout_s: float
) -> dict[int, Span]:
    """Return the current offsets of a range in each partition."""
    since = _offsets_at(consumer, topic, part.since_ms, partitions, timeout_s) if part.since else {}
    spans: dict[int, Span] = {}
    ask = while_refused(NO_LEADER, timeout_s)
    for number in partitions:
        place = TopicPartition(topic, number)
        low, high = ask(consumer.get_watermark_offsets, place, timeout=timeout_s)
        start = max(low, since.get(number, low), part.from_offset or 0)
        end = high if part.to_offset is None else min(high, part.to_offset + 1)
        spans[number] = (min(start, high), end)
    return spans if part.newest is None else _newest(spans, part.newest)


def start_offsets(
    consumer: Consumer, topic: str, part: OffsetRange, partitions: list[int], timeout_s: float
) -> dict[int, int]:
    """Return the offsets at which to start following a topic: the start of the range, or else the end.

    An offset outside a partition is moved to the nearest end of it.
    """
    if part.from_offset is not None:
        if part.from_offset <= 0:
            return dict.fromkeys(partitions, OFFSET_BEGINNING)
        # Beyond the end, librdkafka would start at the beginning.
        spans = locate(consumer, topic, part, partitions, timeout_s)
        return {number: start for number, (start, _) in spans.items()}
    if part.since is not None:
        found = _offsets_at(consumer, topic, part.since_ms, partitions, timeout_s)
        return {number: OFFSET_END if at == _AFTER_ALL else at for number, at in found.items()}
    return dict.fromkeys(partitions, OFFSET_END)


def _newest(spans: dict[int, Span], limit: int) -> dict[int, Span]:
    filled = {number: span for number, span in spans.items() if span[1] > span[0]}
    share = max(limit // max(len(filled), 1), 1)
    chosen = sorted(filled.items())[:limit]
    return {number: (max(start, end - share), end) for number, (start, end) in chosen}


def _offsets_at(
    consumer: Consumer, topic: str, at_ms: int, partitions: list[int], timeout_s: float
) -> dict[int, int]:
    asked = [TopicPartition(topic, number, at_ms) for number in partitions]
    answers = consumer.offsets_for_times(asked, timeout=timeout_s) if asked else []
    # A negative offset: every message is older, so there is nothing to read.
    return {part.partition: part.offset if part.offset >= 0 else _AFTER_ALL for part in answers}


def _milliseconds(moment: datetime) -> int:
    return -(-int(moment.timestamp() * 1_000_000) // 1000)


MAX_RECORDS: Final = 5_000
SILENCE_TIMEOUT_S: Final = 30.0
"""Timeout for further records of a range, in seconds."""
_POLL_S: Final = 0.2


class RangeReader(ABC):
    """Base of readers of one topic: open a consumer, locate the range, and close the consumer again."""

    def __init__(
        self, brokers: BrokerSettings, topic: str, offsets: OffsetRange | None, config: KafkaConfig
    ) -> None:
        self._brokers = brokers
        self._topic = topic
        self._range = offsets or OffsetRange()
        self._timeout_s = brokers.request_timeout_ms / 1000
        # If retention deletes unread records, reading continues at the earliest available record.
        own = {"enable.partition.eof": True, "auto.offset.reset": "earliest"}
        self._consumer = BrokerConsumer(config | own, brokers)

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

    @abstractmethod
    def _locate(self) -> None:
        """Find the partitions and offsets at which reading starts."""

    def _partitions(self, wanted: tuple[int, ...] | None, timeout_s: float) -> list[int]:
        return topic_partitions(self._consumer, self._topic, wanted, self._brokers.brokers, timeout_s)


class PartitionReader(RangeReader):
    """Reader of an offset range of a topic up to its end at the start, in order within each partition.

    Attributes:
        total: number of offsets in the range, which is at least the number of messages.
        read: number of offsets read so far.
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
        config = reader_config(brokers, settings, "coinstream-reader")
        super().__init__(brokers, topic, offsets, config | {"queued.max.messages.kbytes": prefetch_kbytes})
        self._max_records = max_records
        self._starts: dict[int, int] = {}
        self._ends: dict[int, int] = {}
        self._at: dict[int, int] = {}

    def __iter__(self) -> Iterator[list[Record]]:
        """Yield the records in batches, each partition in order.

        Raises:
            BrokerError: the broker does not send the records.
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
        """Return the number of offsets in the range."""
        return sum(max(self._ends[number] - start, 0) for number, start in self._starts.items())

    @property
    def read(self) -> int:
        """Return the number of offsets read so far."""
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
            # Only control records and open transactions remain before the end.
            self._at[number] = self._ends[number]
            return False
        offset = offset_of(record)
        if self._at[number] <= offset < self._ends[number]:
            self._at[number] = offset + 1
            return self._range.since_ms <= max(timestamp_ms_of(record), 0) < self._range.until_ms
        self._at[number] = max(self._at[number], self._ends[number])
        return False

    def _locate(self) -> None:
        numbers = self._partitions(self._range.partitions, self._timeout_s)
        spans = locate(self._consumer, self._topic, self._range, numbers, self._timeout_s)
        for number, (start, end) in spans.items():
            self._starts[number] = self._at[number] = start
            self._ends[number] = end
