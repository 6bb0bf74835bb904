"""Read topics from the landed offsets to their ends at the start of a landing."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from operator import is_
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection
from confluent_kafka import TopicPartition as Position
from confluent_kafka.admin import OffsetSpec, TopicDescription

from coinstream.errors import BrokerError
from coinstream.kafka import (
    CONSUME_BATCH,
    FETCH_QUEUE_BACKOFF_MS,
    admin_client,
    base_config,
    broker_error,
    translate_errors,
)
from coinstream.lake.landed_offsets import LandedOffsets, is_another
from coinstream.lake.read_plan import (
    FetchedChunk,
    ReadPlan,
    ReadProgress,
    RecordColumns,
    TopicPartition,
    TopicSelection,
    known_exchanges,
    make_read_plan,
    select_topics,
)
from coinstream.settings import BrokerSettings, HomeSettings, KafkaConfig, LakeSettings

log = logging.getLogger("coinstream.lake")

OUT_OF_ORDER_MS: Final = 2 * 3_600_000
"""Maximum disorder of the timestamps of a partition. Brokers accept records up to one hour ahead."""
_CHUNK: Final = 10_000
_WAIT_S: Final = 0.1
_SILENCE_S: Final = 60.0
_MIB: Final = 1_048_576


class ExpiredOffsetsError(BrokerError):
    """Retention deleted messages between planning and reading."""


def topic_reader_config(brokers: BrokerSettings, settings: LakeSettings) -> KafkaConfig:
    """Return the configuration of a landing's consumer, with a prefetch limit from the memory setting."""
    queue = settings.memory_bytes // 32
    return {
        **base_config(brokers, "coinstream-landing"),
        "group.id": settings.landing_group,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "allow.auto.create.topics": False,
        # One response may exceed the queue, so responses are small compared to it.
        "queued.max.messages.kbytes": queue // 1024,
        "fetch.max.bytes": max(min(queue // 2, 50 * _MIB), _MIB),
        "max.partition.fetch.bytes": max(min(queue // 8, 4 * _MIB), 65_536),
        "fetch.wait.max.ms": 50,
        "fetch.queue.backoff.ms": FETCH_QUEUE_BACKOFF_MS,
    }


class TopicReader:
    """Reader of topics without a group. Start offsets come only from the table.

    It is not a `PartitionReader`: that one reads one topic per connection, passes over offsets that retention
    has deleted, and hands out records one object each. Landing reads all topics of a table at once, must stop
    at a deleted offset, and needs columns.
    """

    def __init__(self, brokers: BrokerSettings, settings: LakeSettings) -> None:
        self._brokers = brokers
        self._settings = settings
        self._chunk = min(_CHUNK, settings.batch_rows)
        self._admin = admin_client(brokers)
        self._consumer = Consumer(topic_reader_config(brokers, settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def select_topics(self, topic: str) -> TopicSelection:
        """Return the existing topics among the general topic and those of known exchanges.

        Raises:
            BrokerError: the cluster does not answer.
            AuthenticationError: the user may not see the topic, or one of the configured exchange topics.
        """
        found = translate_errors(
            lambda: self._admin.list_topics(timeout=self._wait_s), "listing topics", self._brokers.brokers
        )
        configured = [f"{topic}-{exchange}" for exchange in HomeSettings().exchange_topics]
        # A list contains only visible topics. A request by name distinguishes missing from forbidden ones.
        self._describe([name for name in (topic, *configured) if name not in found.topics])
        return select_topics(topic, found.topics, known_exchanges(self._settings))

    def plan(self, topics: Sequence[str], landed: LandedOffsets) -> ReadPlan:
        """Return the plan from the landed offsets to the current ends of topics.

        Raises:
            BrokerError: the cluster does not answer.
            LakeError: the landed offset is after the end of a topic.
        """
        described = self._describe(topics)
        partitions = _partitions(described)
        lows = self._offsets(partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
        highs = self._offsets(partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
        ends = {partition: (lows[partition], highs[partition]) for partition in partitions}
        return make_read_plan(ends, _topic_ids(described), landed)

    def recreated_since(self, ids: Mapping[str, str | None]) -> list[str]:
        """Return the topics whose ids differ from the given ones.

        Raises:
            BrokerError: the cluster does not answer.
        """
        current = _topic_ids(self._describe(list(ids)))
        return [topic for topic, known in ids.items() if is_another(known, current.get(topic))]

    def plan_times(self, topics: Sequence[str], since_ms: int, until_ms: int) -> ReadPlan:
        """Return the plan of records with timestamps from `since_ms` to before `until_ms`.

        Timestamps of a partition are not in order. The plan reaches up to the first record that is
        `OUT_OF_ORDER_MS` later, so that it includes late records. It includes other records too.

        Raises:
            BrokerError: the cluster does not answer.
        """
        described = self._describe(topics)
        partitions = _partitions(described)
        times = since_ms, until_ms + OUT_OF_ORDER_MS
        starts, stops = (self._offsets_at(partitions, at_ms) for at_ms in times)
        spans = {
            partition: (starts[partition], stops[partition])
            for partition in partitions
            if stops[partition] > starts[partition]
        }
        return ReadPlan(spans, _topic_ids(described))

    def chunks(self, plan: ReadPlan) -> Iterator[FetchedChunk]:
        """Yield the records of the plan, in order within each partition, until the end offsets.

        Raises:
            BrokerError, AuthenticationError: the cluster fails permanently, or does not answer for a minute.
        """
        reading = ReadProgress(plan)
        if not reading.is_open():
            return
        self._learn_leaders(reading.topics)
        self._consumer.assign([Position(*place, plan.spans[place][0]) for place in reading.open_places()])
        heard = time.monotonic()
        while reading.is_open():
            records, ended = self._records(reading.topics)
            chunk = reading.take(records)
            # After the messages, because the last ones arrive together with the end-of-partition event.
            for place in ended:
                reading.at_end(place)
            if len(chunk):
                yield chunk
            if records or ended:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE_S:
                raise BrokerError(
                    f"no message of {', '.join(reading.topics)} came from {self._brokers.brokers} for "
                    f"{_SILENCE_S:g} s, though the topics are not at their end. Is the cluster healthy?"
                )
            if closed := reading.newly_closed():
                self._consumer.incremental_unassign([Position(*place) for place in closed])
        self._consumer.unassign()

    def report(self, positions: LandedOffsets) -> None:
        """Commit the landed offsets to the consumer group for lag tools. An error is only logged."""
        offsets = [
            Position(topic, partition, offset)
            for topic, position in positions.topics.items()
            for partition, offset in position.next.items()
        ]
        try:
            if offsets:
                self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            log.warning("landed offsets could not be reported to the group: %s", error.args[0])

    def _learn_leaders(self, topics: Sequence[str]) -> None:
        """Ask for the leaders of partitions before they are assigned.

        The client asks only once a second for the leader of a partition that it does not know.
        """
        for topic in topics:
            translate_errors(
                partial(self._consumer.list_topics, topic, timeout=self._wait_s),
                f"describing {topic}",
                self._brokers.brokers,
            )

    def _records(self, topics: Sequence[str]) -> tuple[RecordColumns, list[TopicPartition]]:
        """Return a chunk of records, and the partitions that reached their end."""
        records, ended = RecordColumns(topics), list[TopicPartition]()
        while room := self._chunk - len(records):
            asked = min(CONSUME_BATCH, room)
            messages = self._consumer.consume(asked, _WAIT_S)
            kept, ends = self._parted(messages)
            records.add(kept)
            ended += ends
            if len(messages) < asked:
                break
        return records, ended

    def _parted(self, messages: list[Message]) -> tuple[list[Message], list[TopicPartition]]:
        """Return the messages, and the partitions that reached their end."""
        if all(map(is_, map(Message.error, messages), repeat(None))):
            return messages, []
        kept = [message for message in messages if message.error() is None]
        ended = []
        for message in messages:
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                ended.append((str(message.topic()), int(message.partition() or 0)))
            elif error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET:
                raise ExpiredOffsetsError(
                    f"retention removed messages of {message.topic()}[{message.partition()}] while they were "
                    "read; what is left can be read"
                )
            elif error is not None and not error.retriable():
                raise broker_error(error, f"reading {message.topic()}", self._brokers.brokers)
        return kept, ended

    @property
    def _wait_s(self) -> float:
        return self._brokers.request_timeout_ms / 1000

    def _describe(self, topics: Sequence[str]) -> dict[str, TopicDescription]:
        """Return the description of each topic that exists.

        Raises:
            BrokerError, AuthenticationError: the cluster does not answer, or refuses to describe a topic.
        """
        if not topics:
            return {}
        asked = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=self._wait_s)
        found = {}
        for topic, future in asked.items():
            try:
                found[topic] = future.result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise broker_error(error.args[0], f"describing {topic}", self._brokers.brokers) from None
        return found

    def _offsets(self, partitions: Sequence[TopicPartition], at: OffsetSpec) -> dict[TopicPartition, int]:
        if not partitions:
            return {}
        asked = self._admin.list_offsets(
            {Position(*partition): at for partition in partitions}, request_timeout=self._wait_s
        )
        return {
            (part.topic, part.partition): translate_errors(
                answer.result, f"asking for the offsets of {part.topic}", self._brokers.brokers
            ).offset
            for part, answer in asked.items()
        }

    def _offsets_at(self, partitions: Sequence[TopicPartition], at_ms: int) -> dict[TopicPartition, int]:
        found = self._offsets(partitions, OffsetSpec.for_timestamp(at_ms))
        # A negative offset means that every record is older.
        open_ended = [partition for partition, offset in found.items() if offset < 0]
        return found | self._offsets(open_ended, OffsetSpec.latest())  # type: ignore[no-untyped-call]


def _partitions(described: Mapping[str, TopicDescription]) -> list[TopicPartition]:
    return [(topic, part.id) for topic, found in described.items() for part in found.partitions]


def _topic_ids(described: Mapping[str, TopicDescription]) -> dict[str, str | None]:
    """Return the id of each topic. A broker without topic ids returns zeros (As in base64)."""
    return {
        topic: str(found.topic_id) if str(found.topic_id).strip("A=") else None
        for topic, found in described.items()
    }
