"""One node of the local broker: a Java process, its supervisor, and the controls that fault tests need."""

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
    """The command line of its Java."""
    grace_s: float
    """How long Java may take to stop in good order before it is killed, in seconds."""
    _supervisor: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _java: psutil.Process | None = field(default=None, init=False)
    _stopping: bool = field(default=False, init=False)

    @property
    def node_id(self) -> int:
        """Number of the node in the cluster, from 1."""
        return self.plan.node_id

    @property
    def address(self) -> str:
        """`host:port` for clients."""
        return self.plan.address()

    @property
    def process(self) -> psutil.Process | None:
        """The Java process, if it was ever started."""
        return self._java

    @property
    def alive(self) -> bool:
        """True while Java runs (or is paused)."""
        return self._supervisor is not None and self._supervisor.poll() is None

    @property
    def died(self) -> bool:
        """True if Java ended although nobody asked for it through this object."""
        return self._supervisor is not None and not self._stopping and self._supervisor.poll() is not None

    def start(self) -> None:
        """Start Java, again after it ended. Returns before the node serves.

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
                    # Ctrl-C reaches the owner alone, which then stops the nodes in order.
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
        """End Java at once (SIGKILL), as a crash would, and wait until it is gone."""
        self._signal(signal.SIGKILL)
        self.wait()

    def terminate(self) -> None:
        """Ask Java to stop in good order (SIGTERM); `wait` tells when it has."""
        self._signal(signal.SIGTERM)

    def pause(self) -> None:
        """Freeze Java (SIGSTOP): the node holds its connections but answers nothing."""
        self._signal(signal.SIGSTOP, ends=False)

    def resume(self) -> None:
        """Let a paused node go on (SIGCONT)."""
        self._signal(signal.SIGCONT, ends=False)

    def release(self) -> None:
        """Let the supervisor stop Java: in good order if it can within the grace time, by force otherwise."""
        self._stopping = True
        if self._supervisor is not None and self._supervisor.stdin is not None:
            self._supervisor.stdin.close()

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until Java is gone.

        Raises:
            LocalBrokerError: it is still there after `timeout_s` seconds.
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
        """Why the node died, as far as its log tells, with the path of the log."""
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
