"""Write the server properties of a node, and reserve its ports."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from coinstream.errors import LocalBrokerError, PortTakenError

HOST = "127.0.0.1"
CLIENT_LISTENER = "PLAINTEXT"
_CONTROLLER_LISTENER = "CONTROLLER"


@dataclass(frozen=True, slots=True)
class Listener:
    """Additional listener: its name, protocol and settings.

    Example: `Listener("SASL", "SASL_PLAINTEXT", {"sasl.enabled.mechanisms": "PLAIN", ...})`.
    """

    name: str
    protocol: str
    """`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Settings of this listener, written as `listener.name.<name>.<key>`."""
    advertised_ports: Mapping[int, int] = field(default_factory=dict)
    """Advertised ports by node id if they differ from the listening ones, for example of a proxy."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """Number, ports and folder of one node."""

    node_id: int
    folder: Path
    ports: Mapping[str, int]
    """Port of each listener by name, including `PLAINTEXT` and `CONTROLLER`."""

    @property
    def data(self) -> Path:
        """Return the folder of its topics and of the cluster's metadata."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """Return the path of the log."""
        return self.folder / "server.log"

    @property
    def output(self) -> Path:
        """Return the path of Java's standard output and error."""
        return self.folder / "java.out"

    @property
    def properties(self) -> Path:
        """Return the path of the server properties."""
        return self.folder / "server.properties"

    def address(self, listener: str = CLIENT_LISTENER) -> str:
        """Return `host:port` of a listener."""
        return f"{HOST}:{self.ports[listener]}"


def server_properties(
    plan: NodePlan,
    cluster: Sequence[NodePlan],
    listeners: Sequence[Listener] = (),
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the properties of `plan` as a member of `cluster`, overridden by `extra`."""
    return {
        "process.roles": "broker,controller",
        "node.id": str(plan.node_id),
        "log.dirs": str(plan.data),
        **_listener_properties(plan, cluster, listeners),
        **_durability(len(cluster)),
        **_DEVELOPMENT,
        **(extra or {}),
    }


def listener_names(listeners: Sequence[Listener]) -> list[str]:
    """Return the names of listeners in the order in which ports are assigned."""
    return [CLIENT_LISTENER, *(listener.name for listener in listeners), _CONTROLLER_LISTENER]


def write_properties(path: Path, properties: Mapping[str, str]) -> None:
    """Write a Java properties file that only this user reads: it may hold passwords of listeners."""
    path.touch(mode=0o600)
    lines = (f"{key}={_escape(value)}\n" for key, value in properties.items())
    path.write_text("".join(lines), encoding="ascii")


def _listener_properties(
    plan: NodePlan, cluster: Sequence[NodePlan], listeners: Sequence[Listener]
) -> dict[str, str]:
    protocols = {CLIENT_LISTENER: "PLAINTEXT", _CONTROLLER_LISTENER: "PLAINTEXT"}
    protocols.update({listener.name: listener.protocol for listener in listeners})
    voters = (f"{node.node_id}@{node.address(_CONTROLLER_LISTENER)}" for node in cluster)
    told = {CLIENT_LISTENER: plan.address()}
    for listener in listeners:
        port = listener.advertised_ports.get(plan.node_id, plan.ports[listener.name])
        told[listener.name] = f"{HOST}:{port}"
    own = {
        f"listener.name.{listener.name.lower()}.{key}": value
        for listener in listeners
        for key, value in listener.properties.items()
    }
    return {
        "listeners": ",".join(f"{name}://{plan.address(name)}" for name in protocols),
        "advertised.listeners": ",".join(f"{name}://{address}" for name, address in told.items()),
        "listener.security.protocol.map": ",".join(f"{name}:{kind}" for name, kind in protocols.items()),
        "inter.broker.listener.name": CLIENT_LISTENER,
        "controller.listener.names": _CONTROLLER_LISTENER,
        "controller.quorum.voters": ",".join(voters),
        **own,
    }


def _durability(nodes: int) -> dict[str, str]:
    replicas, in_sync = str(nodes), str(nodes // 2 + 1)
    return {
        "default.replication.factor": replicas,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": replicas,
        "transaction.state.log.replication.factor": replicas,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": replicas,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


_DEVELOPMENT = {
    # A mistyped topic must fail instead of being created.
    "auto.create.topics.enable": "false",
    # Groups on one machine need no initial delay, and tests use short sessions.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # The default of fifty partitions takes seconds at the start and hundreds of files.
    "offsets.topic.num.partitions": "8",
    "transaction.state.log.num.partitions": "8",
    # The default of 128 MB would be a sixth of the heap.
    "log.cleaner.dedupe.buffer.size": "16777216",
}


def _escape(value: str) -> str:
    """Escape a value for Java, which reads these files as Latin-1 and drops leading white space."""
    units = value.encode("utf-16-be")
    codes = (int.from_bytes(units[index : index + 2]) for index in range(0, len(units), 2))
    escaped = "".join(_escape_unit(code) for code in codes)
    return f"\\{escaped}" if escaped.startswith(" ") else escaped


def _escape_unit(code: int) -> str:
    if code == ord("\\"):
        return "\\\\"
    return chr(code) if ord(" ") <= code <= ord("~") else f"\\u{code:04x}"


_LOWEST = 10_000
_EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
_ATTEMPTS = 1000


def is_free(port: int) -> bool:
    """Return True if a server can listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def free_ports(count: int) -> list[int]:
    """Return distinct free ports below the ephemeral range.

    From the ephemeral range a client could get the port of a restarting broker, or connect to itself.
    """
    highest = _lowest_ephemeral() - 1
    found: set[int] = set()
    for _ in range(_ATTEMPTS):
        port = random.randint(_LOWEST, highest)
        if port not in found and is_free(port):
            found.add(port)
        if len(found) == count:
            return sorted(found)
    raise LocalBrokerError(f"found no {count} free ports on {HOST} between {_LOWEST} and {highest}")


def check_free(ports: Iterable[int]) -> None:
    """Raise a `PortTakenError` that names the holder if one of the ports is taken."""
    for port in ports:
        if not is_free(port):
            raise PortTakenError(
                f"port {port} on {HOST}, which the local broker needs, is taken by {_holder(port)}; "
                "stop that process, or choose another port with COINSTREAM_BROKER_PORT (0 takes free ones)"
            )


def _lowest_ephemeral() -> int:
    if not _EPHEMERAL_RANGE.is_file():
        # macOS: net.inet.ip.portrange.first
        return 49_152
    lowest = int(_EPHEMERAL_RANGE.read_text().split()[0])
    return lowest if lowest > _LOWEST + _ATTEMPTS else 32_768


def _holder(port: int) -> str:
    try:
        connections = psutil.net_connections("tcp")
    except psutil.AccessDenied:
        return "another process"
    for connection in connections:
        if connection.laddr and connection.laddr.port == port and connection.pid:
            try:
                return f"{psutil.Process(connection.pid).name()} (process {connection.pid})"
            except psutil.NoSuchProcess:
                continue
    return "another process"
