"""Test locks and package contents on a fresh machine."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ["requirements-bootstrap.lock", "requirements.lock", "requirements-dev.lock"]


def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def pins(lock: str) -> dict[str, list[str]]:
    """Name and version of each package with its hashes."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / lock).read_text().splitlines():
        if line.startswith("    --hash="):
            found[list(found)[-1]].append(line.strip(" \\").removeprefix("--hash="))
        elif line and not line.lstrip().startswith("#"):
            found[line.split(" ;")[0].rstrip(" \\")] = []
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[=<>! ;]", text)[0].lower().replace("_", "-") for text in requirements}


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_is_pinned_with_hashes(lock: str) -> None:
    for pin, hashes in pins(lock).items():
        assert re.fullmatch(r"[a-z0-9.-]+(\[[a-z0-9, -]+\])?==[^ =]+", pin)
        assert hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", text) for text in hashes)


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_names_a_registry(lock: str) -> None:
    assert not re.search(r"https?:|index-url|find-links|trusted-host", (ROOT / lock).read_text())


def test_the_locks_hold_every_dependency_and_agree() -> None:
    runtime, dev = pins("requirements.lock"), pins("requirements-dev.lock")
    wanted = names(project()["dependencies"])
    assert wanted <= names(list(runtime)), "run `make lock`"
    assert wanted | names(project()["optional-dependencies"]["dev"]) <= names(list(dev)), "run `make lock`"
    assert runtime.keys() <= dev.keys()
    assert not names(["pytest", "mypy", "ruff"]) & names(list(runtime))


@pytest.mark.system
def test_the_wheel_has_the_files_that_the_code_reads(tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(
        ROOT / "platform", source / "platform", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; print(build_wheel('..'))"
    done = subprocess.run(
        [sys.executable, "-c", build], cwd=source, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = set(zipfile.ZipFile(wheel).namelist())
    code = {
        str(path.relative_to(ROOT / "platform"))
        for path in (ROOT / "platform").rglob("*")
        if path.is_file() and not {"__pycache__", "coinstream.egg-info"} & set(path.parts)
    }
    assert code <= packed, f"not packed: {sorted(code - packed)}; see package-data in pyproject.toml"
