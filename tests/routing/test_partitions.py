"""Test that computed partitions equal those chosen by librdkafka."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from confluent_kafka import Producer
from hypothesis import given
from hypothesis import strategies as st

from coinstream.errors import UnroutableError
from coinstream.messages import Analytics, Level1, Message
from coinstream.routing import MessageRouter, message_key, murmur2, partition_of_key
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.producer.records import quote, read

KEYS = [
    b"",
    b"a",
    b"ab",
    b"abc",
    b"abcd",
    b"BTC/USDT",
    b"binance-BTC/USDT",
    "ключ-₿/€".encode(),
    "漢字😀".encode(),
    b"\x00\xff\xfe\x80",
    b"\xff" * 7,
    b"x" * 1000,
    *(b"coin-%d/USDT" % number for number in range(500)),
]


@pytest.mark.parametrize("partitions", [1, 7, 48])
def test_librdkafka_agrees(broker_settings: BrokerSettings, topic: TopicFactory, partitions: int) -> None:
    name = topic("murmur", partitions=partitions)
    producer = Producer({"bootstrap.servers": broker_settings.brokers, "partitioner": "murmur2_random"})
    for key in KEYS:
        producer.produce(name, b"v", key)
    assert producer.flush(30) == 0
    records = read(broker_settings.brokers, name, len(KEYS))
    found = {bytes(record.key() or b""): record.partition() for record in records}
    assert found == {key: partition_of_key(key, partitions) for key in KEYS}


def test_the_hash_is_that_of_the_java_client() -> None:
    """The values that Apache Kafka's own test of `Utils.murmur2` expects, as unsigned numbers."""
    known = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}
    assert {key: murmur2(key) for key in known} == {key: value & 0xFFFFFFFF for key, value in known.items()}


@given(st.binary(max_size=64), st.integers(min_value=1, max_value=1000))
def test_every_key_has_a_partition(key: bytes, partitions: int) -> None:
    assert 0 <= partition_of_key(key, partitions) < partitions


def test_the_exchange_topic_is_used_as_soon_as_it_is_known() -> None:
    router, message = MessageRouter(["crypto-level1"]), quote("BTC/USDT")
    assert router.route(message) == ("crypto-level1", b"binance-BTC/USDT")
    router.set_topics(["crypto-level1", "crypto-level1-binance"])
    assert router.route(message) == ("crypto-level1-binance", b"BTC/USDT")
    router.set_topics(["crypto-level1"])
    assert router.route(message) == ("crypto-level1", b"binance-BTC/USDT")


def test_analytics_are_keyed_by_their_source() -> None:
    message = Analytics("coingecko", 1.0, 1.0, 50.0, datetime(2024, 1, 1, tzinfo=UTC))
    assert MessageRouter().route(message) == ("crypto-analytics", b"coingecko")
    assert message_key(message, "anywhere") == b"coingecko"


def test_a_type_that_nobody_registered_is_unroutable() -> None:
    class Rumour(Message, frozen=True):
        exchange_id: str

    with pytest.raises(UnroutableError, match="Rumour"):
        MessageRouter().route(Rumour("x"))
    with pytest.raises(UnroutableError, match="candle"):
        MessageRouter().topic_of({"symbol": "x"}, "candle")


def test_the_caller_may_name_the_type() -> None:
    router = MessageRouter(["crypto-level1-kraken"])
    assert router.topic_of({"exchangeId": "kraken"}, "level1") == "crypto-level1-kraken"
    assert router.topic_of({"bestBid": 1.0, "exchangeId": "x"}) == "crypto-level1"
    assert isinstance(quote("x"), Level1)
