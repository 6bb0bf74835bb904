"""Test that requests wait for the leader of a partition."""

from __future__ import annotations

import sys

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from coinstream.backoff import NO_LEADER, produce_when_room, while_refused
from coinstream.kafka import BrokerConsumer
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory


class Refusing:
    """Request of the watermarks that fails with some errors before it is sent."""

    def __init__(self, consumer: BrokerConsumer, *codes: int) -> None:
        self._consumer, self.codes = consumer, list(codes)

    def __call__(self, partition: TopicPartition, *, timeout: float) -> tuple[int, int]:
        if self.codes:
            raise KafkaException(KafkaError(self.codes.pop(0)))
        return self._consumer.get_watermark_offsets(partition, timeout=timeout)


def test_a_request_is_sent_again_while_the_leader_changes(
    broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    place = TopicPartition(topic("led"), 0)
    consumer = BrokerConsumer(
        {"bootstrap.servers": broker_settings.brokers, "group.id": "led"}, broker_settings
    )
    changing = Refusing(consumer, KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
    assert while_refused(NO_LEADER, 30.0)(changing, place, timeout=30.0) == (0, 0)
    refused = Refusing(consumer, KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.NOT_LEADER_FOR_PARTITION)
    with pytest.raises(KafkaException, match="TOPIC_AUTHORIZATION_FAILED"):
        while_refused(NO_LEADER, 30.0)(refused, place, timeout=30.0)
    assert refused.codes == [KafkaError.NOT_LEADER_FOR_PARTITION]
    consumer.close()


def test_the_buffer_is_polled_outside_the_handler_of_its_error() -> None:
    attempts = iter([BufferError("full"), BufferError("full"), None])
    handled: list[BaseException | None] = []

    def produce() -> None:
        if (error := next(attempts)) is not None:
            raise error

    produce_when_room(produce, lambda timeout_s: handled.append(sys.exc_info()[1]))
    assert handled == [None, None]
