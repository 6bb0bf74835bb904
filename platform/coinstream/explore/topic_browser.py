"""Browse the records of a topic: newest first or from a time, filtered by key and value."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from coinstream.consumer.tail_reader import count_messages, newest_records
from coinstream.errors import DecodeError
from coinstream.kafka import admin_client, translate_errors
from coinstream.kafka.partition_reader import OffsetRange, PartitionReader
from coinstream.kafka.records import key_of, offset_of, readable_headers, value_of
from coinstream.messages import LEVEL1, MessageType, type_for_topic
from coinstream.serialization import MessageDeserializer, decompress, is_compressed
from coinstream.settings import BrokerSettings, ConsumerSettings
from coinstream.topics.catalogue import DEAD_LETTER_SUFFIX

LIMIT: Final = 200
"""Records shown unless another limit is given."""
MAX_SCANNED: Final = 200_000
"""Records read at most to find those that match a filter."""
_RAW_BYTES: Final = 2_000
_COLUMNS: Final[dict[str, Any]] = {
    "partition": pl.Int32,
    "offset": pl.Int64,
    "time": pl.Datetime("ms", "UTC"),
    "key": pl.String,
    "value": pl.String,
    "error": pl.String,
}


@dataclass(frozen=True)
class RecordFilter:
    """Filter of records. None and empty text match all.

    Attributes:
        key: text that the key contains.
        value: text that the decoded value contains.
        partitions: only these.
        since: only records of this time or later, oldest first; None shows the newest records.
        offset: first offset in every partition; like `since`, it shows the oldest records first.
    """

    key: str = ""
    value: str = ""
    partitions: tuple[int, ...] = ()
    since: datetime | None = None
    offset: int | None = None


@dataclass(frozen=True)
class Page:
    """Records that match, and how many were read to find them.

    Attributes:
        records: `partition`, `offset`, `time` (UTC), `key`, `value` (JSON text) and `error` (why the value
            is not a message of the platform; null otherwise).
        scanned: records read.
        complete: False when reading stopped at the limit or at `MAX_SCANNED`.
    """

    records: pl.DataFrame
    scanned: int
    complete: bool


def existing_topics(brokers: BrokerSettings) -> list[str]:
    """Return the names of the topics of the cluster, without Kafka's own.

    Raises:
        BrokerError: the cluster does not answer.
    """
    return sorted(partition_counts(brokers))


def partition_counts(brokers: BrokerSettings, topic: str | None = None) -> dict[str, int]:
    """Return the number of partitions of one topic, or of each topic of the cluster without Kafka's own.

    A topic that does not exist is missing in the result.

    Raises:
        BrokerError: the cluster does not answer.
    """
    admin, timeout_s = admin_client(brokers), brokers.request_timeout_ms / 1000
    found = translate_errors(
        lambda: admin.list_topics(topic, timeout=timeout_s), "listing the topics", brokers.brokers
    ).topics
    return {
        name: len(one.partitions)
        for name, one in found.items()
        if one.error is None and (topic is not None or not name.startswith("__"))
    }


def topics_of_type(names: Iterable[str], kind: MessageType) -> list[str]:
    """Return the topics among `names` that carry messages of one type: the general one and the exchanges'."""
    return [name for name in names if type_for_topic(name) is kind and not name.endswith(DEAD_LETTER_SUFFIX)]


def fullest_topic(brokers: BrokerSettings, names: Sequence[str]) -> str | None:
    """Return the topic that holds the most records, quotes first; None where there is no topic.

    Raises:
        BrokerError: the cluster does not answer.
    """
    candidates = topics_of_type(names, LEVEL1) or list(names)
    if not candidates:
        return None
    known = partition_counts(brokers)
    counts = count_messages(brokers, {name: known[name] for name in candidates if name in known})
    return max(counts, key=lambda name: counts[name], default=None)


def browse(
    brokers: BrokerSettings, topic: str, wanted: RecordFilter | None = None, limit: int = LIMIT
) -> Page:
    """Return the records of a topic that match, at most `limit`. Join no group and commit nothing.

    Raises:
        TopicError: the topic or a partition does not exist.
        BrokerError: the cluster does not answer, or the topic may not be read.
    """
    wanted = wanted or RecordFilter()
    decoder = MessageDeserializer()
    if wanted.since is None and wanted.offset is None:
        return _newest(brokers, topic, wanted, limit, decoder)
    span = OffsetRange(since=wanted.since, from_offset=wanted.offset, partitions=wanted.partitions or None)
    rows: list[dict[str, Any]] = []
    scanned, complete = 0, True
    with PartitionReader(brokers, ConsumerSettings(), topic, span) as reader:
        for batch in reader:
            for record in batch:
                scanned += 1
                row = _row(
                    record.partition() or 0,
                    offset_of(record),
                    record.timestamp()[1],
                    key_of(record),
                    value_of(record),
                    readable_headers(record),
                    topic,
                    decoder,
                )
                if _matches(row, wanted):
                    rows.append(row)
            if len(rows) >= limit or scanned >= MAX_SCANNED:
                complete = False
                break
    return Page(_frame(rows[:limit]), scanned, complete)


def _newest(
    brokers: BrokerSettings, topic: str, wanted: RecordFilter, limit: int, decoder: MessageDeserializer
) -> Page:
    partitions = partition_counts(brokers, topic).get(topic, 0)
    has_filter = bool(wanted.key or wanted.value or wanted.partitions)
    # All of the newest records may be in one partition, and each partition has an equal share of the scan.
    scan = min(max(limit * (50 if has_filter else 1), 100) * max(partitions, 1), MAX_SCANNED)
    found = newest_records(brokers, topic, scan)
    held = count_messages(brokers, {topic: partitions})[topic]
    rows = [
        row
        for record in found
        if _matches(
            row := _row(
                record.partition,
                record.offset,
                record.timestamp_ms,
                record.key,
                record.value,
                record.headers,
                topic,
                decoder,
            ),
            wanted,
        )
    ]
    rows.sort(key=lambda row: (row["time"] or datetime.min.replace(tzinfo=UTC), row["offset"]), reverse=True)
    return Page(_frame(rows[:limit]), len(found), len(found) >= held and len(rows) <= limit)


def _row(
    partition: int,
    offset: int,
    stamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: list[tuple[str, bytes]],
    topic: str,
    decoder: MessageDeserializer,
) -> dict[str, Any]:
    text, error = _decoded(value, headers, topic, decoder)
    return {
        "partition": partition,
        "offset": offset,
        "time": _time(stamp),
        "key": None if key is None else key.decode(errors="backslashreplace"),
        "value": text,
        "error": error,
    }


def _decoded(
    value: bytes | None, headers: list[tuple[str, bytes]], topic: str, decoder: MessageDeserializer
) -> tuple[str | None, str | None]:
    if value is None:
        return None, None
    try:
        decoder.decode(value, headers, topic)
        payload = decompress(value) if is_compressed(headers) else value
    except DecodeError as error:
        return value[:_RAW_BYTES].decode(errors="backslashreplace"), str(error)
    # The text on the wire: an encoded message would differ in its times, digits and unset fields.
    return payload.decode(), None


def _time(stamp: int) -> datetime | None:
    try:
        return datetime.fromtimestamp(stamp / 1000, UTC) if stamp >= 0 else None
    except (OverflowError, ValueError, OSError):
        return None  # microseconds or nanoseconds of a foreign producer: no date that a frame can hold


def _matches(row: dict[str, Any], wanted: RecordFilter) -> bool:
    return (
        (not wanted.partitions or row["partition"] in wanted.partitions)
        and (not wanted.key or wanted.key.lower() in (row["key"] or "").lower())
        and (not wanted.value or wanted.value.lower() in (row["value"] or "").lower())
    )


def _frame(rows: Iterable[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=_COLUMNS)
