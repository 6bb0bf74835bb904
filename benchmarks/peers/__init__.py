"""Other Python libraries doing the same typed work, each in a process of an environment of its own.

quix-streams needs another `rich` than ours, so they cannot live in our environment. The lock holds hashes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from coinstream.errors import CoinstreamError
from coinstream.settings import HomeSettings

PEERS: Final = ("quixstreams", "faststream", "aiokafka")
_HERE: Final = Path(__file__).parent
_LOCK: Final = _HERE / "requirements.lock"
_PATIENCE_S: Final = 600


def environment() -> Path:
    """The Python of the peers' environment, which is made on first use and when the lock changes.

    Raises:
        CoinstreamError: it cannot be made. Says why.
    """
    digest = hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]
    folder = HomeSettings().home / "peers" / f"{digest}-py{sys.version_info.major}{sys.version_info.minor}"
    python = folder / "bin" / "python"
    if (folder / "complete").exists():
        return python
    print(f"making the environment of the peers in {folder} …", file=sys.stderr)
    uv = shutil.which("uv")
    _run([uv, "venv", "-q", "--clear", "--python", sys.executable, folder] if uv else _venv(folder))
    installing = ["--require-hashes", "-r", _LOCK]
    if uv:
        _run([uv, "pip", "install", "-q", "--python", python, *installing])
    else:
        _run([python, "-m", "pip", "install", "-q", *installing])
    (folder / "complete").touch()
    return python


def _venv(folder: Path) -> list[str | Path]:
    return [sys.executable, "-m", "venv", "--clear", folder]


def _run(words: list[str | Path | None]) -> None:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise CoinstreamError(f"cannot make the peers' environment: {done.stderr.strip()[-500:]}")


class Peer:
    """One of the libraries. `version` is known after the first `rate`."""

    def __init__(self, name: str, python: Path) -> None:
        self.name = name
        self.version = ""
        self._python = python

    def rate(self, bootstrap: str, topic: str, messages: int) -> float:
        """Messages per second from the first message to the last.

        Raises:
            CoinstreamError: it failed. Holds what it said.
        """
        words = [str(self._python), str(_HERE / f"{self.name}_peer.py"), bootstrap, topic]
        words += [f"bench-{self.name}-{time.time_ns()}", str(messages)]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            timeout=_PATIENCE_S,
            env=os.environ | {"PYTHONPATH": str(_HERE)},
        )
        if done.returncode:
            raise CoinstreamError(f"{self.name} failed: {done.stderr.strip()[-800:]}")
        found = json.loads(done.stdout.splitlines()[-1])
        self.version = found["version"]
        return float(found["messages_per_second"])
