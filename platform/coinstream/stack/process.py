"""A process of the platform that ends with its owner."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from coinstream import process_supervisor
from coinstream.errors import PlatformError

_SUPERVISOR: Final = Path(process_supervisor.__file__)
_TAIL_LINES: Final = 8


class SupervisedProcess:
    """A command under a guard, with a log of its own.

    Args:
        name: how it is called in messages.
        command: what is run.
        log: file of its output, begun anew.
        environment: of the command.
        folder: its working directory.
        grace_s: how long it and its descendants may take to end in order, in seconds.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        folder: Path,
        grace_s: float = 20.0,
    ) -> None:
        self.name = name
        self.log = log
        self._grace_s = grace_s
        with log.open("wb") as output:
            self._supervisor = subprocess.Popen(
                [sys.executable, "-I", str(_SUPERVISOR), str(grace_s), *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=dict(environment),
                # Ctrl-C reaches the owner alone, which then stops its children in order.
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id of the guard; the command and all it starts are its descendants."""
        return self._supervisor.pid

    def check(self) -> None:
        """Do nothing while it runs.

        Raises:
            PlatformError: it ended. Names it, its exit code, the end of its log and the log.
        """
        code = self._supervisor.poll()
        if code is not None:
            raise PlatformError(
                f"the {self.name} ended (exit code {code}); its log is {self.log}{self._log_tail()}"
            )

    def release(self) -> None:
        """Let the guard end it; returns at once."""
        if self._supervisor.stdin is not None and not self._supervisor.stdin.closed:
            self._supervisor.stdin.close()

    def wait(self) -> None:
        """Wait until it and its descendants are gone."""
        try:
            self._supervisor.wait(self._grace_s * 2)
        except subprocess.TimeoutExpired:
            # The command goes with its guard; orphans come to the owner, which ends them.
            self._supervisor.kill()
            self._supervisor.wait()

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        said = [line for line in lines if line.strip()][-_TAIL_LINES:]
        return ". It ended with:\n  " + "\n  ".join(said) if said else ""
