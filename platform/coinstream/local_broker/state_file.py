"""`running.json`: which local broker of a home runs, who owns it, and where it listens.

A process is known by its id together with its time of creation, as ids are used again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

import msgspec
import psutil

_SAME_TIME_S = 0.05


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A process, told apart from a later one with the same id."""

    pid: int
    created: float
    """Time of creation in seconds since the epoch, as `psutil` gives it."""

    @classmethod
    def of(cls, process: psutil.Process) -> Self:
        """Return the identity of a process that runs now."""
        return cls(process.pid, process.create_time())

    def find(self) -> psutil.Process | None:
        """Return the process, if this very one still runs."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < _SAME_TIME_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


class RunningNode(msgspec.Struct, frozen=True):
    """A node as it was when the state was written."""

    node_id: int
    address: str
    process: ProcessIdentity
    log: str


class RunningBroker(msgspec.Struct, frozen=True):
    """A local broker that runs, or was running when the file was written."""

    owner: ProcessIdentity
    bootstrap: str
    nodes: tuple[RunningNode, ...]
    ready: bool
    detached: bool = False
    """True if `coinstream broker start` started it, so that it outlives its starter."""


def state_file(folder: Path) -> Path:
    """Where the state of the local broker of a home is kept."""
    return folder / "running.json"


def write_running(folder: Path, running: RunningBroker) -> None:
    """Replace the state in one step."""
    draft = state_file(folder).with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode(running))
    draft.replace(state_file(folder))


def read_running(folder: Path) -> RunningBroker | None:
    """Return what the file says, even if it is outdated; None if there is no readable file."""
    try:
        return msgspec.json.decode(state_file(folder).read_bytes(), type=RunningBroker)
    except (FileNotFoundError, msgspec.MsgspecError, UnicodeDecodeError):
        # A file that cannot be read proves no owner; ports and Kafka's own lock guard against a second one.
        return None


def running_broker(folder: Path) -> RunningBroker | None:
    """Return the broker that runs on this folder now, or None: a file left by a dead owner does not count."""
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
