"""A bounded reading of topics: from where a table stands up to where each topic ended at the start."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Final, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicCollection
from confluent_kafka import TopicPartition as Position

from coinstream.errors import BrokerError
from coinstream.kafka import (
    CONSUME_BATCH,
    FETCH_QUEUE_BACKOFF_MS,
    admin_client,
    base_config,
    broker_error,
    translate_errors,
)
from coinstream.lake.landed_offsets import LandedOffsets
from coinstream.lake.read_plan import (
    FetchedChunk,
    OffsetRange,
    ReadPlan,
    ReadProgress,
    RecordColumns,
    TopicPartition,
    make_read_plan,
)
from coinstream.settings import BrokerSettings, KafkaConfig, LakeSettings
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX

log = logging.getLogger("coinstream.lake")

_CHUNK: Final = 10_000
_WAIT_S: Final = 0.1
_SILENCE_S: Final = 60.0
_ASK_S: Final = 30
_MIB: Final = 1_048_576


def reader_config(brokers: BrokerSettings, settings: LakeSettings) -> KafkaConfig:
    """The configuration of a landing's consumer, whose prefetched messages stay within the memory setting."""
    queue = settings.memory_bytes // 32
    return {
        **base_config(brokers, "coinstream-landing"),
        "group.id": settings.landing_group,
        "enable.auto.commit": False,
        "enable.partition.eof": True,
        "auto.offset.reset": "error",
        "isolation.level": "read_committed",
        "allow.auto.create.topics": False,
        # The queue may be overshot by one response, so a response is small against it.
        "queued.max.messages.kbytes": queue // 1024,
        "fetch.max.bytes": max(min(queue // 2, 50 * _MIB), _MIB),
        "max.partition.fetch.bytes": max(min(queue // 8, 4 * _MIB), 65_536),
        "fetch.wait.max.ms": 50,
        "fetch.queue.backoff.ms": FETCH_QUEUE_BACKOFF_MS,
    }


class TopicReader:
    """Reads topics as a plain consumer: no group is joined, positions come from the table alone."""

    def __init__(self, brokers: BrokerSettings, settings: LakeSettings) -> None:
        self._brokers = brokers
        self._chunk = min(_CHUNK, settings.batch_rows)
        self._consumer = Consumer(reader_config(brokers, settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._consumer.close()

    def topics_of(self, topic: str) -> list[str]:
        """The topic and its exchange topics, as far as they exist.

        Raises:
            BrokerError: the cluster does not answer.
        """
        return sorted(
            name
            for name in self._partitions()
            if (name == topic or name.startswith(topic + "-")) and not name.endswith(DEAD_LETTER_SUFFIX)
        )

    def plan(self, topics: Sequence[str], landed: LandedOffsets) -> ReadPlan:
        """What is to be read of the topics now.

        Raises:
            BrokerError: the cluster does not answer.
            LakeError: a table stands beyond the end of a topic.
        """
        ends = {place: self._ends(place) for place in self._places(topics)}
        return make_read_plan(ends, self._topic_ids(topics), landed)

    def plan_times(self, topics: Sequence[str], since_ms: int, until_ms: int) -> ReadPlan:
        """What of the topics carries record timestamps from `since_ms` up to before `until_ms`.

        Raises:
            BrokerError: the cluster does not answer.
        """
        places = self._places(topics)
        starts, stops = self._offsets_at(places, since_ms), self._offsets_at(places, until_ms)
        spans = {place: (starts[place], stops[place]) for place in places if stops[place] > starts[place]}
        return ReadPlan(spans, self._topic_ids(topics))

    def chunks(self, plan: ReadPlan) -> Iterator[FetchedChunk]:
        """The messages of the plan, in order within a partition. Ends when every partition is at its stop.

        Raises:
            BrokerError, AuthenticationError: the cluster fails for good, or is silent for a minute.
        """
        reading = ReadProgress(plan)
        if not reading.is_open():
            return
        self._consumer.assign([Position(*place, plan.spans[place][0]) for place in reading.open_places()])
        heard = time.monotonic()
        while reading.is_open():
            records, ended = self._records()
            chunk = reading.take(records)
            # Only now: the last messages of a partition come together with the news of its end.
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
        """Tell the consumer group how far the table is, for lag tools.

        A failure is only logged: nothing but a display depends on it.
        """
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

    def _records(self) -> tuple[RecordColumns, list[TopicPartition]]:
        """A chunk of records, or what is there, and the partitions that told their end."""
        records, ended = RecordColumns(), list[TopicPartition]()
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
        """The messages, and the partitions that told their end."""
        kept = [message for message in messages if message.error() is None]
        ended = []
        for message in messages if len(kept) < len(messages) else ():
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                ended.append((str(message.topic()), int(message.partition() or 0)))
            elif error is not None and not error.retriable():
                raise broker_error(error, f"reading {message.topic()}", self._brokers.brokers)
        return kept, ended

    def _partitions(self) -> dict[str, list[int]]:
        found = translate_errors(
            lambda: self._consumer.list_topics(timeout=_ASK_S), "listing topics", self._brokers.brokers
        )
        return {name: sorted(topic.partitions) for name, topic in found.topics.items()}

    def _places(self, topics: Sequence[str]) -> list[TopicPartition]:
        partitions = self._partitions()
        return [(topic, partition) for topic in topics for partition in partitions.get(topic, ())]

    def _ends(self, place: TopicPartition) -> OffsetRange:
        low, high = translate_errors(
            lambda: self._consumer.get_watermark_offsets(Position(*place), timeout=_ASK_S),
            f"finding the ends of {place[0]}[{place[1]}]",
            self._brokers.brokers,
        )
        return low, high

    def _offsets_at(self, places: Sequence[TopicPartition], at_ms: int) -> dict[TopicPartition, int]:
        asked = [Position(*place, at_ms) for place in places]
        if not asked:
            return {}
        found = translate_errors(
            lambda: self._consumer.offsets_for_times(asked, timeout=_ASK_S),
            "finding offsets by time",
            self._brokers.brokers,
        )
        # A negative offset: no message is that young, so the time lies at the topic's end.
        return {
            (at.topic, at.partition): at.offset if at.offset >= 0 else self._ends((at.topic, at.partition))[1]
            for at in found
        }

    def _topic_ids(self, topics: Sequence[str]) -> dict[str, str | None]:
        if not topics:
            return {}
        admin = admin_client(self._brokers)
        described = admin.describe_topics(TopicCollection(list(topics)), request_timeout=_ASK_S)
        return {topic: _identity(future.result) for topic, future in described.items()}


def _identity(ask: object) -> str | None:
    try:
        told = str(ask().topic_id)  # type: ignore[operator]
    except KafkaException:
        return None
    # A broker without topic identities answers with zeros, which are As in base64.
    return told if told.strip("A=") else None
