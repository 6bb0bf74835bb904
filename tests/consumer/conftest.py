"""A client on the session's broker that begins at the start of a topic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer, TopicPartition

from coinstream.client import RedpandaClient
from coinstream.settings import BrokerSettings, ConsumerSettings


@pytest.fixture
def client(broker_settings: BrokerSettings) -> Iterator[RedpandaClient]:
    settings = ConsumerSettings(offset_reset="earliest")
    with RedpandaClient(broker_settings, consumer=settings) as opened:
        yield opened


@pytest.fixture
def committed(broker_settings: BrokerSettings) -> object:
    """`committed(group, topic, partitions)` gives the committed offset of each partition."""

    def ask(group: str, topic: str, partitions: int) -> dict[int, int]:
        consumer = Consumer({"bootstrap.servers": broker_settings.brokers, "group.id": group})
        try:
            asked = [TopicPartition(topic, number) for number in range(partitions)]
            return {part.partition: part.offset for part in consumer.committed(asked, timeout=10)}
        finally:
            consumer.close()

    return ask
