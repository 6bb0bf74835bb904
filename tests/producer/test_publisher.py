"""Test the hot path: record times, and exact counts after exceptions."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from coinstream.client import RedpandaClient
from coinstream.errors import BufferFullError, MessageError, UnroutableError
from coinstream.local_broker import LocalBroker
from coinstream.messages import Message
from coinstream.monitoring.metrics import Metrics
from coinstream.producer.delivery import DeliveryTracker
from coinstream.producer.publisher import Publisher
from coinstream.producer.topic_cache import UNBOUNDED_MS, RecordTimes, TimeBounds
from coinstream.routing import MessageRouter, record_time_ms
from coinstream.serialization import MessageSerializer
from coinstream.settings import BrokerSettings, ProducerSettings
from tests.conftest import TopicFactory
from tests.producer.records import quote, quotes


class RecordingPool:
    """Stands in for the pool and its producers; keeps what is produced."""

    def __init__(self) -> None:
        self.produced: list[tuple[Any, ...]] = []

    def find(self, topic: str, key: bytes) -> RecordingPool:
        return self

    def reports_of(self, topic: str, key: bytes) -> None:
        return None

    def produce(self, *arguments: Any) -> None:
        self.produced.append(arguments)

    def poll(self) -> None:
        return


class AllTopics:
    """A topic cache for which every topic exists."""

    router = MessageRouter()

    def require(self, topic: str, key: bytes) -> int:
        return 6


def publisher() -> tuple[Publisher, RecordingPool]:
    pool: Any = RecordingPool()
    metrics = Metrics(CollectorRegistry())
    times = RecordTimes(lambda _: TimeBounds(UNBOUNDED_MS, UNBOUNDED_MS), metrics)
    topics: Any = AllTopics()
    return Publisher(pool, topics, DeliveryTracker(metrics), times, MessageSerializer()), pool


zones = st.builds(timezone, st.timedeltas(timedelta(hours=-23), timedelta(hours=23)))
now = datetime.now(UTC)
moments = st.datetimes(
    min_value=datetime(1, 1, 2), max_value=datetime(now.year, now.month, 1), timezones=st.just(UTC) | zones
)


@given(st.lists(moments, min_size=1, max_size=20), st.booleans())
def test_record_times_are_those_of_the_messages(at: list[datetime], shared: bool) -> None:
    messages: list[Message] = [
        msgspec.structs.replace(quote("A/B"), last_updated=at[0] if shared else moment) for moment in at
    ]
    tested, pool = publisher()
    assert tested.publish(messages) == len(messages)
    assert [arguments[6] for arguments in pool.produced] == [record_time_ms(message) for message in messages]


@pytest.mark.parametrize(
    "moment",
    [
        datetime.min.replace(tzinfo=timezone(timedelta(microseconds=1))),
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-1))),
    ],
)
def test_a_time_outside_the_calendar_in_utc_is_refused(moment: datetime) -> None:
    tested, pool = publisher()
    message = msgspec.structs.replace(quote("A/B"), last_updated=moment)
    with pytest.raises(MessageError, match="between the years 1 and 9999 in UTC"):
        tested.publish([quote("A/B"), message])
    assert len(pool.produced) == 1


def test_neighbours_of_several_exchanges_symbols_and_types_go_their_own_ways() -> None:
    messages: list[Message] = [quote(f"S{n % 3}/USDT", n, ("kraken", "binance")[n % 2]) for n in range(12)]
    tested, pool = publisher()
    tested.publish(messages)
    tested.publish(messages, "crypto-level1-binance")
    keys = [arguments[2] for arguments in pool.produced]
    assert keys[:12] == [f"{('kraken', 'binance')[n % 2]}-S{n % 3}/USDT".encode() for n in range(12)]
    assert keys[12::2] == [f"kraken-S{n % 3}/USDT".encode() for n in range(0, 12, 2)]
    assert keys[13::2] == [f"S{n % 3}/USDT".encode() for n in range(1, 12, 2)]


def test_a_type_that_is_not_registered_is_unroutable() -> None:
    class Strange(msgspec.Struct):
        exchange_id: str
        last_updated: datetime

    strange: Any = Strange("binance", now)
    with pytest.raises(UnroutableError, match="Strange"):
        publisher()[0].publish([strange])


def test_a_naive_time_is_an_error_of_the_message() -> None:
    with pytest.raises(MessageError, match="time zone"):
        publisher()[0].publish([msgspec.structs.replace(quote("A/B"), last_updated=datetime(2024, 1, 1))])


def test_counts_are_exact_while_an_error_is_kept(own_broker: LocalBroker, own_topic: TopicFactory) -> None:
    name = own_topic("kept")
    settings = ProducerSettings(buffer_bytes=200_000, max_block_ms=200, pool_size=1)
    big = [quote(os.urandom(400).hex() + "/USDT", n) for n in range(2_000)]
    with RedpandaClient(BrokerSettings(brokers=own_broker.bootstrap), settings) as client:
        client.produce(name, quotes(10))
        client.flush()
        own_broker.nodes[0].pause()
        try:
            with pytest.raises(BufferFullError) as kept:
                client.produce(name, big)
        finally:
            own_broker.nodes[0].resume()
        client.flush(60)
        assert 10 < sum(client.delivered.values()) < 2_010
        assert kept.value.topic == name
