"""The server properties of a node: apt for one machine, honest about durability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

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
