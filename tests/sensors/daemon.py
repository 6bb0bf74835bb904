"""Dagster's own daemon on a code location of the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import dagster as dg
import psutil

ROOT = Path(__file__).parents[2]
END_S = 30


@contextmanager
def daemon(
    home: Path, module: str, environment: Mapping[str, str], settings: str = "telemetry:\n  enabled: false\n"
) -> Iterator[dg.DagsterInstance]:
    """Run the daemon for the block and yield its instance. Processes that it starts end with it."""
    home.mkdir()
    (home / "dagster.yaml").write_text(settings)
    with (home.parent / "daemon.log").open("w") as log:
        process = psutil.Popen(
            [sys.executable, "-m", "dagster._daemon", "run", "-m", module],
            cwd=ROOT,
            env={**os.environ, "DAGSTER_HOME": str(home), **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            with dg.DagsterInstance.from_config(str(home)) as instance:
                yield instance
        finally:
            # Runs outlive the daemon that launched them.
            family = [process, *process.children(recursive=True)]
            _end(family)


def _end(family: list[psutil.Process]) -> None:
    for each in family:
        # One that ends takes others along.
        with suppress(psutil.NoSuchProcess):
            each.terminate()
    for each in psutil.wait_procs(family, timeout=END_S)[1]:
        with suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(family, timeout=END_S)
