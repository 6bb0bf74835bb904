"""Wait until the local broker is ready, store it in `running.json`, and report its status."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient, ClusterMetadata, NewTopic

from coinstream.errors import LocalBrokerError, PortTakenError
from coinstream.files import write_whole
from coinstream.kafka import log as librdkafka_log
from coinstream.local_broker.node import ProcessIdentity
from coinstream.settings import KafkaConfig


class RunningNode(msgspec.Struct, frozen=True):
    """Node at the time when the state was written."""

    node_id: int
    address: str
    process: ProcessIdentity
    log: str


class RunningBroker(msgspec.Struct, frozen=True):
    """Local broker at the time when the state was written."""

    owner: ProcessIdentity
    bootstrap: str
    nodes: tuple[RunningNode, ...]
    ready: bool
    detached: bool = False
    """True if `coinstream broker start` started it, so that it keeps running after the command."""


def state_file(folder: Path) -> Path:
    """Return the path of the state file of a home."""
    return folder / "running.json"


def write_running(folder: Path, running: RunningBroker) -> None:
    """Replace the state file atomically."""
    write_whole(state_file(folder), msgspec.json.encode(running))


def read_running(folder: Path) -> RunningBroker | None:
    """Return the contents of the file, even if outdated, or None without a readable file."""
    try:
        return msgspec.json.decode(state_file(folder).read_bytes(), type=RunningBroker)
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        # An unreadable file identifies no owner; ports and Kafka's own lock prevent a second broker.
        return None


def running_broker(folder: Path) -> RunningBroker | None:
    """Return the running broker of a folder, or None; a file of an owner that has exited is ignored."""
    running = read_running(folder)
    return running if running is not None and running.owner.find() is not None else None


def clear_stale(folder: Path, grace_s: float) -> None:
    """Remove the state of a dead owner, after the last of its nodes is gone.

    The supervisors stop them within `grace_s` seconds of the owner's death; what is left then is killed.
    """
    running = read_running(folder)
    left = [process for node in (running.nodes if running else ()) if (process := node.process.find())]
    _, stubborn = psutil.wait_procs(left, timeout=grace_s)
    for process in stubborn:
        process.kill()
    psutil.wait_procs(stubborn, timeout=grace_s)
    state_file(folder).unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node. `memory_bytes` is what its Java holds in memory now, 0 when it does not run."""

    node_id: int
    address: str
    pid: int
    alive: bool
    memory_bytes: int
    log: str


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """The local broker of a home. Where none runs, only `home` and `data_bytes` say something."""

    home: str
    running: bool
    ready: bool = False
    bootstrap: str = ""
    owner_pid: int | None = None
    detached: bool = False
    """True if `coinstream broker start` started it; otherwise it ends with its owner."""
    uptime_s: float = 0.0
    data_bytes: int = 0
    """Size of all files in the home: data of one and of three nodes, and logs."""
    nodes: tuple[NodeStatus, ...] = ()


def broker_status(home: Path) -> BrokerStatus:
    """Return what runs in this home now. A state that a dead owner left does not count."""
    size = _size(home)
    running = running_broker(home)
    if running is None:
        return BrokerStatus(str(home), running=False, data_bytes=size)
    return BrokerStatus(
        str(home),
        running=True,
        ready=running.ready,
        bootstrap=running.bootstrap,
        owner_pid=running.owner.pid,
        detached=running.detached,
        uptime_s=_uptime(running),
        data_bytes=size,
        nodes=tuple(_node(node) for node in running.nodes),
    )


def _uptime(running: RunningBroker) -> float:
    return max(0.0, time.time() - running.owner.created)


def _node(node: RunningNode) -> NodeStatus:
    process = node.process.find()
    return NodeStatus(
        node.node_id, node.address, node.process.pid, process is not None, _memory(process), node.log
    )


def _memory(process: psutil.Process | None) -> int:
    try:
        return int(process.memory_info().rss) if process is not None else 0
    except psutil.Error:
        return 0


def _size(home: Path) -> int:
    total = 0
    for path in home.rglob("*"):
        try:
            # Blocks, not length: Kafka's index files are sparse.
            total += path.lstat().st_blocks * 512
        except FileNotFoundError:
            # A segment that the broker has just removed.
            continue
    return total


READY_TOPIC = "__coinstream_ready"
"""Topic of the readiness check with one partition and one record per start, kept for an hour."""

_RETRY_S = 0.05
_REQUEST_S = 5.0
_log = logging.getLogger(__name__)

DeathCheck = Callable[[], None]
"""Function that raises `LocalBrokerError` if a node has exited."""


def wait_until_ready(
    addresses: Sequence[str], cluster_id: str, deadline_s: float, check_alive: DeathCheck, log: str
) -> None:
    """Wait until all nodes have joined and an idempotent produce was acknowledged by all replicas.

    Args:
        addresses: `host:port` of each node.
        cluster_id: id of the cluster, which distinguishes it from one that took a port before Java listened.
        deadline_s: timeout in seconds.
        check_alive: called while waiting; raises if a node has exited.
        log: path of the logs for the error message.

    Raises:
        LocalBrokerError: a node exited, or the timeout passed.
        PortTakenError: another cluster answers at one of the addresses.
    """
    wait = _Wait(time.monotonic() + deadline_s, deadline_s, check_alive, log)
    for address in addresses:
        wait.until(lambda address=address: _port_is_open(address), f"{address} opens")  # type: ignore[misc]
        node = AdminClient(_client_config([address]), logger=librdkafka_log)
        wait.until(
            lambda address=address, node=node: _is_node(node, address, cluster_id),  # type: ignore[misc]
            f"{address} answers",
        )
    config = _client_config(addresses)
    admin = AdminClient(config, logger=librdkafka_log)
    wait.until(lambda: _knows_all(admin, len(addresses)), f"all {len(addresses)} nodes have joined")
    wait.until(lambda: _create_topic(admin, len(addresses)), f"the topic {READY_TOPIC} exists")
    producer = Producer({**config, "enable.idempotence": True, "linger.ms": 0}, logger=librdkafka_log)
    wait.until(lambda: _produce(producer), "a message is acknowledged")


class _Wait:
    def __init__(self, deadline: float, allowed_s: float, check_alive: DeathCheck, log: str) -> None:
        self._deadline = deadline
        self._allowed_s = allowed_s
        self._check_alive = check_alive
        self._log = log

    def until(self, condition: Callable[[], bool], what: str) -> None:
        while not condition():
            self._check_alive()
            if time.monotonic() > self._deadline:
                raise LocalBrokerError(
                    f"the local broker is not ready after {self._allowed_s:g} s: still waiting until {what}; "
                    f"its log is {self._log}"
                )
            time.sleep(_RETRY_S)


def _client_config(addresses: Sequence[str]) -> KafkaConfig:
    return {
        "bootstrap.servers": ",".join(addresses),
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 250,
        "topic.metadata.refresh.fast.interval.ms": 50,
        "message.timeout.ms": int(_REQUEST_S * 1000),
    }


def _port_is_open(address: str) -> bool:
    host, port = address.rsplit(":", 1)
    try:
        with socket.create_connection((host, int(port)), timeout=1):
            return True
    except OSError:
        return False


def _is_node(admin: AdminClient, address: str, cluster_id: str) -> bool:
    metadata = _metadata(admin)
    # The stub of confluent-kafka types the id as None.
    found = str(metadata.cluster_id or "") if metadata is not None else ""
    if found and found != cluster_id:
        raise PortTakenError(
            f"another broker (cluster {found}) answers at {address}: stop it, or choose another port with "
            "COINSTREAM_BROKER_PORT (0 takes free ones)"
        )
    return found == cluster_id


def _knows_all(admin: AdminClient, nodes: int) -> bool:
    metadata = _metadata(admin)
    return metadata is not None and len(metadata.brokers) >= nodes


def _metadata(admin: AdminClient) -> ClusterMetadata | None:
    try:
        return admin.list_topics(timeout=_REQUEST_S)
    except KafkaException as error:
        _log.debug("not ready: %s", error)
        return None


def _create_topic(admin: AdminClient, nodes: int) -> bool:
    topic = NewTopic(
        READY_TOPIC, num_partitions=1, replication_factor=nodes, config={"retention.ms": "3600000"}
    )
    try:
        admin.create_topics([topic], operation_timeout=_REQUEST_S)[READY_TOPIC].result(_REQUEST_S)
    except KafkaException as error:
        _log.debug("not ready: %s", error)
        return bool(error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS)
    except TimeoutError:
        return False
    return True


def _produce(producer: Producer) -> bool:
    outcomes: list[KafkaError | None] = []

    def delivered(error: KafkaError | None, _message: Message) -> None:
        outcomes.append(error)

    producer.produce(READY_TOPIC, value=b"ready", on_delivery=delivered)
    producer.flush(_REQUEST_S)
    if outcomes and outcomes[0] is not None:
        _log.debug("not ready: %s", outcomes[0])
    return outcomes == [None]
