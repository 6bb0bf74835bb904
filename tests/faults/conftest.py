"""What fault tests share: who leads, and whether all replicas are in."""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, PartitionMetadata

from coinstream.local_broker import Listener, LocalBroker, Node
from tests.faults.judge import Sent as SentMessage
from tests.faults.judge import franz_program, judge, read_all, read_all_with_franz
from tests.faults.slow import SlowNetwork
from tests.support import wait_until

Check = Callable[[str, list[SentMessage]], None]
"""Judges a topic with both readers."""


class Watch:
    """Looks at a cluster from outside."""

    def __init__(self, cluster: LocalBroker) -> None:
        self.cluster = cluster
        # A frozen node must not keep an answer back for librdkafka's minute: further questions wait for it.
        self.admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "socket.timeout.ms": 5000})

    def leader(self, topic: str) -> Node:
        """The node that leads most partitions of the topic."""
        leaders = wait_until(
            lambda: Counter(part.leader for part in self._partitions(topic) if part.leader > 0),
            60,
            f"somebody leads {topic}",
        )
        (most, _), *_ = leaders.most_common()
        return self.cluster.nodes[most - 1]

    def replicas_in(self, topic: str) -> bool:
        """Whether every replica of every partition is in sync."""
        parts = self._partitions(topic)
        return bool(parts) and all(
            part.leader >= 0 and set(part.isrs) == set(part.replicas) for part in parts
        )

    def _partitions(self, topic: str) -> list[PartitionMetadata]:
        try:
            return list(self.admin.list_topics(topic, timeout=10).topics[topic].partitions.values())
        except KafkaException:
            # The node that was asked may be the one that is paused or killed: whoever waits asks again.
            return []

    def restored(self, topic: str) -> None:
        """Wait until the cluster is whole again."""
        self.cluster.wait_ready()
        wait_until(lambda: self.replicas_in(topic), 60, f"all replicas of {topic} are in sync")


@pytest.fixture(scope="package")
def network() -> Iterator[SlowNetwork]:
    """A second way to each node of `cluster3`, through a network that can be made slow."""
    slow = SlowNetwork(3)
    yield slow
    slow.close()


@pytest.fixture(scope="package")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """The data folder of the third node on a small file system of its own, where that is permitted."""
    data = tmp_path_factory.getbasetemp() / "cluster" / "nodes-3" / "node-3" / "data"
    data.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", data], capture_output=True, check=False
    )
    yield data if mounted.returncode == 0 else None
    if mounted.returncode == 0:
        subprocess.run(["umount", data], check=True)


@pytest.fixture(scope="package")
def cluster3(
    tmp_path_factory: pytest.TempPathFactory, network: SlowNetwork, small_disk: Path | None
) -> Iterator[LocalBroker]:
    """One cluster for all fault tests: each leaves it whole."""
    slow = Listener("SLOW", "PLAINTEXT", advertised_ports=network.ports)
    home = tmp_path_factory.getbasetemp() / "cluster"
    with LocalBroker(home, nodes=3, port=0, heap_mb=384, listeners=[slow]) as cluster:
        network.lead({node.node_id: node.plan.ports["SLOW"] for node in cluster.nodes})
        yield cluster


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
        program = franz_program()
        # Without Go the first judge's word stands alone; test_judge says so.
        if isinstance(program, Path):
            assert sorted(stored) == sorted(read_all_with_franz(bootstrap, topic, program))

    return both
