"""Record which dead letters were replayed, apart from the dead letters themselves.

Anyone who may write to a topic decides the headers of its dead letters. So nothing in a dead letter says
that it was replayed: only this log does, to which a replay writes in the transaction that sends the message.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from confluent_kafka import Message as Record
from confluent_kafka import Producer

from coinstream.consumer.partition_reader import PartitionReader
from coinstream.dlq.topics import REPLAY_LOG
from coinstream.errors import TopicError
from coinstream.records import key_of, value_of
from coinstream.settings import BrokerSettings, ConsumerSettings

EntryKey = tuple[int, int]
"""Partition and offset of a dead letter in its dead-letter topic."""


class _Replay(msgspec.Struct, rename="camel"):
    topic_id: str
    partition: int
    offset: int
    replays: int


_decoder: Final = msgspec.json.Decoder(_Replay)


def read_replays(
    brokers: BrokerSettings, settings: ConsumerSettings, dlq_topic: str, topic_id: str
) -> Mapping[EntryKey, int]:
    """Return the dead letters of a dead-letter topic that were replayed, with their count of replays.

    Args:
        brokers: where to read.
        settings: how to read.
        dlq_topic: the dead-letter topic.
        topic_id: its id. Replays of a deleted topic of the same name do not count.

    Raises:
        BrokerError: the cluster does not answer, or does not let this user read.
    """
    found: dict[EntryKey, int] = {}
    name = dlq_topic.encode()
    try:
        with PartitionReader(brokers, settings, REPLAY_LOG.name) as reader:
            for batch in reader:
                for record in batch:
                    replay = _read(record) if key_of(record) == name else None
                    if replay is not None and replay.topic_id == topic_id:
                        found[replay.partition, replay.offset] = replay.replays
    except TopicError:
        # It is created by the first replay.
        return {}
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
