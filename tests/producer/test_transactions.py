"""Transactions: all or nothing over topics, and a zombie that is fenced."""

from __future__ import annotations

import pytest

from coinstream.client import RedpandaClient
from coinstream.errors import TopicError, TransactionError
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.producer.records import numbers_by_key, quote, quotes, read
from tests.support import unique


class ChangedItsMindError(Exception):
    """Raised inside a block."""


def test_all_or_nothing_over_two_topics(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    one, two, name = topic("one", partitions=3), topic("two"), unique("id")
    with RedpandaClient(broker_settings) as client:
        with client.transaction(name) as transaction:
            assert transaction.publish(quotes(100), one) == 100
            transaction.publish(quotes(50), two)
        with pytest.raises(ChangedItsMindError), client.transaction(name) as transaction:  # noqa: PT012
            transaction.publish(quotes(300, start=100), one)
            transaction.publish(quotes(300, start=50), two)
            raise ChangedItsMindError
        with client.transaction(name) as transaction:
            transaction.publish(quotes(100, start=100), one)
        assert sum(client.delivered.values()) == 250
    numbers = numbers_by_key(read(broker_settings.brokers, one, 200))
    assert numbers == {f"binance-S{n}/USDT".encode(): list(range(n, 200, 20)) for n in range(20)}
    assert len(read(broker_settings.brokers, two, 50)) == 50


def test_a_zombie_is_fenced_and_its_transaction_is_not_seen(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    place, name = topic("fenced"), unique("id")
    with RedpandaClient(broker_settings) as zombie, RedpandaClient(broker_settings) as successor:
        with (  # noqa: PT012
            pytest.raises(TransactionError, match=f"{name}.*another producer"),
            zombie.transaction(name) as old,
        ):
            old.publish(quotes(10), place)
            with successor.transaction(name) as new:
                new.publish(quotes(10, start=100), place)
        assert zombie.delivered == {}
        with zombie.transaction(name) as late:
            late.publish(quotes(10, start=200), place)
    numbers = [
        n for found in numbers_by_key(read(broker_settings.brokers, place, 20)).values() for n in found
    ]
    assert sorted(numbers) == [*range(100, 110), *range(200, 210)]


def test_an_error_in_the_block_undoes_it(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    # Several rounds: the messages of an aborted block are on their way to the broker in some of them only.
    place, missing, rounds = topic("undone"), unique("missing"), 20
    with RedpandaClient(broker_settings) as client:
        for number in range(rounds):
            name = unique("id")
            with pytest.raises(TopicError), client.transaction(name) as transaction:  # noqa: PT012
                transaction.publish(quotes(10), place)
                transaction.publish(quotes(10), missing)
            with client.transaction(name) as transaction:
                transaction.publish([quote("BTC/USDT", number)], place)
    numbers = numbers_by_key(read(broker_settings.brokers, place, rounds))
    assert numbers == {b"binance-BTC/USDT": list(range(rounds))}
