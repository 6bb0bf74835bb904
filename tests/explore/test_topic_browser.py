"""Test the message browser: decoding, and search by key, value, time and position."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import lz4.frame
import msgspec
import pytest
from confluent_kafka import Producer

from coinstream.errors import TopicError
from coinstream.explore.topic_browser import (
    RecordFilter,
    browse,
    existing_topics,
    fullest_topic,
    topics_of_type,
)
from coinstream.messages import LEVEL1
from coinstream.serialization import COMPRESSED_HEADER
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.lake.support import START, level1


@pytest.fixture(scope="module")
def quotes(topic: TopicFactory, broker_settings: BrokerSettings) -> str:
    """Return a topic of two partitions: twenty quotes of two symbols, then a record that is no message."""
    any_time = {"message.timestamp.after.max.ms": str(2**63 - 1)}
    name = topic("crypto-level1-explored", partitions=2, config=any_time)
    producer = Producer({"bootstrap.servers": broker_settings.brokers})
    for number in range(20):
        symbol = ("BTC/USDT", "ETH/USDT")[number % 2]
        fields = level1(number, symbol=symbol, bestBid=100.0 + number, bestAsk=200.0)
        at = START + timedelta(minutes=number)
        producer.produce(
            name,
            msgspec.json.encode(fields),
            symbol,
            number % 2,
            timestamp=int(at.timestamp() * 1000),
        )
    producer.produce(name, b"\xff not a message", b"\xfe", 0, timestamp=2**61)
    assert producer.flush(30) == 0
    return name


def test_the_newest_records_come_first_and_decoded(quotes: str, broker_settings: BrokerSettings) -> None:
    page = browse(broker_settings, quotes)
    assert page.records.height == page.scanned == 21
    messages = page.records.filter(page.records["error"].is_null())
    assert messages["time"].is_sorted(descending=True)
    newest = level1(19, symbol="ETH/USDT", bestBid=119.0, bestAsk=200.0)
    assert messages["value"][0] == msgspec.json.encode(newest).decode(), "the text on the wire"


def test_a_compressed_message_is_shown_as_text(topic: TopicFactory, broker_settings: BrokerSettings) -> None:
    name, text = topic("crypto-level1-compressed"), msgspec.json.encode(level1())
    producer = Producer({"bootstrap.servers": broker_settings.brokers})
    producer.produce(name, lz4.frame.compress(text), headers=[(COMPRESSED_HEADER, b"true")])
    assert producer.flush(30) == 0
    (row,) = browse(broker_settings, name).records.to_dicts()
    assert (row["value"], row["error"]) == (text.decode(), None)


def test_a_record_that_is_no_message_shows_its_bytes_and_the_reason(
    quotes: str, broker_settings: BrokerSettings
) -> None:
    page = browse(broker_settings, quotes, RecordFilter(value="not a message"))
    (row,) = page.records.to_dicts()
    assert row["value"] == "\\xff not a message"
    assert row["key"] == "\\xfe"
    assert row["time"] is None
    assert row["error"]


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        (RecordFilter(key="btc"), 10),
        (RecordFilter(value='"bestBid":117.0'), 1),
        (RecordFilter(partitions=(1,)), 10),
        (RecordFilter(key="eth", value='"bestBid":119.0', partitions=(1,)), 1),
        (RecordFilter(offset=8), 5),
        (RecordFilter(since=START + timedelta(minutes=15), partitions=(1,)), 3),
        (RecordFilter(key="nothing"), 0),
    ],
)
def test_records_are_found_by_key_value_partition_offset_and_time(
    quotes: str, broker_settings: BrokerSettings, wanted: RecordFilter, count: int
) -> None:
    assert browse(broker_settings, quotes, wanted).records.height == count


def test_from_a_time_the_oldest_come_first_up_to_the_limit(
    quotes: str, broker_settings: BrokerSettings
) -> None:
    page = browse(broker_settings, quotes, RecordFilter(since=datetime(2026, 1, 5, tzinfo=UTC)), limit=5)
    assert page.records.height == 5
    assert not page.complete


def test_topics_are_listed_and_told_apart_by_type(quotes: str, broker_settings: BrokerSettings) -> None:
    names = existing_topics(broker_settings)
    assert quotes in names
    assert quotes in topics_of_type([*names, quotes + ".dlq"], LEVEL1)
    assert quotes + ".dlq" not in topics_of_type([quotes + ".dlq"], LEVEL1)
    assert fullest_topic(broker_settings, [quotes]) == quotes
    assert fullest_topic(broker_settings, []) is None


def test_a_topic_that_does_not_exist_is_named(broker_settings: BrokerSettings) -> None:
    with pytest.raises(TopicError, match="no-such-topic"):
        browse(broker_settings, "no-such-topic", RecordFilter(offset=0))
    with pytest.raises(TopicError, match="no-such-topic"):
        browse(broker_settings, "no-such-topic")


def test_a_topic_of_kafka_itself_is_not_listed_but_shown(
    topic: TopicFactory, broker_settings: BrokerSettings
) -> None:
    name = topic("__hidden")
    producer = Producer({"bootstrap.servers": broker_settings.brokers})
    producer.produce(name, b"{}", b"k")
    assert producer.flush(30) == 0
    assert name not in existing_topics(broker_settings)
    assert browse(broker_settings, name).records["key"].to_list() == ["k"]


def test_the_newest_records_of_all_partitions_are_shown_though_most_are_in_one(
    topic: TopicFactory, broker_settings: BrokerSettings
) -> None:
    name = topic("crypto-level1-skewed", partitions=8)
    producer = Producer({"bootstrap.servers": broker_settings.brokers})
    for number in range(60):
        at = START + timedelta(seconds=number)
        producer.produce(
            name, msgspec.json.encode(level1(number)), None, 3, timestamp=int(at.timestamp() * 1000)
        )
    assert producer.flush(30) == 0
    page = browse(broker_settings, name, limit=40)
    assert page.records["offset"].to_list() == list(range(59, 19, -1))
    assert not page.complete
    assert browse(broker_settings, name).complete
