"""Control one node of the local broker, and diagnose why it exited.

A process is identified by its id and creation time, because ids are reused.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import msgspec
import psutil

from coinstream.errors import LocalBrokerError
from coinstream.local_broker import process_supervisor
from coinstream.local_broker.jars import java_environment
from coinstream.local_broker.properties import NodePlan

_SUPERVISOR = Path(process_supervisor.__file__)
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


@dataclass(slots=True)
class Node:
    """A node that can be started, stopped, killed and paused. Not thread-safe."""

    plan: NodePlan
    command: Sequence[str]
    """Command line of the Java process."""
    grace_s: float
    """Time for Java to stop gracefully before it is killed, in seconds."""
    _supervisor: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _java: psutil.Process | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)

    @property
    def node_id(self) -> int:
        """Return the number of the node in the cluster, from 1."""
        return self.plan.node_id

    @property
    def address(self) -> str:
        """Return `host:port` for clients."""
        return self.plan.address()

    @property
    def process(self) -> psutil.Process | None:
        """Return the Java process, or None if it was never started."""
        return self._java

    @property
    def alive(self) -> bool:
        """Return whether Java is running or paused."""
        return self._supervisor is not None and self._supervisor.poll() is None

    @property
    def died(self) -> bool:
        """Return whether Java has exited without a request from this object."""
        return self._supervisor is not None and not self._stopping and self._supervisor.poll() is not None

    def start(self) -> None:
        """Start or restart Java, without waiting until the node is ready.

        Raises:
            LocalBrokerError: the process cannot be created.
        """
        if self.alive:
            return
        self._stopping = False
        self.plan.log.unlink(missing_ok=True)
        try:
            with self.plan.output.open("wb") as output:
                self._supervisor = subprocess.Popen(
                    [
                        sys.executable,
                        "-I",
                        str(_SUPERVISOR),
                        "--report-pid",
                        str(self.grace_s),
                        *self.command,
                    ],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=output,
                    cwd=self.plan.folder,
                    env=java_environment(),
                    # Ctrl-C reaches only the owner, which then stops the nodes in order.
                    start_new_session=True,
                )
        except OSError as error:
            raise LocalBrokerError(f"cannot start Java for node {self.node_id}: {error}") from error
        self._java = self._process_of(self._supervisor)

    def _process_of(self, supervisor: subprocess.Popen[bytes]) -> psutil.Process:
        assert supervisor.stdout is not None
        line = supervisor.stdout.readline().strip()
        try:
            return psutil.Process(int(line))
        except (ValueError, psutil.NoSuchProcess) as error:
            supervisor.wait()
            raise LocalBrokerError(self.exit_reason()) from error

    def kill(self) -> None:
        """Kill Java (SIGKILL), as a crash would, and wait until it has exited."""
        self._signal(signal.SIGKILL)
        self.wait()

    def terminate(self) -> None:
        """Request Java to stop gracefully (SIGTERM), without waiting."""
        self._signal(signal.SIGTERM)

    def pause(self) -> None:
        """Pause Java (SIGSTOP): the node keeps its connections but does not answer."""
        self._signal(signal.SIGSTOP, ends=False)

    def resume(self) -> None:
        """Resume a paused node (SIGCONT)."""
        self._signal(signal.SIGCONT, ends=False)

    def release(self) -> None:
        """Request the supervisor to stop Java gracefully, or to kill it after the grace time."""
        self._stopping = True
        if self._supervisor is not None and self._supervisor.stdin is not None:
            self._supervisor.stdin.close()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until Java has exited.

        Raises:
            LocalBrokerError: it is still running after `timeout_s` seconds.
        """
        if self._supervisor is None:
            return
        try:
            self._supervisor.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise LocalBrokerError(
                f"node {self.node_id} still runs after {timeout_s} s; its log is {self.plan.log}"
            ) from error
        if self._supervisor.stdout is not None:
            self._supervisor.stdout.close()

    def exit_reason(self) -> str:
        """Return the likely reason of the node's exit from its log, with the path of the log."""
        code = self._supervisor.returncode if self._supervisor is not None else None
        return (
            f"node {self.node_id} of the local broker died (exit code {code}): "
            f"{why_it_died(self.plan)}; its log is {self.plan.log}"
        )

    def _signal(self, number: signal.Signals, *, ends: bool = True) -> None:
        if self._java is None or not self.alive:
            raise LocalBrokerError(f"node {self.node_id} of the local broker does not run")
        self._stopping = self._stopping or ends
        self._java.send_signal(number)


_TAIL_BYTES = 200_000

_FULL_BYTES = 1_000_000
"""Free bytes below which a disk counts as full."""


@dataclass(frozen=True, slots=True)
class _Rule:
    pattern: str
    reason: str
    """`{data}` stands for the data folder, `{addresses}` for the node's listeners."""

    def told(self, plan: NodePlan) -> str:
        """Return the reason with the paths and addresses of a node."""
        addresses = ", ".join(plan.address(name) for name in plan.ports)
        return self.reason.format(data=plan.data, addresses=addresses)


_NO_SPACE = _Rule(
    r"No space left on device|Disk quota exceeded|File too large",
    "no space is left for {data}: make room, or set COINSTREAM_HOME to a larger disk",
)

_RULES = (
    _NO_SPACE,
    _Rule(
        r"Address already in use|BindException|Socket server failed to bind",
        "one of the ports {addresses} is taken: stop its owner, or choose another port",
    ),
    _Rule(
        r"Failed to acquire lock on file|OverlappingFileLockException",
        "another Kafka uses {data}: stop it first",
    ),
    _Rule(
        r"OutOfMemoryError|Could not reserve enough space|insufficient memory",
        "Java ran out of memory: give it a larger heap, or free memory",
    ),
    _Rule(
        r"Permission denied|AccessDeniedException|Read-only file system",
        "{data} cannot be written: give this user the right, or set COINSTREAM_HOME to another folder",
    ),
    _Rule(
        r"CorruptRecordException|InconsistentClusterIdException|meta\.properties|LogDirNotFound"
        r"|KafkaStorageException|CorruptSnapshot|checkpoint|is corrupt|Invalid magic|Malformed"
        r"|Error while loading log dir|JsonParseException|com\.fasterxml\.jackson",
        "{data} is corrupt: move it away to start empty, or restore it from a copy",
    ),
    _Rule(
        r"ConfigException|Invalid value .* for configuration",
        "a server property is not accepted: see the first error of the log",
    ),
)


def why_it_died(plan: NodePlan) -> str:
    """Return the likely reason of an exit with advice, or the last error of the log."""
    # A full disk may have prevented the log entry.
    if plan.folder.is_dir() and shutil.disk_usage(plan.folder).free < _FULL_BYTES:
        return _NO_SPACE.told(plan)
    return reason_in(_tail(plan.log) + _tail(plan.output), plan)


def reason_in(text: str, plan: NodePlan) -> str:
    """Return the likely reason from the output of one of Kafka's programs for this node."""
    for rule in _RULES:
        if re.search(rule.pattern, text):
            return rule.told(plan)
    return _last_error(text)


def _last_error(text: str) -> str:
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("at "))
    errors = [line for line in lines if re.search(r" (ERROR|FATAL) |[Ee]rror:|Exception", line)]
    return f"its last error is `{errors[-1].strip()[:300]}`" if errors else "it left no error in its log"


def _tail(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return file.read().decode("utf-8", errors="replace")
