"""Test that columns of records hold each record's fields, with and without payloads and headers."""

from __future__ import annotations

from typing import NamedTuple

from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from coinstream.lake.read_plan import ReadPlan, ReadProgress, RecordColumns
from coinstream.serialization import COMPRESSED_HEADER

TOPICS = ["quotes", "quotes-binance"]
STOP = 40


class Fields(NamedTuple):
    """The fields of one record."""

    topic: str
    partition: int
    offset: int
    payload: bytes | None
    headers: list[tuple[str, str | bytes | None]] | None
    timestamp: int

    @property
    def is_compressed(self) -> bool:
        return (COMPRESSED_HEADER, b"true") in (self.headers or [])

    def message(self) -> Message:
        return Message(
            topic=self.topic,
            partition=self.partition,
            offset=self.offset,
            value=self.payload,
            headers=self.headers,
            timestamp=(1, self.timestamp),
        )


def blocks(topics: list[str]) -> st.SearchStrategy[list[list[Fields]]]:
    one = st.builds(
        Fields,
        st.sampled_from(topics),
        st.integers(0, 2),
        st.integers(0, 2 * STOP),
        st.none() | st.binary(max_size=20),
        st.sampled_from([None, [("trace", b"7")], [(COMPRESSED_HEADER, b"true")]]),
        st.integers(0, 2_000_000_000_000),
    )
    return st.lists(st.lists(one, max_size=8), max_size=4)


def check(topics: list[str], found: list[list[Fields]]) -> None:
    columns = RecordColumns(topics)
    for block in found:
        columns.add([fields.message() for fields in block])
    assert len(columns) == sum(map(len, found))
    plan = ReadPlan({(topic, partition): (0, STOP) for topic in topics for partition in range(3)})
    chunk = ReadProgress(plan).take(columns)
    kept = [fields for block in found for fields in block if fields.offset < STOP]
    assert [topics[at] for at in chunk.topic] == [fields.topic for fields in kept]
    assert chunk.partition.tolist() == [fields.partition for fields in kept]
    assert chunk.offset.tolist() == [fields.offset for fields in kept]
    assert chunk.timestamp.tolist() == [fields.timestamp for fields in kept]
    assert chunk.payloads.to_pylist() == [fields.payload for fields in kept]
    assert chunk.compressed == [at for at, fields in enumerate(kept) if fields.is_compressed]
    chunk.payloads.validate(full=True)


@given(blocks(TOPICS))
def test_records_of_two_topics_are_kept_field_by_field(found: list[list[Fields]]) -> None:
    check(TOPICS, found)


@given(blocks(TOPICS[:1]))
def test_records_of_one_topic_are_kept_field_by_field(found: list[list[Fields]]) -> None:
    check(TOPICS[:1], found)
