"""Test that the folder `platform/` does not shadow Python's module `platform`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
STDLIB = Path(sysconfig.get_path("stdlib"))
SAY = "import platform; print(platform.__file__)"


def run(*words: str, code: str | None = None) -> str:
    command = [sys.executable, *words] if code is None else [sys.executable, *words, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_here() -> None:
    assert Path(platform.__file__).parent == STDLIB
    assert platform.python_version() == ".".join(map(str, sys.version_info[:3]))


def test_in_the_root_of_the_repository() -> None:
    assert Path(run(code=SAY)).parent == STDLIB


def test_with_the_root_and_the_sources_in_front_of_everything() -> None:
    # As pytest, mypy and Dagster's `working_directory` put them.
    path = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'platform')!r}]; "
    assert Path(run("-S", code=path + SAY)).parent == STDLIB


@pytest.mark.system
def test_in_dagsters_code_server(tmp_path: Path) -> None:
    """Loaded as workspace.yaml says, in a process of Dagster's own."""
    # A module beside the code location that loads it and tells what it found.
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import json, os, platform\n"
        "from definitions import defs\n"
        "found = {'platform': platform.__file__, 'version': platform.python_version(),\n"
        "         'command': ' '.join(__import__('psutil').Process().cmdline()),\n"
        "         'assets': len(defs.resolve_asset_graph().get_all_asset_keys())}\n"
        "open(os.environ['PROBE_RESULT'], 'w').write(json.dumps(found))\n"
    )
    result = tmp_path / "result.json"
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "--load-with-grpc"]
    command += ["-d", str(ROOT), "-f", str(probe)]
    environment = os.environ | {"PROBE_RESULT": str(result), "DAGSTER_HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(result.read_text())
    assert Path(found["platform"]).parent == STDLIB
    assert found["version"] == platform.python_version()
    assert found["assets"] > 4
    assert "grpc" in found["command"]
