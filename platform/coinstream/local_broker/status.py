"""What runs in the home of a local broker, and how it is doing."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from coinstream.local_broker.state_file import RunningBroker, RunningNode, running_broker


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
