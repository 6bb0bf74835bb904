"""Write the server properties of a node, and reserve its ports."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from coinstream.errors import LocalBrokerError

HOST = "127.0.0.1"
CLIENT_LISTENER = "PLAINTEXT"
_CONTROLLER_LISTENER = "CONTROLLER"


@dataclass(frozen=True, slots=True)
class Listener:
    """A further way in, beside the plain one: its name, its protocol and its own settings.

    Example: `Listener("SASL", "SASL_PLAINTEXT", {"sasl.enabled.mechanisms": "PLAIN", ...})`.
    """

    name: str
    protocol: str
    """`PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """Settings of this listener alone; each becomes `listener.name.<name>.<key>`."""
    advertised_ports: Mapping[int, int] = field(default_factory=dict)
    """Ports that clients are told instead of the real ones, by node id: of a proxy in between."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """What one node is to be: number, ports and folder."""

    node_id: int
    folder: Path
    ports: Mapping[str, int]
    """Port of each listener by its name, `PLAINTEXT` and `CONTROLLER` among them."""

    @property
    def data(self) -> Path:
        """The folder of its topics and of the cluster's metadata."""
        return self.folder / "data"

    @property
    def log(self) -> Path:
        """The log that its Java writes."""
        return self.folder / "server.log"

    @property
    def output(self) -> Path:
        """What Java itself prints, e.g. when it cannot start."""
        return self.folder / "java.out"

    @property
    def properties(self) -> Path:
        """The server properties as last written."""
        return self.folder / "server.properties"

    def address(self, listener: str = CLIENT_LISTENER) -> str:
        """`host:port` of a listener."""
        return f"{HOST}:{self.ports[listener]}"


def server_properties(
    plan: NodePlan,
    cluster: Sequence[NodePlan],
    listeners: Sequence[Listener] = (),
    extra: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return the properties of `plan` as a member of `cluster`. `extra` has the last word."""
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
    """Return the listeners that need a port, in the order in which ports are given out."""
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
    # A mistyped topic must fail, not come into being.
    "auto.create.topics.enable": "false",
    # Groups of one machine need no wait for slow starters, and tests want short sessions.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    # Fifty partitions each, the default, cost seconds of start and hundreds of files.
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
    """Distinct free ports below those that the kernel gives to outgoing connections.

    From that range a client could be given the very port of a broker that is being restarted, or, as
    both ends are on one machine, connect to itself.
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
    """Raise a `LocalBrokerError` that names the holder if one of the ports is taken."""
    for port in ports:
        if not is_free(port):
            raise LocalBrokerError(
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
