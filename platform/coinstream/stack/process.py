"""A process of the platform that ends with its owner."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from coinstream.errors import PlatformError

_GUARD: Final = Path(__file__).with_name("supervisor.py")
_TAIL_LINES: Final = 8


class Child:
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
            self._guard = subprocess.Popen(
                [sys.executable, "-I", str(_GUARD), str(grace_s), *command],
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
        return self._guard.pid

    def check(self) -> None:
        """Do nothing while it runs.

        Raises:
            PlatformError: it ended. Names it, its exit code, the end of its log and the log.
        """
        code = self._guard.poll()
        if code is not None:
            raise PlatformError(
                f"the {self.name} ended (exit code {code}); its log is {self.log}{self._last_words()}"
            )

    def release(self) -> None:
        """Let the guard end it; returns at once."""
        if self._guard.stdin is not None and not self._guard.stdin.closed:
            self._guard.stdin.close()

    def wait(self) -> None:
        """Wait until it and its descendants are gone."""
        try:
            self._guard.wait(self._grace_s * 2)
        except subprocess.TimeoutExpired:
            # The command goes with its guard; orphans come to the owner, which ends them.
            self._guard.kill()
            self._guard.wait()

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        said = [line for line in lines if line.strip()][-_TAIL_LINES:]
        return ". It ended with:\n  " + "\n  ".join(said) if said else ""
