"""Reads the newest records of a topic, as many as asked for and no more."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition
from confluent_kafka.admin import OffsetSpec

from coinstream.errors import BrokerError, TopicError
from coinstream.kafka import CONSUME_BATCH, admin_client, base_config, broker_error, translate_errors
from coinstream.settings import BrokerSettings

Place = tuple[str, int]
"""A topic and a partition."""

_POLL_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it lies in the topic."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    timestamp_ms: int = -1


def newest_records(brokers: BrokerSettings, topic: str, limit: int, timeout_s: float = 15.0) -> list[Record]:
    """The newest records of every partition, at most `limit` in all. Joins no group, commits nothing.

    Raises:
        TopicError: the topic does not exist.
        BrokerError: the cluster does not answer, or not in time.
    """
    reader = Consumer(
        {
            **base_config(brokers, "coinstream-sample"),
            "group.id": "coinstream-sample",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
        }
    )
    try:
        parts = translate_errors(
            lambda: _tail_of(reader, brokers, topic, limit), f"sampling {topic}", brokers.brokers
        )
        reader.assign(parts)
        return _read(reader, brokers, topic, {part.partition for part in parts}, limit, timeout_s)
    finally:
        reader.close()


def end_offsets(brokers: BrokerSettings, partitions: Iterable[Place]) -> dict[Place, int]:
    """Where the next record of each partition will lie.

    Raises:
        BrokerError: the cluster does not answer.
    """
    return _offsets(brokers, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]


def count_messages(brokers: BrokerSettings, partitions: Mapping[str, int]) -> dict[str, int]:
    """How many records each topic holds, given its count of partitions. Control records count too.

    Raises:
        BrokerError: the cluster does not answer.
    """
    places = [(topic, part) for topic, count in partitions.items() for part in range(count)]
    starts = _offsets(brokers, places, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    ends = end_offsets(brokers, places)
    held = dict.fromkeys(partitions, 0)
    for place in places:
        # Retention may have moved the start since it was read.
        held[place[0]] += max(ends[place] - starts[place], 0)
    return held


def _offsets(brokers: BrokerSettings, partitions: Iterable[Place], at: OffsetSpec) -> dict[Place, int]:
    wanted = {TopicPartition(topic, part): at for topic, part in partitions}
    if not wanted:
        return {}
    # Kept until the answers are there: a client that is let go never completes its futures.
    admin = admin_client(brokers)
    answers = admin.list_offsets(wanted, request_timeout=brokers.request_timeout_ms / 1000)
    return {
        (part.topic, part.partition): translate_errors(
            answer.result, f"asking for the offsets of {part.topic}", brokers.brokers
        ).offset
        for part, answer in answers.items()
    }


def _tail_of(reader: Consumer, brokers: BrokerSettings, topic: str, limit: int) -> list[TopicPartition]:
    wait = brokers.request_timeout_ms / 1000
    found = reader.list_topics(topic, timeout=wait).topics[topic]
    if found.error is not None:
        raise TopicError(f"cannot read topic {topic}: {found.error.str()}")
    marks = {}
    for number in found.partitions:
        low, high = reader.get_watermark_offsets(TopicPartition(topic, number), timeout=wait)
        if high > low:
            marks[number] = (low, high)
    share = max(limit // max(len(marks), 1), 1)
    tails = {number: max(low, high - share) for number, (low, high) in marks.items()}
    return [TopicPartition(topic, number, start) for number, start in sorted(tails.items())[:limit]]


def _read(
    reader: Consumer, brokers: BrokerSettings, topic: str, waiting: set[int], limit: int, timeout_s: float
) -> list[Record]:
    deadline = time.monotonic() + timeout_s
    records: list[Record] = []
    # A live partition may have no end: the limit is the bound then.
    while waiting and len(records) < limit:
        if time.monotonic() > deadline:
            raise BrokerError(
                f"{brokers.brokers} did not deliver the newest records of {topic} within {timeout_s:g} s"
            )
        for message in reader.consume(min(CONSUME_BATCH, limit - len(records)), _POLL_S):
            error = message.error()
            if error is None:
                records.append(_record(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                waiting.discard(message.partition() or 0)
            else:
                raise broker_error(error, f"sampling {topic}", brokers.brokers)
    return records


def _record(message: Message) -> Record:
    headers: Any = message.headers()  # typed as what `produce` takes; here it is always a list of pairs
    return Record(
        message.partition() or 0,
        message.offset() or 0,
        message.key(),
        message.value(),
        headers or [],
        message.timestamp()[1],
    )
