"""Control one node of the local broker: a Java process and its supervisor."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from coinstream import process_supervisor
from coinstream.errors import LocalBrokerError
from coinstream.local_broker.jars import java_environment
from coinstream.local_broker.properties import NodePlan
from coinstream.local_broker.readiness import why_it_died

_SUPERVISOR = Path(process_supervisor.__file__)


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
