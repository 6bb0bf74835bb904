"""Test the batcher: flushing, adaptation, and delivery of every message."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.client import RedpandaClient
from coinstream.errors import MessageError
from coinstream.messages import Message
from coinstream.producer.batcher import AdaptiveSize, Batcher, BatchLimits, limits_for
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.producer.records import numbers_by_key, quote, quotes, read
from tests.support import wait_until

LONG_LATENCY = BatchLimits(messages=10, latency_ms=60_000)


@pytest.mark.parametrize(
    ("topic", "messages", "latency_ms"),
    [
        ("crypto-level1-binance", 1000, 10),
        ("crypto-prices", 500, 50),
        ("crypto-analytics", 100, 1000),
        ("crypto-ohlcv", 200, 100),
    ],
)
def test_limits_are_those_of_the_specification(topic: str, messages: int, latency_ms: float) -> None:
    assert limits_for(topic) == BatchLimits(messages, latency_ms)


@given(
    st.builds(BatchLimits, st.integers(1, 1000), st.floats(1, 1000)),
    st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 100)), max_size=20),
)
def test_the_size_stays_between_the_bounds(limits: BatchLimits, batches: list[tuple[int, float]]) -> None:
    size = AdaptiveSize(limits)
    for messages, seconds in batches:
        size.observe(messages, seconds)
        assert 1 <= size.messages <= limits.messages


@given(st.builds(BatchLimits, st.integers(1, 1000), st.floats(1, 1000)), st.floats(0.1, 1e6))
def test_the_size_follows_the_rate(limits: BatchLimits, rate: float) -> None:
    size = AdaptiveSize(limits)
    for _ in range(60):
        size.observe(1000, 1000 / rate)
    assert size.messages == max(1, min(round(rate * limits.latency_ms / 1000), limits.messages))


def keep_in(batches: list[Sequence[Message]]) -> Callable[[Sequence[Message]], int]:
    """Return a sender that keeps what it was given, and says that all of it left."""

    def keep(batch: Sequence[Message]) -> int:
        batches.append(batch)
        return len(batch)

    return keep


def test_a_full_batch_leaves_at_once_and_the_rest_on_closing() -> None:
    batches: list[Sequence[Message]] = []
    with Batcher("t", keep_in(batches), LONG_LATENCY) as batcher:
        for message in quotes(12):
            batcher.add(message)
        assert [message for batch in batches for message in batch] == quotes(12)[: 12 - len(batcher)]
        assert len(batches) >= 1
    assert [message for batch in batches for message in batch] == quotes(12)


def test_the_oldest_message_is_not_kept_waiting_by_younger_ones() -> None:
    batches: list[Sequence[Message]] = []
    limits = BatchLimits(messages=1_000_000, latency_ms=30)
    with Batcher("t", keep_in(batches), limits) as batcher:
        sent = 0

        def one_more() -> bool:
            nonlocal sent
            batcher.add(quote("A/B", sent))
            sent += 1
            return bool(batches)

        # Messages never pause for as long as the latency: a timer of inactivity would not fire.
        wait_until(one_more, what="the first batch leaves")


def test_what_the_timer_could_not_send_is_raised_by_the_next_call() -> None:
    def refuse(_: Sequence[Message]) -> int:
        raise MessageError("no")

    batcher = Batcher("t", refuse, BatchLimits(100, 1))
    batcher.add(quote("A/B"))
    wait_until(lambda: not len(batcher), what="the timer fires")
    with pytest.raises(MessageError, match="no"):
        batcher.close()
    batcher.close()
    with pytest.raises(ValueError, match="closed"):
        batcher.add(quote("A/B"))


def test_batches_of_a_client_arrive_in_order(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("level1", partitions=3)
    with RedpandaClient(broker_settings) as client:
        with client.batcher(name) as batcher:
            for message in quotes(2500):
                batcher.add(message)
        assert client.send_batch(name, quotes(500, start=2500)) == 500
    found = numbers_by_key(read(broker_settings.brokers, name, 3000))
    assert found == {f"binance-S{n}/USDT".encode(): list(range(n, 3000, 20)) for n in range(20)}


def test_the_pool_gives_its_producers_in_turns(broker_settings: BrokerSettings) -> None:
    with RedpandaClient(broker_settings) as client:
        turns = [client.get_producer() for _ in range(10)]
    assert turns[:5] == turns[5:]
    assert len(set(turns)) == 5
