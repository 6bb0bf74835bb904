"""Choose the start offsets of assigned partitions, and report offsets deleted by retention."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, TopicDescription

from coinstream.backoff import NO_LEADER, while_refused
from coinstream.kafka import admin_client, is_fatal
from coinstream.kafka.records import PartitionKey
from coinstream.settings import BrokerSettings

log = logging.getLogger("coinstream.consumer")

COMMITTED_TIMEOUT_S: Final = 10.0
"""Timeout of a request for committed offsets, in seconds."""
COMMITTED_ATTEMPTS: Final = 3
"""Maximum requests for committed offsets. The polling thread waits for them, for less than the maximum poll
interval (a minute by default)."""
ADMIN_TIMEOUT_S: Final = 5.0
_FORMAT: Final = "coinstream/1"

OffsetReset = Literal["latest", "earliest", "error"]


class CommitMetadata(NamedTuple):
    """Metadata text committed with each offset.

    Attributes:
        topic_id: id of the topic, which changes if the topic is recreated.
        partitions: number of partitions when the group started to read the topic; further ones were added.
    """

    topic_id: str = ""
    partitions: int = 0

    def encode(self) -> str:
        """Return the text to commit."""
        return f"{_FORMAT} {self.topic_id or '-'} {self.partitions}"

    @classmethod
    def decode(cls, text: str | None) -> CommitMetadata:
        """Parse committed metadata; return empty metadata if another client wrote it."""
        words = (text or "").split()
        if len(words) != 3 or words[0] != _FORMAT or not words[2].isdecimal():
            return cls()
        return cls("" if words[1] == "-" else words[1], int(words[2]))


@dataclass(frozen=True)
class OffsetGap:
    """Offsets of a partition that were deleted before they were handled.

    Attributes:
        first: first missing offset; -1 if the topic was recreated.
        last: last missing offset; -1 if the topic was recreated.
        reason: reason as a sentence.
    """

    topic: str
    partition: int
    first: int
    last: int
    reason: str


class StartOffsets:
    """Resolver of the start offsets of a member's partitions.

    A group without offsets starts according to `reset`. Afterwards no message is skipped: added partitions
    and recreated topics are read from their start, and after a deletion by retention reading continues at the
    earliest available record.

    Attributes:
        gaps: offsets deleted before they were handled, and topics that were recreated.
    """

    def __init__(self, group: str, brokers: BrokerSettings, reset: OffsetReset) -> None:
        self._group = group
        self._brokers = brokers
        self._reset = reset
        self._admin: AdminClient | None = None
        self._topic_ids: dict[str, str] = {}
        self._answers: Mapping[str, Future[TopicDescription]] = {}
        self._counts: dict[str, int] = {}
        self._partitions: dict[str, int] = {}
        self.gaps: list[OffsetGap] = []

    def find(self, consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
        """Return the partitions with their start offsets.

        librdkafka requests committed offsets only once: after a response of a broker that is not the
        coordinator, the partitions stay without a fetcher (librdkafka issue 5586).
        """
        if not partitions:
            return partitions
        committed = committed_offsets(self._group, consumer, partitions)
        topics = {part.topic for part in partitions}
        # Older responses may contain ids from before this assignment.
        self._answers = {}
        created_again = self._created_again(self._topic_ids_in(self._describe(topics)))
        self._learn_partitions(consumer, topics)
        starts = [self._start(part, created_again) for part in committed]
        self._resolve_ends(consumer, [start for start in starts if start.offset == OFFSET_END])
        return starts

    def metadata(self, topic: str) -> str:
        """Return the text to commit with an offset of a topic."""
        return CommitMetadata(self._topic_ids.get(topic, ""), self._partitions.get(topic, 0)).encode()

    def check_topics(self, topics: Iterable[str]) -> set[str]:
        """Return the topics that were recreated since their assignment, without waiting.

        Each call processes the responses to the requests of the previous call.
        """
        if any(not answer.done() for answer in self._answers.values()):
            return set()
        changed = self._created_again(self._topic_ids_in(self._answers))
        self._answers = self._describe(topics)
        return changed

    def _describe(self, topics: Iterable[str]) -> Mapping[str, Future[TopicDescription]]:
        wanted = sorted(topics)
        if not wanted:
            return {}
        self._admin = self._admin or admin_client(self._brokers)
        return self._admin.describe_topics(TopicCollection(wanted), request_timeout=ADMIN_TIMEOUT_S)

    def _topic_ids_in(self, answers: Mapping[str, Future[TopicDescription]]) -> dict[str, str]:
        """Return the id of each topic, as far as the cluster reports it."""
        found: dict[str, str] = {}
        for topic, answer in answers.items():
            try:
                described = answer.result()
            except KafkaException as failed:
                log.debug("group %s: the id of %s is not known: %s", self._group, topic, failed)
                continue
            self._counts[topic] = len(described.partitions)
            topic_id = str(described.topic_id)
            # A broker without topic ids returns zeros, which are As in base64.
            if topic_id.strip("A="):
                found[topic] = topic_id
        return found

    def after_gap(self, consumer: Consumer, key: PartitionKey, position: int | None) -> int | None:
        """Return the offset at which to continue after a deleted one, or None if the group must stop.

        The gap is logged and added to `gaps`.
        """
        if self._reset == "error":
            return None
        topic, partition = key
        ask = while_refused(NO_LEADER, ADMIN_TIMEOUT_S)
        low, high = ask(consumer.get_watermark_offsets, TopicPartition(*key), timeout=ADMIN_TIMEOUT_S)
        if position is None:
            return high if self._reset == "latest" else low
        if position < low:
            reason = "deleted by retention before they were handled"
            self._report(OffsetGap(topic, partition, position, low - 1, reason), low)
        else:
            reason = f"the partition ends at {high}, before the position {position}: it was truncated"
            self._report(OffsetGap(topic, partition, -1, -1, reason), low)
        return low

    def report_recreated(self, topic: str, partition: int) -> None:
        """Log that a partition of a recreated topic is read from its start, and add it to `gaps`."""
        reason = "the topic was deleted and created again; it is read from its start"
        self._report(OffsetGap(topic, partition, -1, -1, reason), 0)

    def _start(self, part: TopicPartition, created_again: set[str]) -> TopicPartition:
        metadata = CommitMetadata.decode(part.metadata)
        topic_id = self._topic_ids.get(part.topic, "")
        is_other_topic = bool(topic_id and metadata.topic_id) and topic_id != metadata.topic_id
        offset = part.offset
        if part.topic in created_again or is_other_topic:
            self.report_recreated(part.topic, part.partition)
            offset = OFFSET_BEGINNING
        elif offset < 0:
            offset = self._first_start(part)
        return TopicPartition(part.topic, part.partition, offset)

    def _first_start(self, part: TopicPartition) -> int:
        """Return the start of a partition without a committed offset."""
        if self._reset == "error":
            return OFFSET_INVALID
        known = self._partitions.get(part.topic)
        is_added = known is not None and part.partition >= known
        return OFFSET_BEGINNING if self._reset == "earliest" or is_added else OFFSET_END

    def _resolve_ends(self, consumer: Consumer, starts: list[TopicPartition]) -> None:
        """Replace logical offsets by numbers, which are committed at once so that a restart skips nothing."""
        if not starts:
            return
        try:
            found = consumer.offsets_for_times(starts, timeout=ADMIN_TIMEOUT_S)
        except KafkaException as failed:
            log.warning("group %s: the ends of partitions are not known: %s", self._group, failed.args[0])
            return
        ends = {(part.topic, part.partition): part.offset for part in found if part.error is None}
        for start in starts:
            start.offset = ends.get((start.topic, start.partition), OFFSET_END)

    def _learn_partitions(self, consumer: Consumer, topics: set[str]) -> None:
        """Determine the number of partitions of each topic when the group started to read it."""
        for topic in topics - self._partitions.keys():
            # `consumer.list_topics` aborts the process within a rebalance callback (an assertion).
            count = self._counts.get(topic)
            if count is None:
                log.warning("group %s: the partitions of %s are not known", self._group, topic)
                continue
            everywhere = committed_offsets(
                self._group, consumer, [TopicPartition(topic, number) for number in range(count)]
            )
            held = [part for part in everywhere if part.offset >= 0]
            counts = [CommitMetadata.decode(part.metadata).partitions for part in held]
            # Offsets of other clients have no metadata: partitions without an offset then count as added.
            self._partitions[topic] = min(filter(None, counts), default=0) if held else count

    def _created_again(self, topic_ids: dict[str, str]) -> set[str]:
        changed = {topic for topic, found in topic_ids.items() if self._topic_ids.get(topic, found) != found}
        self._topic_ids |= topic_ids
        return changed

    def _report(self, gap: OffsetGap, start: int) -> None:
        self.gaps.append(gap)
        lost = f"offsets {gap.first} to {gap.last}: " if gap.first >= 0 else ""
        log.error(
            "group %s: %s[%d]: %s%s; goes on at offset %d",
            *(self._group, gap.topic, gap.partition, lost, gap.reason, start),
        )


def committed_offsets(
    group: str, consumer: Consumer, partitions: list[TopicPartition]
) -> list[TopicPartition]:
    """Return the partitions with their committed offsets, or unchanged if the coordinator does not answer."""
    if not partitions:
        # A rebalance without new partitions requires no request.
        return partitions
    for _ in range(COMMITTED_ATTEMPTS):
        try:
            return consumer.committed(partitions, timeout=COMMITTED_TIMEOUT_S)
        except KafkaException as failed:
            log.warning("group %s: asking for committed offsets: %s", group, failed.args[0].str())
            if is_fatal(failed.args[0]):
                break
    return partitions
