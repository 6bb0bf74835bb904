"""Provide the leader and the replica state to the fault tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, PartitionMetadata

from coinstream.local_broker import LocalBroker, Node
from tests.cluster import is_in_sync
from tests.faults.delivery_check import Sent as SentMessage
from tests.faults.delivery_check import check_delivery, franz_program, read_all, read_all_with_franz
from tests.support import wait_until

Check = Callable[[str, list[SentMessage]], None]
"""Checks a topic with both readers."""


class Watch:
    """Looks at a cluster from outside."""

    def __init__(self, cluster: LocalBroker) -> None:
        self.cluster = cluster
        # A frozen node must not keep an answer back for librdkafka's minute: further questions wait for it.
        self.admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "socket.timeout.ms": 5000})

    def leader(self, topic: str) -> Node:
        """Return the node that leads most partitions of the topic."""
        leaders = wait_until(
            lambda: Counter(part.leader for part in self._partitions(topic) if part.leader > 0),
            60,
            f"{topic} has a leader",
        )
        (most, _), *_ = leaders.most_common()
        return self.cluster.nodes[most - 1]

    def replicas_in(self, topic: str) -> bool:
        """Whether every replica of every partition is in sync."""
        parts = self._partitions(topic)
        return bool(parts) and all(map(is_in_sync, parts))

    def _partitions(self, topic: str) -> list[PartitionMetadata]:
        try:
            return list(self.admin.list_topics(topic, timeout=10).topics[topic].partitions.values())
        except KafkaException:
            # The node may be paused or killed, so the caller retries.
            return []

    def restored(self, topic: str) -> None:
        """Wait until the cluster is whole again."""
        self.cluster.wait_ready()
        wait_until(lambda: self.replicas_in(topic), 300, f"all replicas of {topic} are in sync")


@pytest.fixture
def watch(cluster3: LocalBroker) -> Watch:
    return Watch(cluster3)


@pytest.fixture
def check(cluster3: LocalBroker) -> Check:
    return checker(cluster3.bootstrap)


def checker(bootstrap: str) -> Check:
    """Check a topic: no message is lost or duplicated, and every market is in order."""

    def both(topic: str, acknowledged: list[SentMessage]) -> None:
        assert acknowledged, "nothing was acknowledged: the test shows nothing"
        stored = read_all(bootstrap, topic)
        faults = check_delivery(acknowledged, stored)
        assert faults.is_clean, str(faults)
        program = franz_program()
        # Without Go the first reader is the only one; test_delivery_check reports it.
        if isinstance(program, Path):
            assert sorted(stored) == sorted(read_all_with_franz(bootstrap, topic, program))

    return both
