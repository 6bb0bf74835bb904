"""Run `coinstream up` as a separate process for tests."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import psutil

from coinstream.stack.process import DagsterClient
from tests.support import wait_until

ROOT = Path(__file__).parents[1]
START_S = 1000.0
STOP_S = 60.0


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class RunningUp:
    """A platform that was started with `coinstream up`, on ports and in a home of its own."""

    def __init__(self, home: Path, *arguments: str, terminal: int | None = None) -> None:
        """Start it, with the terminal of that file descriptor, or with a file for its output."""
        self.home = home
        home.mkdir(parents=True)
        self.output = home / "output.txt"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REDPANDA_")}
        self.environment = inherited | {
            "COINSTREAM_HOME": str(home),
            "COINSTREAM_BROKER_PORT": "0",
            "PYTHONPATH": f"{ROOT / 'platform'}{os.pathsep}{ROOT}",
            "COLUMNS": "200",
        }
        with self.output.open("wb") as output:
            self.process = psutil.Popen(
                [sys.executable, "-m", "coinstream", "up", "--port", "0", *arguments],
                stdin=terminal,
                stdout=output if terminal is None else terminal,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=self.environment,
                start_new_session=True,
                preexec_fn=None if terminal is None else _take_terminal,
            )

    def wait_for(self, text: str, timeout: float = START_S) -> str:
        """Return the first line of its output that holds the text."""

        def line() -> str | None:
            said = self.output.read_text()
            assert self.process.poll() is None, f"up ended: {said}"
            found = next((each for each in said.splitlines() if text in each), None)
            assert found or "tables and candles:" not in said, f"the first runs failed: {said}"
            return found

        return str(wait_until(line, timeout, what=f"{text!r} in the output of up"))

    def wait_ready(self) -> DagsterClient:
        """Talks to its web server, once it is ready."""
        words = self.wait_for("Ready: ").split()
        return DagsterClient(words[1], lambda: None)

    def processes(self) -> list[psutil.Process]:
        """Return its descendants, and the processes with its home in their environment."""
        found = {self.process.pid}
        if self.process.is_running():
            found |= {child.pid for child in self.process.children(recursive=True)}
        found |= {process.pid for process in psutil.process_iter() if self._is_ours(process)}
        return [psutil.Process(pid) for pid in found if psutil.pid_exists(pid)]

    def _is_ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get("COINSTREAM_HOME") == str(self.home)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            return False

    def end_by(self, number: signal.Signals) -> int:
        """Send it a signal, and wait until nothing of it is left; its exit code."""
        return self.end_with(lambda: self.process.send_signal(number))

    def end_with(self, action: Callable[[], object]) -> int:
        """Do what should end it, and wait until nothing of it is left; its exit code."""
        before = self.processes()
        assert len(before) > 1, "nothing was started yet"
        action()
        code = self.process.wait(STOP_S)
        _, left = psutil.wait_procs([*before, *self.processes()], timeout=STOP_S)
        assert not left, f"left behind: {[process.cmdline() for process in left]}"
        assert not self.processes()
        return int(code)
