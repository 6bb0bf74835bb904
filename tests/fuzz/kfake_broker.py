"""Run franz-go's kfake, a second implementation of a Kafka broker, for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("kfake")


@cache
def kfake_program() -> Path | str:
    """Return the program, built once; or why there is none: no Go, or no modules."""
    go = shutil.which("go")
    if go is None:
        return "no Go on this machine: kfake is not built"
    cache_home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    program = cache_home / "coinstream" / "kfake"
    program.parent.mkdir(parents=True, exist_ok=True)
    command = [go, "build", "-o", str(program), "."]
    built = subprocess.run(command, cwd=SOURCE, capture_output=True, text=True, timeout=300, check=False)
    if built.returncode != 0:
        return f"kfake cannot be built here: {built.stderr.strip()[-300:]}"
    return program


@contextmanager
def running_kfake(program: Path) -> Iterator[str]:
    """Run the broker for as long as the block lasts; its address."""
    process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(120)
