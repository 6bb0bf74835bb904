"""Read the dead letters of a topic, filter and summarize them, and replay each at most once.

A replay is one transaction: the message in its topic, and a record of the replay in the replay log. A dead
letter is recorded as replayed if and only if it was sent. A second replay at the same time fences the first.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from confluent_kafka import KafkaException, Producer, TopicCollection
from confluent_kafka import Message as Record

from coinstream.dlq.entry import (
    REPLAYED_FROM_HEADER,
    REPLAYS_HEADER,
    DeadLetterEntry,
    DeadLetterFilter,
    EntryKey,
    decode_dead_letter,
)
from coinstream.dlq.publisher import dlq_topic, ensure_replay_log
from coinstream.dlq.replay import Replays, read_replays, record_replay, with_original
from coinstream.errors import TopicError
from coinstream.kafka import admin_client, broker_error, translate_errors
from coinstream.kafka.partition_reader import PartitionReader
from coinstream.kafka.records import offset_of
from coinstream.producer.config import latency_profile, transactional_config
from coinstream.settings import BrokerSettings, ConsumerSettings, ProducerSettings
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX

MAX_REPLAYS: Final = 3
"""Maximum replays of a message that fails again."""
_CHUNK: Final = 200
_BATCH: Final = 200
"""Records per batch. Values may be large, and only one batch is in memory."""
_PREFETCH_KBYTES: Final = 4_096
_TIMEOUT_S: Final = 30.0
_MAX_MESSAGE_BYTES: Final = 100_000_000
_POSITION: Final = re.compile(r"(?P<topic>.+)\[(?P<partition>[0-9]{1,9})\]@(?P<offset>[0-9]{1,18})")


@dataclass
class DeadLetterReplay:
    """Result of a replay.

    Attributes:
        replayed: messages sent again and recorded in the replay log.
        already: entries skipped because they were replayed before.
        exhausted: entries skipped because they reached the maximum number of replays.
        incomplete: entries skipped because they are truncated and the original record no longer exists.
    """

    replayed: int = 0
    already: int = 0
    exhausted: int = 0
    incomplete: int = 0


@dataclass
class _Run:
    """A replay in progress."""

    producer: Producer
    topic_id: str
    to: str | None
    result: DeadLetterReplay = field(default_factory=DeadLetterReplay)
    chunk: list[DeadLetterEntry] = field(default_factory=list)


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

    def read(
        self,
        wanted: DeadLetterFilter | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[DeadLetterEntry]:
        """Yield the selected entries in order within each partition. Only one batch is in memory.

        Raises:
            TopicError: the topic has no dead-letter topic.
            BrokerError: the cluster does not answer.
        """
        wanted = wanted or DeadLetterFilter()
        replays: Replays | None = None
        with PartitionReader(
            self._brokers,
            self._consumer,
            self.dlq_topic,
            wanted.offset_range(),
            max_records=_BATCH,
            prefetch_kbytes=_PREFETCH_KBYTES,
        ) as reader:
            for batch in reader:
                if replays is None:
                    replays = read_replays(self._brokers, self._consumer, self.dlq_topic, self._topic_id())
                for record in batch:
                    entry = self._entry(record, replays)
                    if wanted.matches(entry):
                        yield entry
                on_progress(reader.read, reader.total)

    def replay(
        self,
        wanted: DeadLetterFilter | None = None,
        *,
        to: str | None = None,
        max_replays: int = MAX_REPLAYS,
        limit: int | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> DeadLetterReplay:
        """Send at most `limit` selected messages to their original topic, or to `to`, once each.

        Entries written while the replay runs are not read, so it ends even if all messages fail again.

        Raises:
            TopicError: a topic does not exist.
            BrokerError: the cluster refused a transaction; earlier replays are recorded.
        """
        ensure_replay_log(self._brokers)
        run = _Run(self._open(), self._topic_id(), to)
        result = run.result
        for entry in self.read(wanted, on_progress):
            if entry.is_replayed:
                result.already += 1
            elif entry.replays >= max_replays:
                result.exhausted += 1
            elif limit is None or result.replayed + len(run.chunk) < limit:
                self._add(run, entry)
        self._send(run)
        return result

    def _add(self, run: _Run, entry: DeadLetterEntry) -> None:
        if entry.dead_letter.is_truncated:
            whole = with_original(entry.dead_letter, self._brokers, self._consumer)
            if whole is None:
                run.result.incomplete += 1
                return
            entry = replace(entry, dead_letter=whole)
        run.chunk.append(entry)
        if len(run.chunk) >= _CHUNK:
            self._send(run)

    def _entry(self, record: Record, replays: Replays) -> DeadLetterEntry:
        dead_letter = decode_dead_letter(record)
        key = (record.partition() or 0, offset_of(record))
        # The message's own count is used only if the log contains the replay that it comes from.
        before = replays.count(_entry_key(dead_letter.replayed_from, self.dlq_topic))
        return DeadLetterEntry(dead_letter, *key, record.timestamp()[1], replays.count(key) > 0, before)

    def _topic_id(self) -> str:
        """Return the id of the dead-letter topic, or an empty string if the broker has no topic ids."""
        admin = admin_client(self._brokers)
        wait = self._brokers.request_timeout_ms / 1000
        try:
            described = admin.describe_topics(TopicCollection([self.dlq_topic]), request_timeout=wait)
            return str(described[self.dlq_topic].result().topic_id)
        except KafkaException as failed:
            raise self._broker_error(failed) from None

    def _open(self) -> Producer:
        config = transactional_config(
            self._brokers,
            self._producer,
            latency_profile(self._producer),
            f"coinstream-dlq-replay-{self.dlq_topic}",
        )
        # The topic's size limit applies, not the client's.
        producer = Producer(config | {"message.max.bytes": _MAX_MESSAGE_BYTES})
        try:
            # This fences an earlier replay of the same topic and aborts its transaction.
            producer.init_transactions(_TIMEOUT_S)
        except KafkaException as failed:
            raise self._broker_error(failed) from None
        return producer

    def _send(self, run: _Run) -> None:
        if not run.chunk:
            return
        producer, chunk = run.producer, run.chunk
        timeout_s = self._brokers.request_timeout_ms / 1000
        existing = translate_errors(
            lambda: producer.list_topics(timeout=timeout_s).topics,
            f"replaying {self.dlq_topic}",
            self._brokers.brokers,
        )
        for topic in {run.to or entry.dead_letter.topic for entry in chunk}:
            if topic not in existing:
                raise TopicError(
                    f"dead letters of {self.dlq_topic} belong to {topic}, which does not exist; "
                    "create it, or name another with --to"
                )
        try:
            producer.begin_transaction()
            for entry in chunk:
                dead_letter, key = entry.dead_letter, (entry.partition, entry.offset)
                producer.produce(
                    run.to or dead_letter.topic,
                    dead_letter.value,
                    dead_letter.key,
                    headers=self._headers(entry),
                )
                record_replay(producer, self.dlq_topic, run.topic_id, key, entry.replays + 1)
            producer.commit_transaction(_TIMEOUT_S)
        except KafkaException as failed:
            raise self._broker_error(failed) from None
        run.result.replayed += len(chunk)
        run.chunk = []

    def _headers(self, entry: DeadLetterEntry) -> list[tuple[str, str | bytes | None]]:
        own = {
            REPLAYED_FROM_HEADER: f"{self.dlq_topic}[{entry.partition}]@{entry.offset}",
            REPLAYS_HEADER: str(entry.replays + 1),
        }
        kept = (pair for pair in entry.dead_letter.headers if pair[0] not in own)
        return [*kept, *own.items()]

    def _broker_error(self, failed: KafkaException) -> Exception:
        return broker_error(failed.args[0], f"replaying {self.dlq_topic}", self._brokers.brokers)


def _entry_key(text: str, topic: str) -> EntryKey:
    """Parse `topic[partition]@offset`; return a position that never exists if the text is invalid."""
    found = _POSITION.fullmatch(text)
    if found is None or found["topic"] != topic:
        return -1, -1
    return int(found["partition"]), int(found["offset"])


_SHOWN: Final = 20


@dataclass(frozen=True)
class DeadLetterSummary:
    """Dead letters of one topic.

    Attributes:
        entries: number of entries that were read.
        waiting: those of them that have not been replayed.
        reasons: number of waiting entries by the type of their error, most frequent first.
        newest: the newest entries, newest first.
    """

    entries: int
    waiting: int
    reasons: Mapping[str, int]
    newest: tuple[DeadLetterEntry, ...]


def summarize(entries: Iterable[DeadLetterEntry], shown: int = _SHOWN) -> DeadLetterSummary:
    """Count entries as they come; only the newest are kept in memory."""
    count, reasons = 0, Counter[str]()
    newest: deque[DeadLetterEntry] = deque(maxlen=shown)
    for entry in entries:
        count += 1
        if not entry.is_replayed:
            reasons[entry.dead_letter.error_type or "unknown"] += 1
        if len(newest) < shown or entry.failed_ms >= newest[0].failed_ms:
            newest.append(entry)
            newest = deque(sorted(newest, key=lambda one: one.failed_ms), maxlen=shown)
    return DeadLetterSummary(count, reasons.total(), dict(reasons.most_common()), tuple(reversed(newest)))
