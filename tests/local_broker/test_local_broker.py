"""Test that the local broker keeps its data and tolerates the loss of nodes."""

from __future__ import annotations

import pytest
from confluent_kafka import KafkaError, Message, Producer

from coinstream.local_broker import LocalBroker
from tests.conftest import TopicFactory
from tests.local_broker.reading import read_all


def test_serves_what_was_produced(broker: LocalBroker, topic: TopicFactory) -> None:
    name = topic("served", partitions=2)
    producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True})
    for number in range(100):
        producer.produce(name, str(number).encode(), partition=number % 2)
    assert producer.flush(20) == 0
    assert read_all(broker.bootstrap, name, 100) == {str(number).encode() for number in range(100)}


@pytest.mark.system
def test_acknowledged_messages_survive_a_killed_node(cluster3: LocalBroker, topic3: TopicFactory) -> None:
    name = topic3("survives", partitions=3)
    producer = Producer({"bootstrap.servers": cluster3.bootstrap, "enable.idempotence": True})
    acknowledged: list[bytes | None] = []

    def note(error: KafkaError | None, record: Message) -> None:
        if error is None:
            acknowledged.append(record.value())

    for number in range(3000):
        value = str(number).encode()
        producer.produce(name, value, on_delivery=note)
        producer.poll(0)
        if number == 1000:
            cluster3.nodes[1].kill()
    assert producer.flush(60) == 0
    assert len(acknowledged) == 3000
    assert read_all(cluster3.bootstrap, name, 3000) == set(acknowledged)
    cluster3.nodes[1].start()
    cluster3.wait_ready()
    # The three folders are kept, and are one cluster again.
    cluster3.stop()
    cluster3.start()
    assert read_all(cluster3.bootstrap, name, 3000) == set(acknowledged)
