"""Store the running local broker of a home in `running.json`, and report its status.

A process is identified by its id and creation time, because ids are reused.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import msgspec
import psutil

_SAME_TIME_S = 0.05


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A process, distinguished from a later one with the same id."""

    pid: int
    created: float
    """Creation time in Unix seconds from `psutil`."""

    @classmethod
    def of(cls, process: psutil.Process) -> Self:
        """Return the identity of a running process."""
        return cls(process.pid, process.create_time())

    def find(self) -> psutil.Process | None:
        """Return the process if it is still running, else None."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < _SAME_TIME_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


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
    draft = state_file(folder).with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(running))
    draft.replace(state_file(folder))


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
