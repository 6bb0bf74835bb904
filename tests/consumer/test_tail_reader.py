"""Test following a topic from its end or a position, with added partitions."""

from __future__ import annotations

import time

from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions

from coinstream.consumer.tail_reader import TailReader
from coinstream.kafka.partition_reader import OffsetRange
from coinstream.kafka.records import offset_of, partition_of
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.support import wait_until

LIMIT_S = 60.0


def produce(brokers: BrokerSettings, topic: str, partition: int, count: int) -> None:
    failed: list[object] = []
    producer = Producer({"bootstrap.servers": brokers.brokers})
    for number in range(count):
        producer.produce(
            topic,
            b"%d" % number,
            partition=partition,
            on_delivery=lambda error, _: failed.append(error) if error else None,
        )
    assert producer.flush(30) == 0
    assert not failed


def leaders(admin: AdminClient, topic: str) -> int:
    found = admin.list_topics(topic, timeout=10).topics[topic].partitions
    return sum(part.leader >= 0 for part in found.values())


def read(reader: TailReader, count: int) -> list[tuple[int, int]]:
    """Return the partition and offset of `count` records."""
    found: list[tuple[int, int]] = []
    deadline = time.monotonic() + LIMIT_S
    for batch in reader:
        found.extend((partition_of(record)[1], offset_of(record)) for record in batch)
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, found
    raise AssertionError("a reader that follows never ends")


def test_added_partitions_are_read_from_their_start(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name = topic("tail")
    produce(broker_settings, name, 0, 3)
    admin = AdminClient({"bootstrap.servers": broker_settings.brokers})
    with TailReader(broker_settings, name, OffsetRange(from_offset=0)) as reader:
        assert read(reader, 3) == [(0, 0), (0, 1), (0, 2)]
        admin.create_partitions([NewPartitions(name, 3)])[name].result(30)
        wait_until(lambda: leaders(admin, name) == 3, what="the partitions have leaders")
        produce(broker_settings, name, 2, 2)
        assert read(reader, 2) == [(2, 0), (2, 1)]


def test_chosen_partitions_stay_the_chosen_ones(broker_settings: BrokerSettings, topic: TopicFactory) -> None:
    name = topic("tail", partitions=2)
    for partition in (0, 1):
        produce(broker_settings, name, partition, 5)
    chosen = OffsetRange(from_offset=3, partitions=(1,))
    with TailReader(broker_settings, name, chosen) as reader:
        assert read(reader, 2) == [(1, 3), (1, 4)]
