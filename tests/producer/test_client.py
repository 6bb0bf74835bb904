"""RedpandaClient on a real broker: futures, counts, typed errors, bounded memory."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import Future

import msgspec
import pytest

from coinstream.client import RecordMetadata, RedpandaClient
from coinstream.errors import (
    BrokerError,
    BufferFullError,
    MessageError,
    MessageTooLargeError,
    ProduceError,
    TopicError,
    UnroutableError,
)
from coinstream.local_broker import LocalBroker
from coinstream.serialization import MessageDeserializer
from coinstream.settings import BrokerSettings, ProducerSettings
from tests.conftest import TopicFactory
from tests.producer.records import numbers_by_key, quote, quotes, read
from tests.support import unique


def test_send_gives_where_the_message_lies(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("sent", partitions=3)
    message = quote("BTC/USDT", 7)
    with RedpandaClient(broker_settings) as client:
        where = client.send(name, "binance-BTC/USDT", message, {"trace": "abc"}).result(30)
        assert client.delivered == {(name, where.partition): 1}
    (record,) = read(broker_settings.brokers, name, 1)
    assert (where.topic, where.partition, where.offset) == (name, record.partition(), record.offset())
    assert record.headers() == [("trace", b"abc")]
    assert record.timestamp()[1] == where.timestamp_ms == int(message.last_updated.timestamp() * 1000)
    assert MessageDeserializer().decode(record.value()).message == message


def test_flush_does_not_wait_for_the_linger_time(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("lingering", partitions=3)
    with RedpandaClient(broker_settings, ProducerSettings(linger_ms=100_000)) as client:
        client.produce(name, quotes(5))
        client.flush(50)
        assert sum(client.delivered.values()) == 5
    assert len(read(broker_settings.brokers, name, 5)) == 5


def test_send_is_awaited_from_asyncio(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("awaited")

    async def send_all(client: RedpandaClient) -> list[int]:
        waiting = [
            asyncio.wrap_future(client.send(name, b"k", b"%d" % number, [("n", str(number))]))
            for number in range(20)
        ]
        return [sent.offset for sent in await asyncio.gather(*waiting)]

    with RedpandaClient(broker_settings) as client:
        assert asyncio.run(send_all(client)) == list(range(20))


def test_a_message_is_sent_under_its_own_key(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("keyed", partitions=3)
    with RedpandaClient(broker_settings) as client:
        client.send(name, None, quote("BTC/USDT"))
        client.send(name, None, b"no key, no message")
    assert sorted(bytes(record.key() or b"") for record in read(broker_settings.brokers, name, 2)) == [
        b"",
        b"binance-BTC/USDT",
    ]


def test_order_of_keys_holds_over_both_ways_of_sending(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("mixed", partitions=6)
    with RedpandaClient(broker_settings) as client:
        client.produce(name, quotes(1000))
        for message in quotes(100, start=1000):
            client.send(name, None, message)
        client.produce_batch([{"topic": name, "messages": quotes(1000, start=1100)}])
        client.flush()
        assert sum(client.delivered.values()) == 2100
    found = numbers_by_key(read(broker_settings.brokers, name, 2100))
    assert found == {f"binance-S{n}/USDT".encode(): list(range(n, 2100, 20)) for n in range(20)}


def test_delivered_counts_by_the_partition_that_librdkafka_chose(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("counted", partitions=7)
    with RedpandaClient(broker_settings) as client:
        client.produce(name, quotes(3000, symbols=50))
        client.flush()
        counted = client.delivered
    records = read(broker_settings.brokers, name, 3000)
    for partition in range(7):
        there = sum(record.partition() == partition for record in records)
        assert counted.get((name, partition), 0) == there


def test_wire_fields_become_messages(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("wire")
    fields = {
        "exchangeId": "kraken",
        "symbol": "BTC/USD",
        "usdPrice": 1.5,
        "lastUpdated": "2024-01-01T00:00:00Z",
    }
    with RedpandaClient(broker_settings) as client:
        assert client.produce(name, [fields]) == 1
        assert client.route_message(fields) == client.route_message(fields, "price") == "crypto-prices"
        with pytest.raises(UnroutableError, match="colour"):
            client.route_message({"colour": 1})
        with pytest.raises(MessageError, match="usdPrice"):
            client.produce(name, [fields | {"usdPrice": "dear"}])
    (record,) = read(broker_settings.brokers, name, 1)
    assert record.key() == b"kraken-BTC/USD"


def test_a_missing_topic_is_an_error_that_names_topic_and_key(broker_settings: BrokerSettings) -> None:
    name = unique("missing")
    with RedpandaClient(broker_settings) as client:
        with pytest.raises(TopicError, match=f"{name}.*binance-BTC/USDT.*topics apply"):
            client.produce(name, [quote("BTC/USDT")])
        with pytest.raises(TopicError, match=name):
            client.send(name, b"k", b"v")


def test_too_large_is_refused_before_it_is_sent(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("large")
    with RedpandaClient(broker_settings) as client:
        with pytest.raises(MessageTooLargeError, match=f"{name}.*'k'") as refused:
            client.send(name, b"k", bytes(2_000_000))
        assert (refused.value.topic, refused.value.key) == (name, b"k")
        assert client.send(name, b"k", b"small").result(30).offset == 0


def test_an_error_midway_does_not_stop_the_count(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("midway")
    bad = msgspec.structs.replace(quote("A/B", 3), best_bid=float("nan"))
    with RedpandaClient(broker_settings) as client:
        with pytest.raises(MessageError) as refused:
            client.produce(name, [quote("A/B", 1), quote("A/B", 2), bad])
        client.flush()
        assert "best_bid" in str(refused.value)
        assert client.delivered == {(name, 0): 2}


def test_an_unreachable_broker_is_one_clear_error() -> None:
    client = RedpandaClient(BrokerSettings(brokers="127.0.0.1:1", request_timeout_ms=500))
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1.*REDPANDA_BROKERS"):
        client.publish([quote("BTC/USDT")])
    client.close()


def test_a_full_buffer_blocks_and_then_is_an_error_and_nothing_is_lost(
    own_broker: LocalBroker, own_topic: TopicFactory
) -> None:
    name = own_topic("full")
    settings = ProducerSettings(buffer_bytes=500_000, max_block_ms=300)
    with RedpandaClient(BrokerSettings(brokers=own_broker.bootstrap), settings) as client:
        client.send(name, b"k", b"first").result(30)
        own_broker.nodes[0].pause()
        try:
            taken = fill(client, name, f"{name}.*'k'")
            assert 0 < taken * 5000 < settings.buffer_bytes
            with pytest.raises(ProduceError, match="not acknowledged"):
                client.flush(0.1)
        finally:
            own_broker.nodes[0].resume()
        client.flush(60)
        assert client.delivered == {(name, 0): taken + 1}


def fill(client: RedpandaClient, topic: str, refusal: str) -> int:
    """Send until the buffer is full; how many messages were taken."""
    waiting: list[Future[RecordMetadata]] = []
    with pytest.raises(BufferFullError, match=refusal):
        waiting.extend(client.send(topic, b"k", os.urandom(5000)) for _ in range(1000))
    return len(waiting)
