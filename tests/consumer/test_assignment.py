"""Test the start offsets of assigned partitions."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from coinstream.client import RedpandaClient
from coinstream.consumer import GroupOptions
from coinstream.consumer.start_offsets import COMMITTED_ATTEMPTS, committed_offsets
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.consumer.common import Memory, fill
from tests.support import unique, wait_until


class Coordinator:
    """Answers in place of a consumer; the first `refusals` times like a broker that just handed on."""

    def __init__(self, refusals: int) -> None:
        self.asked = 0
        self._refusals = refusals

    def committed(self, partitions: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self.asked += 1
        if self.asked <= self._refusals:
            raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))
        return [TopicPartition(part.topic, part.partition, 7) for part in partitions]


@pytest.mark.parametrize(("refusals", "offset"), [(0, 7), (2, 7), (COMMITTED_ATTEMPTS, -1001)])
def test_it_asks_until_it_is_told(refusals: int, offset: int) -> None:
    coordinator: Any = Coordinator(refusals)
    found = committed_offsets("group", coordinator, [TopicPartition("topic", 0), TopicPartition("topic", 1)])
    assert [part.offset for part in found] == [offset, offset]
    assert coordinator.asked == min(refusals + 1, COMMITTED_ATTEMPTS)


def test_who_is_given_nothing_asks_nobody() -> None:
    coordinator: Any = Coordinator(0)
    assert committed_offsets("group", coordinator, []) == []
    assert coordinator.asked == 0


def test_it_begins_at_what_was_committed_and_elsewhere_as_the_options_say(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name, group = topic("crypto-level1", partitions=3), unique("group")
    with RedpandaClient(broker_settings) as client:
        fill(client, name, 300)
    consumer = Consumer({"bootstrap.servers": broker_settings.brokers, "group.id": group})
    pending = consumer.get_watermark_offsets(TopicPartition(name, 0), timeout=10)[1]
    assert pending > 10
    consumer.commit(offsets=[TopicPartition(name, 0, pending - 10)], asynchronous=False)
    consumer.close()
    memory = Memory()
    with (
        RedpandaClient(broker_settings) as client,
        client.create_consumer_group(group, [name], memory.one, GroupOptions(offset_reset="earliest")),
    ):
        wait_until(lambda: memory.total >= 300 - pending + 10, what="one rest, two partitions")
    assert memory.total == 300 - pending + 10
