"""Which producer of the pool a key goes through."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.producing.delivery import Ledger
from coinstream.producing.pool import ProducerPool
from coinstream.routing import partition_of
from coinstream.settings import BrokerSettings, ProducerSettings

PARTITIONS = {"crypto-level1": 48, "crypto-prices": 24}


class Topics:
    """Topics that may gain partitions."""

    def __init__(self) -> None:
        self.counts = dict(PARTITIONS)

    def partitions_of(self, topic: str) -> int:
        return self.counts[topic]


@pytest.fixture(scope="module")
def topics() -> Topics:
    return Topics()


@pytest.fixture(scope="module")
def pool(broker_settings: BrokerSettings, topics: Topics) -> Iterator[ProducerPool]:
    opened = ProducerPool(broker_settings, ProducerSettings(), Ledger(), topics.partitions_of)
    yield opened
    opened.close()


@given(key=st.binary(max_size=40), topic=st.sampled_from(sorted(PARTITIONS)))
def test_the_keys_of_a_partition_share_a_producer(pool: ProducerPool, key: bytes, topic: str) -> None:
    partition = partition_of(key, PARTITIONS[topic])
    # Keys "0", "1" … meet every partition sooner or later.
    other = next(
        text for n in range(10**6) if partition_of(text := str(n).encode(), PARTITIONS[topic]) == partition
    )
    assert pool.find(topic, key) is pool.find(topic, other)


def test_partitions_are_dealt_out_evenly(pool: ProducerPool) -> None:
    by_lane: dict[int, set[int]] = {}
    for n in range(5000):
        key = str(n).encode()
        by_lane.setdefault(id(pool.find("crypto-level1", key)), set()).add(partition_of(key, 48))
    assert sorted(len(partitions) for partitions in by_lane.values()) == [9, 9, 10, 10, 10]


def test_a_key_keeps_its_producer_when_its_topic_grows(pool: ProducerPool, topics: Topics) -> None:
    keys = [f"binance-COIN{n}/USDT".encode() for n in range(200)]
    before = [pool.find("crypto-prices", key) for key in keys]
    topics.counts["crypto-prices"] = 36
    assert [pool.find("crypto-prices", key) for key in keys] == before
