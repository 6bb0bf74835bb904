"""Set the committed offsets of a consumer group that has no members."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from confluent_kafka import (
    Consumer,
    ConsumerGroupState,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)

from coinstream.backoff import while_refused
from coinstream.consumer.start_offsets import CommitMetadata
from coinstream.errors import ConsumeError, TopicError
from coinstream.kafka import admin_client, broker_error
from coinstream.kafka.partition_reader import reader_config
from coinstream.kafka.records import PartitionKey
from coinstream.settings import BrokerSettings, ConsumerSettings
from coinstream.text import no_such_topic

ResetTarget = Literal["earliest", "latest"] | datetime | int
"""Target of a reset: an end of the topic, a record time, or an offset."""

_EARLIEST: Final = -2
_LATEST: Final = -1
_PASSING: Final = {
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
}
_WITHOUT_MEMBERS: Final = {ConsumerGroupState.EMPTY, ConsumerGroupState.DEAD, ConsumerGroupState.UNKNOWN}


@dataclass(frozen=True)
class OffsetChange:
    """Change of the committed offset of one partition.

    Attributes:
        before: committed offset; None if there was none.
        after: new offset.
        repeated: number of offsets that are handled again.
        skipped: number of offsets that are skipped. As in lag, a partition without a committed offset counts
            from its first offset, and offsets that retention removed do not count.
    """

    topic: str
    partition: int
    before: int | None
    after: int
    repeated: int
    skipped: int


def _change(key: PartitionKey, before: int | None, after: int, earliest: int) -> OffsetChange:
    start = max(before or 0, earliest)
    repeated = 0 if before is None else max(start - after, 0)
    return OffsetChange(*key, before, after, repeated, max(after - start, 0))


class OffsetReset:
    """Plan and application of new offsets of a group."""

    def __init__(self, brokers: BrokerSettings, group: str) -> None:
        """Prepare a reset.

        Raises:
            ConsumeError: the name of the group is empty.
        """
        self._brokers = brokers
        if not group:
            # librdkafka ends the process.
            raise ConsumeError("the name of a consumer group is empty")
        self._group = group
        self._timeout_s = brokers.request_timeout_ms / 1000
        self._admin = admin_client(brokers)

    def plan(self, to: ResetTarget, topics: Sequence[str] = ()) -> list[OffsetChange]:
        """Return the changes for topics, or by default for all topics with offsets of the group.

        Raises:
            TopicError: a topic does not exist.
            ConsumeError: the group has no offsets, and no topic is given.
            BrokerError: the cluster does not answer.
        """
        existing = self._partitions(topics)
        consumer = self._consumer()
        try:
            committed = self._committed(consumer, existing)
            if not topics:
                known = {topic for topic, _ in committed}
                existing = [key for key in existing if key[0] in known]
            if not existing:
                raise ConsumeError(
                    f"group {self._group} has no committed offsets; name its topics with --topic"
                )
            earliest = self._at(consumer, existing, _EARLIEST)
            targets = self._targets(consumer, existing, to, earliest)
        except KafkaException as failed:
            raise self._error(failed, "finding offsets") from None
        finally:
            consumer.close()
        return [_change(key, committed.get(key), targets[key], earliest[key]) for key in sorted(existing)]

    def apply(self, changes: Sequence[OffsetChange]) -> None:
        """Commit the planned offsets.

        Raises:
            ConsumeError: the group has members, whose next commit would undo the change.
            BrokerError: the cluster does not answer, or refuses the commit.
        """
        self._require_no_members()
        metadata = self._metadata({change.topic for change in changes})
        consumer = self._consumer()
        try:
            answers = consumer.commit(
                offsets=[
                    TopicPartition(
                        change.topic, change.partition, change.after, metadata=metadata[change.topic]
                    )
                    for change in changes
                ],
                asynchronous=False,
            )
        except KafkaException as failed:
            raise self._error(failed, "committing") from None
        finally:
            consumer.close()
        for answer in answers:
            if answer.error is not None:
                raise self._error(KafkaException(answer.error), f"committing {answer.topic}")

    def _partitions(self, topics: Sequence[str]) -> list[PartitionKey]:
        try:
            found = self._admin.list_topics(timeout=self._timeout_s).topics
        except KafkaException as failed:
            raise self._error(failed, "listing topics") from None
        for topic in topics:
            if topic not in found:
                raise TopicError(no_such_topic(topic, found, self._brokers.brokers))
        return [(name, number) for name in topics or found for number in found[name].partitions]

    def _committed(self, consumer: Consumer, keys: Iterable[PartitionKey]) -> dict[PartitionKey, int]:
        asked = [TopicPartition(*key) for key in keys]
        # A newly elected coordinator refuses requests temporarily.
        attempts = while_refused(_PASSING, self._timeout_s)
        answers = attempts(consumer.committed, asked, timeout=self._timeout_s) if asked else []
        return {(part.topic, part.partition): part.offset for part in answers if part.offset >= 0}

    def _targets(
        self,
        consumer: Consumer,
        keys: list[PartitionKey],
        to: ResetTarget,
        earliest: dict[PartitionKey, int],
    ) -> dict[PartitionKey, int]:
        latest = self._at(consumer, keys, _LATEST)
        if to == "earliest":
            return earliest
        if to == "latest":
            return latest
        if isinstance(to, datetime):
            # Negative numbers are the ends of a partition, not times before 1970.
            found = self._at(consumer, keys, max(int(to.timestamp() * 1000), 0))
            # Every record is older, so that nothing is left to read.
            return {key: at if at >= 0 else latest[key] for key, at in found.items()}
        return {key: min(max(int(to), earliest[key]), latest[key]) for key in keys}

    def _at(self, consumer: Consumer, keys: list[PartitionKey], at: int) -> dict[PartitionKey, int]:
        asked = [TopicPartition(*key, at) for key in keys]
        answers = consumer.offsets_for_times(asked, timeout=self._timeout_s)
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
        return {(answer.topic, answer.partition): answer.offset for answer in answers}

    def _require_no_members(self) -> None:
        try:
            described = self._admin.describe_consumer_groups([self._group], request_timeout=self._timeout_s)
            found = described[self._group].result()
        except KafkaException as failed:
            raise self._error(failed, "describing the group") from None
        if found.state not in _WITHOUT_MEMBERS:
            raise ConsumeError(f"group {self._group} has {len(found.members)} member(s); stop them first")

    def _metadata(self, topics: set[str]) -> dict[str, str]:
        described = self._admin.describe_topics(
            TopicCollection(sorted(topics)), request_timeout=self._timeout_s
        )
        found: dict[str, str] = {}
        for topic, answer in described.items():
            try:
                one = answer.result()
            except KafkaException as failed:
                raise self._error(failed, f"describing {topic}") from None
            topic_id = str(one.topic_id)
            found[topic] = CommitMetadata(
                topic_id if topic_id.strip("A=") else "", len(one.partitions)
            ).encode()
        return found

    def _consumer(self) -> Consumer:
        return Consumer(reader_config(self._brokers, ConsumerSettings(), self._group))

    def _error(self, failed: KafkaException, doing: str) -> Exception:
        said = f"resetting group {self._group}: {doing}"
        return broker_error(failed.args[0], said, self._brokers.brokers)
