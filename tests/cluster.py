"""Provide a three-node cluster for the session, restored after each test that uses it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, PartitionMetadata

from coinstream.local_broker import Listener, LocalBroker
from tests.faults.slow import SlowNetwork, Weather
from tests.support import READY_TIMEOUT_S, wait_until
from tests.topics_on import TopicFactory, topic_factory

RESTORE_S = 300.0


@pytest.fixture(scope="session")
def network() -> Iterator[SlowNetwork]:
    """Yield a second way to each node of `cluster3`, through a network that can be made slow."""
    slow = SlowNetwork(3)
    yield slow
    slow.close()


@pytest.fixture(scope="session")
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | None]:
    """Yield the data folder of the third node on a small file system of its own, where that is permitted."""
    data = tmp_path_factory.getbasetemp() / "cluster" / "nodes-3" / "node-3" / "data"
    data.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", data], capture_output=True, check=False
    )
    yield data if mounted.returncode == 0 else None
    if mounted.returncode == 0:
        subprocess.run(["umount", data], check=True)


@pytest.fixture(scope="session")
def started_cluster(
    tmp_path_factory: pytest.TempPathFactory, network: SlowNetwork, small_disk: Path | None
) -> Iterator[LocalBroker]:
    """Yield the cluster itself; tests ask for `cluster3`, which restores it."""
    slow = Listener("SLOW", "PLAINTEXT", advertised_ports=network.ports)
    home = tmp_path_factory.getbasetemp() / "cluster"
    with LocalBroker(
        home, nodes=3, port=0, ready_timeout_s=READY_TIMEOUT_S, heap_mb=384, listeners=[slow]
    ) as cluster:
        yield cluster


@pytest.fixture
def cluster3(started_cluster: LocalBroker, network: SlowNetwork) -> Iterator[LocalBroker]:
    """Three nodes that a test may kill, pause and start again: `cluster3.nodes[i].kill()`."""
    network.lead({node.node_id: node.plan.ports["SLOW"] for node in started_cluster.nodes})
    yield started_cluster
    network.weather = Weather()
    restore(started_cluster)


@pytest.fixture
def topic3(cluster3: LocalBroker) -> TopicFactory:
    """Return a function that creates topics on `cluster3`; they are deleted after the test."""
    return topic_factory(cluster3.bootstrap)


def restore(cluster: LocalBroker) -> None:
    """Bring all nodes back, delete all topics, and wait until every replica is in sync."""
    for node in cluster.nodes:
        if node.alive and node.process is not None and node.process.status() == psutil.STATUS_STOPPED:
            node.resume()
        node.start()
    cluster.wait_ready()
    admin = AdminClient({"bootstrap.servers": cluster.bootstrap, "socket.timeout.ms": 5_000})

    def is_clean() -> bool:
        try:
            topics = admin.list_topics(timeout=10).topics
            left = [name for name in topics if not name.startswith("__")]
            if left:
                admin.delete_topics(left, operation_timeout=10)
            return not left and all(
                is_in_sync(partition) for topic in topics.values() for partition in topic.partitions.values()
            )
        except KafkaException:
            # The node that was asked may not serve yet; the caller asks again.
            return False

    wait_until(is_clean, RESTORE_S, "the cluster has all its replicas and no topics")


def is_in_sync(partition: PartitionMetadata) -> bool:
    """Return True if the partition has a leader and all its replicas are in sync."""
    return partition.leader >= 0 and set(partition.isrs) == set(partition.replicas)
