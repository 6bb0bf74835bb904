"""What fault tests share: who leads, and whether all replicas are in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
from confluent_kafka.admin import AdminClient

from coinstream.local_broker import LocalBroker, Node
from tests.faults.judge import Sent as SentMessage
from tests.faults.judge import franz_program, judge, read_all, read_all_with_franz
from tests.support import wait_until

Check = Callable[[str, list[SentMessage]], None]
"""Judges a topic with both readers."""


class Watch:
    """Looks at a cluster from outside."""

    def __init__(self, cluster: LocalBroker) -> None:
        self.cluster = cluster
        self.admin = AdminClient({"bootstrap.servers": cluster.bootstrap})

    def leader(self, topic: str) -> Node:
        """The node that leads most partitions of the topic."""
        parts = self.admin.list_topics(topic, timeout=10).topics[topic].partitions.values()
        (most, _), *_ = Counter(part.leader for part in parts).most_common()
        return self.cluster.nodes[most - 1]

    def replicas_in(self, topic: str) -> bool:
        """Whether every replica of every partition is in sync."""
        parts = self.admin.list_topics(topic, timeout=10).topics[topic].partitions.values()
        return all(part.leader >= 0 and set(part.isrs) == set(part.replicas) for part in parts)

    def restored(self, topic: str) -> None:
        """Wait until the cluster is whole again."""
        self.cluster.wait_ready()
        wait_until(lambda: self.replicas_in(topic), 60, f"all replicas of {topic} are in sync")


@pytest.fixture(scope="module")
def watch(cluster3: LocalBroker) -> Watch:
    return Watch(cluster3)


@pytest.fixture(scope="module")
def check(cluster3: LocalBroker) -> Check:
    return checker(cluster3.bootstrap)


def checker(bootstrap: str) -> Check:
    """Judge a topic of the cluster at `bootstrap`: nothing lost, nothing twice, every market in order."""

    def both(topic: str, acknowledged: list[SentMessage]) -> None:
        assert acknowledged, "nothing was acknowledged: the test shows nothing"
        stored = read_all(bootstrap, topic)
        verdict = judge(acknowledged, stored)
        assert verdict.is_clean, str(verdict)
        assert sorted(stored) == sorted(read_all_with_franz(bootstrap, topic, franz_program()))

    return both
