"""Test replays of a range by offsets and times, to a topic and to a handler."""

from __future__ import annotations

from datetime import timedelta

import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage
from coinstream.consumer.replay import ReplayProgress, copy, replay
from coinstream.errors import ConsumeError, TopicError
from coinstream.kafka.partition_reader import OffsetRange, PartitionReader
from coinstream.serialization import MessageSerializer
from coinstream.settings import BrokerSettings, ConsumerSettings
from tests.conftest import TopicFactory
from tests.consumer.common import START, Memory, fill, quote
from tests.support import headers_of

COUNT = 400


@pytest.fixture(scope="module")
def filled(broker_settings: BrokerSettings, topic: TopicFactory) -> str:
    name = topic("crypto-level1", partitions=3)
    with RedpandaClient(broker_settings) as client:
        fill(client, name, COUNT)
    return name


def numbers_in(brokers: BrokerSettings, topic: str, span: OffsetRange | None = None) -> list[int]:
    memory = Memory()
    replay(brokers, topic, memory.many, span)
    assert memory.in_order()
    return sorted(memory.numbers.elements())


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(bounds=st.tuples(st.integers(-5, COUNT + 5), st.integers(-5, COUNT + 5)))
def test_a_span_of_time_holds_exactly_its_messages(
    broker_settings: BrokerSettings, filled: str, bounds: tuple[int, int]
) -> None:
    first, end = bounds
    span = OffsetRange(START + timedelta(milliseconds=first), START + timedelta(milliseconds=end))
    assert numbers_in(broker_settings, filled, span) == list(range(max(first, 0), min(max(end, 0), COUNT)))


def test_a_span_of_offsets_counts_in_each_partition(broker_settings: BrokerSettings, filled: str) -> None:
    places: list[tuple[int, int]] = []

    def note(batch: list[ConsumedMessage]) -> None:
        places.extend((each.partition, each.offset) for each in batch)

    replay(broker_settings, filled, note, OffsetRange(from_offset=10, to_offset=19, partitions=(0, 2)))
    assert sorted(places) == [(partition, offset) for partition in (0, 2) for offset in range(10, 20)]


def test_a_copy_is_the_same_and_says_where_it_comes_from(
    broker_settings: BrokerSettings, topic: TopicFactory, filled: str
) -> None:
    target = topic("crypto-level1", partitions=5)
    told: list[ReplayProgress] = []
    report = copy(broker_settings, filled, target, on_progress=told.append)
    assert report.messages == COUNT
    assert (told[-1].read, told[-1].total, told[-1].seconds_left) == (COUNT, COUNT, 0)
    assert numbers_in(broker_settings, target) == list(range(COUNT))
    span = OffsetRange(START + timedelta(milliseconds=100), START + timedelta(milliseconds=110))
    assert numbers_in(broker_settings, target, span) == list(range(100, 110))
    with PartitionReader(broker_settings, ConsumerSettings(), target) as reader:
        records = [record for batch in reader for record in batch]
    assert all(headers_of(record)["replayed-from"].startswith(f"{filled}[".encode()) for record in records)


def test_a_topic_with_transactions_and_compressed_messages_ends(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    """Control records occupy offsets that no consumer receives; reading still ends."""
    name = topic("crypto-level1")
    producer = Producer(
        {"bootstrap.servers": broker_settings.brokers, "transactional.id": name, "linger.ms": 0}
    )
    producer.init_transactions(60)
    for number in range(3):
        producer.begin_transaction()
        producer.produce(name, MessageSerializer().encode(quote(number, "A/USDT"))[0])
        producer.flush()
        producer.abort_transaction() if number == 1 else producer.commit_transaction()
    assert numbers_in(broker_settings, name) == [0, 2]


def test_what_cannot_be_replayed_is_one_clear_error(broker_settings: BrokerSettings, filled: str) -> None:
    with pytest.raises(ConsumeError, match="to itself"):
        copy(broker_settings, filled, filled)
    with pytest.raises(TopicError, match="nowhere does not exist"):
        copy(broker_settings, filled, "nowhere")
    with pytest.raises(TopicError, match="no partition"):
        numbers_in(broker_settings, filled, OffsetRange(partitions=(9,)))
    with pytest.raises(ConsumeError, match="time zone"):
        OffsetRange(since=START.replace(tzinfo=None))
