"""What groups have committed, read without joining them.

Not with `AdminClient.list_consumer_group_offsets`: in librdkafka 2.16.0 that request takes the whole process
down (a null pointer in `rd_kafka_handle_OffsetFetch`) when it meets a coordinator that has just moved.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from confluent_kafka import Consumer, KafkaException, TopicPartition

from coinstream.kafka import base_config, broker_error, checked
from coinstream.records import PartitionKey
from coinstream.settings import BrokerSettings

_KEPT: Final = 8
"""Consumers kept open: each holds some threads and a connection per broker."""


class CommittedReader:
    """Reads committed offsets, with a consumer per group that never subscribes. Not thread-safe."""

    def __init__(self, brokers: BrokerSettings) -> None:
        self._brokers = brokers
        self._consumers: OrderedDict[str, Consumer] = OrderedDict()

    def read(self, group: str, places: Iterable[PartitionKey]) -> dict[PartitionKey, int]:
        """Return the committed offsets among these partitions; those without a commit are left out.

        Raises:
            BrokerError, AuthenticationError: the cluster cannot be asked.
        """
        parts = [TopicPartition(topic, number) for topic, number in places]
        if not parts:
            return {}
        consumer = self._consumer(group)
        try:
            answer = consumer.committed(parts, timeout=self._brokers.request_timeout_ms / 1000)
        except KafkaException as error:
            self._drop(group)
            raise broker_error(
                error.args[0], f"reading the offsets of group {group}", self._brokers.brokers
            ) from None
        return {
            (part.topic, part.partition): part.offset
            for part in answer
            if part.offset >= 0 and part.error is None
        }

    def _consumer(self, group: str) -> Consumer:
        consumer = self._consumers.pop(group, None) or checked(lambda: Consumer(self._config(group)))
        self._consumers[group] = consumer
        while len(self._consumers) > _KEPT:
            self._drop(next(iter(self._consumers)))
        return consumer

    def _drop(self, group: str) -> None:
        self._consumers.pop(group).close()

    def _config(self, group: str) -> dict[str, object]:
        return {
            **base_config(self._brokers, "coinstream-lag"),
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "allow.auto.create.topics": False,
            "socket.timeout.ms": self._brokers.request_timeout_ms,
        }
