"""Record which dead letters were replayed, and restore the original of a truncated one.

Producers of a topic control the headers of its dead letters, so headers are no proof of a replay. A replay
writes to this log in the transaction that sends the message.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import msgspec
from confluent_kafka import Message as Record
from confluent_kafka import Producer

from coinstream.dlq.entry import DeadLetter, EntryKey
from coinstream.dlq.publisher import REPLAY_LOG
from coinstream.errors import DecodeError, TopicError
from coinstream.kafka.partition_reader import OffsetRange, PartitionReader
from coinstream.kafka.records import headers_of, key_of, offset_of, timestamp_ms_of, value_of
from coinstream.settings import BrokerSettings, ConsumerSettings

_BATCH: Final = 500
_PREFETCH_KBYTES: Final = 1_024


class Replays:
    """Replayed dead letters of one topic with their number of replays."""

    def __init__(self) -> None:
        # Nested, because a million tuples would take a hundred megabytes.
        self._counts: dict[int, dict[int, int]] = {}

    def add(self, entry: EntryKey, count: int) -> None:
        """Record a replay."""
        self._counts.setdefault(entry[0], {})[entry[1]] = count

    def count(self, entry: EntryKey) -> int:
        """Return the number of replays of an entry's message, or 0 if the entry was not replayed."""
        return self._counts.get(entry[0], {}).get(entry[1], 0)


class _Replay(msgspec.Struct, rename="camel"):
    topic_id: str
    partition: int
    offset: int
    replays: int


_decoder: Final = msgspec.json.Decoder(_Replay)


def read_replays(
    brokers: BrokerSettings, settings: ConsumerSettings, dlq_topic: str, topic_id: str
) -> Replays:
    """Return the replayed entries of a dead-letter topic.

    Args:
        brokers: settings of the cluster.
        settings: settings of the consumer.
        dlq_topic: name of the dead-letter topic.
        topic_id: id of the topic. Replays of a deleted topic of the same name do not count.

    Raises:
        BrokerError: the cluster does not answer, or this user may not read the log.
    """
    found = Replays()
    name = dlq_topic.encode()
    try:
        with PartitionReader(
            brokers, settings, REPLAY_LOG.name, max_records=_BATCH, prefetch_kbytes=_PREFETCH_KBYTES
        ) as reader:
            for batch in reader:
                for record in batch:
                    replay = _read(record) if key_of(record) == name else None
                    if replay is not None and replay.topic_id == topic_id:
                        found.add((replay.partition, replay.offset), replay.replays)
    except TopicError:
        # The first replay creates it.
        return found
    return found


def record_replay(producer: Producer, dlq_topic: str, topic_id: str, entry: EntryKey, replays: int) -> None:
    """Add a replay to the open transaction of a producer."""
    value = msgspec.json.encode(_Replay(topic_id, *entry, replays))
    producer.produce(REPLAY_LOG.name, value, dlq_topic.encode())


def _read(record: Record) -> _Replay | None:
    try:
        return _decoder.decode(value_of(record) or b"")
    except (msgspec.DecodeError, UnicodeError):
        return None


def with_original(
    dead_letter: DeadLetter, brokers: BrokerSettings, settings: ConsumerSettings
) -> DeadLetter | None:
    """Return the dead letter with the key, value and headers of the original record.

    Returns:
        None if the record is no longer in its topic, or differs from the one that the dead letter describes.

    Raises:
        BrokerError: the cluster does not answer.
    """
    if dead_letter.offset < 0:
        return None
    offsets = OffsetRange(
        from_offset=dead_letter.offset, to_offset=dead_letter.offset, partitions=(dead_letter.partition,)
    )
    try:
        with PartitionReader(brokers, settings, dead_letter.topic, offsets) as reader:
            records = [record for batch in reader for record in batch]
    except TopicError:
        return None
    if not records or not _is_original(records[0], dead_letter):
        return None
    record = records[0]
    try:
        headers = headers_of(record)
    except DecodeError:
        # The client cannot read these headers.
        return None
    return replace(
        dead_letter, key=key_of(record), value=value_of(record), headers=headers, value_bytes=None, lost=""
    )


def _is_original(record: Record, dead_letter: DeadLetter) -> bool:
    """Return whether a record is the one that failed: the topic may have been created again."""
    value, key = value_of(record) or b"", key_of(record) or b""
    return (
        offset_of(record) == dead_letter.offset
        and timestamp_ms_of(record) == dead_letter.timestamp_ms
        and value.startswith(dead_letter.value or b"")
        and key.startswith(dead_letter.key or b"")
        and len(value)
        == (len(dead_letter.value or b"") if dead_letter.value_bytes is None else dead_letter.value_bytes)
    )
