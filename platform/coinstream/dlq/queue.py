"""The dead letters of a topic: read, filtered, and replayed at most once each.

A replay is one transaction: the message in its topic and, in the dead-letter topic, a marker that names the
letter. So a letter is marked if and only if it was replayed, and two replays at once cannot both do it:
the second fences the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from confluent_kafka import KafkaException, Producer
from confluent_kafka import Message as Record

from coinstream.consumer.consumed_message import headers_of, offset_of
from coinstream.consumer.partition_reader import OffsetRange, PartitionReader
from coinstream.dlq.entry import REPLAYS_HEADER, DeadLetter, decode_dead_letter, dlq_topic
from coinstream.errors import TopicError
from coinstream.kafka import broker_error
from coinstream.producer.config import latency_profile, transactional_config
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX

MARKER_HEADER: Final = "dlq-replayed"
"""On a marker: `partition:offset` of the letter that was replayed. Markers have no value."""
REPLAYED_FROM_HEADER: Final = "replayed-from"
"""On a replayed message: `topic[partition]@offset` of the letter."""
MAX_REPLAYS: Final = 3
"""A message that failed again after so many replays stays where it is."""
_CHUNK: Final = 500
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class DeadLetterEntry:
    """A dead letter with its own place in the dead-letter topic.

    Attributes:
        failed_ms: when it was written there.
        is_replayed: whether it has been replayed.
    """

    letter: DeadLetter
    partition: int
    offset: int
    failed_ms: int
    is_replayed: bool


@dataclass(frozen=True)
class DeadLetterFilter:
    """Which letters. What is None does not count.

    Attributes:
        error: a part of the error's type or text, in any case of letters.
        key: the whole key.
        since: buried at this time or later; `until`: before this time.
        partition: of the original message.
        offset: of the original message.
    """

    error: str | None = None
    key: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    partition: int | None = None
    offset: int | None = None

    def matches(self, entry: DeadLetterEntry) -> bool:
        """Whether the letter is meant. Times are left to the broker's index."""
        letter = entry.letter
        error = f"{letter.error_type} {letter.error}".lower()
        return (
            (self.error is None or self.error.lower() in error)
            and (self.key is None or letter.key == self.key.encode())
            and (self.partition is None or letter.partition == self.partition)
            and (self.offset is None or letter.offset == self.offset)
        )


@dataclass(frozen=True)
class DeadLetterReplay:
    """What a replay did.

    Attributes:
        replayed: letters sent again, each marked.
        already: letters left out because they had been replayed before.
        exhausted: letters left out because they had failed again too often.
    """

    replayed: int
    already: int
    exhausted: int


class DeadLetterQueue:
    """The dead letters of one topic."""

    def __init__(
        self,
        brokers: BrokerSettings,
        topic: str,
        consumer: ConsumerSettings | None = None,
        producer: ProducerSettings | None = None,
    ) -> None:
        self._brokers = brokers
        self.topic = topic.removesuffix(DEAD_LETTER_SUFFIX)
        self.dlq_topic = dlq_topic(self.topic)
        self._consumer = consumer or ConsumerSettings()
        self._producer = producer or ProducerSettings()

    def read(self, wanted: DeadLetterFilter | None = None) -> Iterator[DeadLetterEntry]:
        """The letters that match, partition by partition as they come.

        Raises:
            TopicError: the topic has no dead-letter topic.
            BrokerError: the cluster does not answer.
        """
        wanted = wanted or DeadLetterFilter()
        replayed = self._markers()
        with PartitionReader(
            self._brokers, self._consumer, self.dlq_topic, OffsetRange(wanted.since, wanted.until)
        ) as reader:
            for batch in reader:
                for record in batch:
                    entry = _entry(record, replayed)
                    if entry is not None and wanted.matches(entry):
                        yield entry

    def replay(
        self,
        wanted: DeadLetterFilter | None = None,
        *,
        to: str | None = None,
        max_replays: int = MAX_REPLAYS,
        limit: int | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> DeadLetterReplay:
        """Send the letters that match to their topic again (or to `to`), once each, at most `limit`.

        What is written while this runs is not looked at, so it ends even if all fail again at once.

        Raises:
            TopicError: a topic does not exist.
            BrokerError: the cluster does not take them; what was replayed until then is marked.
        """
        producer = self._open()
        replayed = already = exhausted = 0
        chunk: list[DeadLetterEntry] = []
        letters = list(self.read(wanted))
        for looked, entry in enumerate(letters, 1):
            if entry.is_replayed:
                already += 1
            elif entry.letter.replays >= max_replays:
                exhausted += 1
            elif limit is None or replayed + len(chunk) < limit:
                chunk.append(entry)
            if len(chunk) == _CHUNK:
                replayed += self._send(producer, chunk, to)
                chunk = []
                on_progress(looked, len(letters))
        replayed += self._send(producer, chunk, to)
        return DeadLetterReplay(replayed, already, exhausted)

    def _markers(self) -> set[str]:
        with PartitionReader(self._brokers, self._consumer, self.dlq_topic) as reader:
            marks = (_marker(record) for batch in reader for record in batch)
            return {mark for mark in marks if mark is not None}

    def _open(self) -> Producer:
        config = transactional_config(
            self._brokers,
            self._producer,
            latency_profile(self._producer),
            f"coinstream-dlq-replay-{self.dlq_topic}",
        )
        producer = Producer(config)
        try:
            # From here on an earlier replay of the same letters is fenced, its open transaction undone.
            producer.init_transactions(_TIMEOUT_S)
        except KafkaException as failed:
            raise self._refused(failed) from None
        return producer

    def _send(self, producer: Producer, chunk: list[DeadLetterEntry], to: str | None) -> int:
        if not chunk:
            return 0
        existing = producer.list_topics(timeout=self._brokers.request_timeout_ms / 1000).topics
        for topic in {to or entry.letter.topic for entry in chunk}:
            if topic not in existing:
                raise TopicError(
                    f"letters of {self.dlq_topic} belong to {topic}, which does not exist; "
                    "create it, or name another with --to"
                )
        try:
            producer.begin_transaction()
            for entry in chunk:
                letter, place = entry.letter, f"{entry.partition}:{entry.offset}"
                producer.produce(to or letter.topic, letter.value, letter.key, headers=self._headers(entry))
                producer.produce(self.dlq_topic, None, letter.key, headers=[(MARKER_HEADER, place.encode())])
            producer.commit_transaction(_TIMEOUT_S)
        except KafkaException as failed:
            raise self._refused(failed) from None
        return len(chunk)

    def _headers(self, entry: DeadLetterEntry) -> list[tuple[str, str | bytes | None]]:
        letter = entry.letter
        own = {
            REPLAYED_FROM_HEADER: f"{self.dlq_topic}[{entry.partition}]@{entry.offset}",
            REPLAYS_HEADER: str(letter.replays + 1),
        }
        kept = (pair for pair in letter.headers if pair[0] not in own)
        return [*kept, *own.items()]

    def _refused(self, failed: KafkaException) -> Exception:
        return broker_error(failed.args[0], f"replaying {self.dlq_topic}", self._brokers.brokers)


def _marker(record: Record) -> str | None:
    mark = dict(headers_of(record)).get(MARKER_HEADER)
    return None if mark is None else mark.decode(errors="replace")


def _entry(record: Record, replayed: set[str]) -> DeadLetterEntry | None:
    if _marker(record) is not None:
        return None
    partition, offset = record.partition() or 0, offset_of(record)
    return DeadLetterEntry(
        decode_dead_letter(record),
        partition,
        offset,
        record.timestamp()[1],
        f"{partition}:{offset}" in replayed,
    )
