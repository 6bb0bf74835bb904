"""A producer that fails fatally is replaced; nothing is lost and the order of keys holds."""

from __future__ import annotations

import os

import pytest

from coinstream.client import RedpandaClient
from coinstream.errors import MessageTooLargeError, ProduceError
from coinstream.local_broker import LocalBroker
from coinstream.settings import BrokerSettings, ProducerSettings
from tests.conftest import TopicFactory
from tests.producer.records import numbers_by_key, quotes, read
from tests.support import wait_until

REPLACED = "replacing it"


def test_a_batch_that_the_broker_refuses_costs_only_the_message_at_fault(
    broker_settings: BrokerSettings, topic: TopicFactory, caplog: pytest.LogCaptureFixture
) -> None:
    name = topic("refused", config={"max.message.bytes": "3000"})
    settings = ProducerSettings(pool_size=1)
    with RedpandaClient(broker_settings, settings) as client:
        client.produce(name, quotes(200))
        too_large = client.send(name, b"binance-S0/USDT", os.urandom(5000))
        client.produce(name, quotes(200, start=200))
        client.flush()
        with pytest.raises(MessageTooLargeError, match=f"{name}.*binance-S0/USDT"):
            too_large.result(0)
        assert REPLACED in caplog.text
        assert sum(client.delivered.values()) == 400
    by_key = numbers_by_key(read(broker_settings.brokers, name, 400))
    assert by_key == {f"binance-S{n}/USDT".encode(): list(range(n, 400, 20)) for n in range(20)}


def test_flush_waits_for_messages_that_another_thread_sends_again(
    broker_settings: BrokerSettings, topic: TopicFactory, caplog: pytest.LogCaptureFixture
) -> None:
    name = topic("refused", partitions=4, config={"max.message.bytes": "3000"})
    settings = ProducerSettings(pool_size=1, retry_backoff_ms=200)
    with RedpandaClient(broker_settings, settings) as client:
        for start in range(0, 1200, 400):
            caplog.clear()
            too_large = client.send(name, b"binance-S0/USDT", os.urandom(5000))
            client.produce(name, quotes(400, start=start))
            wait_until(lambda: REPLACED in caplog.text, what="the poll thread replaces the producer")
            client.flush()
            assert sum(client.delivered.values()) == start + 400
            assert isinstance(too_large.exception(0), MessageTooLargeError)


def test_messages_that_expire_are_reported_and_those_behind_them_arrive_in_order(
    own_broker: LocalBroker, own_topic: TopicFactory
) -> None:
    name = own_topic("expired", partitions=3)
    settings = ProducerSettings(delivery_timeout_ms=2000)
    client = RedpandaClient(BrokerSettings(brokers=own_broker.bootstrap), settings)
    client.produce(name, quotes(400))
    client.flush()
    own_broker.nodes[0].pause()
    client.produce(name, quotes(400, start=400))
    error = wait_until(lambda: reported(client), what="the messages expire")
    assert name in str(error)
    own_broker.nodes[0].resume()
    wait_until(lambda: settled(client), what="all is acknowledged or reported")
    client.produce(name, quotes(400, start=800))
    client.close()
    delivered = sum(client.delivered.values())
    assert 800 <= delivered < 1200
    records = read(own_broker.bootstrap, name, delivered)
    for numbers in numbers_by_key(records).values():
        assert numbers == sorted(numbers)


def reported(client: RedpandaClient) -> ProduceError | None:
    """Return the error of a message, where there is one."""
    try:
        client.flush(0.2)
    except ProduceError as error:
        return error if error.key is not None else None
    return None


def settled(client: RedpandaClient) -> bool:
    """Whether nothing is outstanding and no error is left to report."""
    try:
        client.flush(5)
    except ProduceError:
        return False
    return True
