"""Test the assignment of messages to producers of the pool."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.producer.delivery import DeliveryTracker, RecordMetadata
from coinstream.producer.pool import ProducerPool
from coinstream.settings import BrokerSettings, ProducerSettings
from tests.support import wait_until

Affinity = Literal["topic", "key"]
keys = st.binary(max_size=40)
topics = st.text("abcdefghijklmnopqrstuvwxyz-.", min_size=1, max_size=40)


@pytest.fixture(scope="module")
def pool(broker_settings: BrokerSettings) -> Iterator[Callable[[Affinity], ProducerPool]]:
    with ExitStack() as stack:
        pools: dict[Affinity, ProducerPool] = {}

        def opened(affinity: Affinity) -> ProducerPool:
            if affinity not in pools:
                pools[affinity] = ProducerPool(
                    broker_settings, ProducerSettings(affinity=affinity), DeliveryTracker()
                )
                stack.callback(pools[affinity].close)
            return pools[affinity]

        yield opened


@pytest.mark.parametrize("affinity", ["topic", "key"])
@given(topic=topics, key=keys)
def test_a_key_keeps_its_producer(
    pool: Callable[[Affinity], ProducerPool], affinity: Affinity, topic: str, key: bytes
) -> None:
    assert pool(affinity).find(topic, key) is pool(affinity).find(topic, key)


@given(topic=topics, key=keys, other=keys)
def test_by_default_the_keys_of_a_topic_share_a_producer(
    pool: Callable[[Affinity], ProducerPool], topic: str, key: bytes, other: bytes
) -> None:
    assert ProducerSettings().affinity == "topic"
    assert pool("topic").find(topic, key) is pool("topic").find(topic, other)


def test_topics_are_spread_over_all_five(pool: Callable[[Affinity], ProducerPool]) -> None:
    found = [pool("topic").find(f"crypto-level1-exchange{n}", b"BTC/USDT") for n in range(200)]
    assert len(set(map(id, found))) == 5


def test_64_topics_of_the_throughput_profile_share_a_producer(broker_settings: BrokerSettings) -> None:
    settings = ProducerSettings(throughput_topics=("*",), pool_size=2)
    pool = ProducerPool(broker_settings, settings, DeliveryTracker())
    try:
        names = [f"crypto-level1-exchange{n}" for n in range(3 * 64)]
        found = [pool.find(name, b"BTC/USDT") for name in names]
        assert [len(set(map(id, found[at : at + 64]))) for at in (0, 64, 128)] == [1, 1, 1]
        assert found[0] is not found[64]
        assert found[0] is found[128]
        assert [pool.find(name, b"ETH/USDT") for name in reversed(names)] == found[::-1]
    finally:
        pool.close()


def test_keys_may_be_spread_over_all_five(pool: Callable[[Affinity], ProducerPool]) -> None:
    found = [pool("key").find("crypto-level1", f"binance-COIN{n}/USDT".encode()) for n in range(200)]
    assert len(set(map(id, found))) == 5


def test_get_producer_takes_turns(pool: Callable[[Affinity], ProducerPool]) -> None:
    turns = [pool("topic").get_producer() for _ in range(10)]
    assert len(set(map(id, turns[:5]))) == 5
    assert turns[:5] == turns[5:]


def test_threads_that_serve_a_lane_together_complete_each_future_once(
    pool: Callable[[Affinity], ProducerPool],
) -> None:
    producer, ended = pool("topic").find("crypto-level1", b""), threading.Event()

    def serve() -> None:
        while not ended.is_set():
            producer.poll()

    futures: list[Future[RecordMetadata]] = [Future() for _ in range(1_500)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as threads:
            serving = [threads.submit(serve) for _ in range(4)]
            for first in range(0, len(futures), 3):
                producer.reports.acknowledged.extend(
                    (future, RecordMetadata("t", 0, number, 0, 0.0))
                    for number, future in enumerate(futures[first : first + 3], first)
                )
                # Without a pause, in which four threads would only use the processor.
                wait_until(lambda: not producer.reports.acknowledged, what="all are served", pause_s=0)
            ended.set()
            for served in serving:
                served.result()
    finally:
        ended.set()
        sys.setswitchinterval(interval)
    assert [future.result(0).offset for future in futures] == list(range(1_500))
