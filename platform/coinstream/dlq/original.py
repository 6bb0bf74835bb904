"""Read the original record of a truncated dead letter from its topic."""

from __future__ import annotations

from dataclasses import replace

from confluent_kafka import Message as Record

from coinstream.partition_reader import OffsetRange
from coinstream.partition_reader import PartitionReader
from coinstream.dlq.entry import DeadLetter
from coinstream.errors import DecodeError, TopicError
from coinstream.records import headers_of, key_of, offset_of, timestamp_ms_of, value_of
from coinstream.settings import BrokerSettings, ConsumerSettings


def with_original(
    letter: DeadLetter, brokers: BrokerSettings, settings: ConsumerSettings
) -> DeadLetter | None:
    """Return the dead letter with the key, value and headers of the original record.

    Returns:
        None if the record is no longer in its topic, or differs from the one that the dead letter describes.

    Raises:
        BrokerError: the cluster does not answer.
    """
    if letter.offset < 0:
        return None
    place = OffsetRange(from_offset=letter.offset, to_offset=letter.offset, partitions=(letter.partition,))
    try:
        with PartitionReader(brokers, settings, letter.topic, place) as reader:
            records = [record for batch in reader for record in batch]
    except TopicError:
        return None
    if not records or not _is_original(records[0], letter):
        return None
    record = records[0]
    try:
        headers = headers_of(record)
    except DecodeError:
        # The client cannot read these headers.
        return None
    return replace(
        letter, key=key_of(record), value=value_of(record), headers=headers, value_bytes=None, lost=""
    )


def _is_original(record: Record, letter: DeadLetter) -> bool:
    """Return whether a record is the one that failed: the topic may have been created again."""
    value, key = value_of(record) or b"", key_of(record) or b""
    return (
        offset_of(record) == letter.offset
        and timestamp_ms_of(record) == letter.timestamp_ms
        and value.startswith(letter.value or b"")
        and key.startswith(letter.key or b"")
        and len(value) == (len(letter.value or b"") if letter.value_bytes is None else letter.value_bytes)
    )
