"""Install the locked packages and this project into the virtual environment that runs this script.

Usage: `.venv/bin/python scripts/install.py LOCK...`. Standard library only, as nothing else is there yet.
`uv` does the work in a tenth of the time that pip takes; it is itself pinned, with its hash, in
requirements-bootstrap.lock. Should it fail, pip installs the very same packages.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip"]
QUIET = ["--quiet", "--disable-pip-version-check"]
IMPORTED = [
    "coinstream.cli.up",
    "coinstream.local_broker.jars",
    "dagster._daemon.cli",
    "dagster_webserver.app",
    "great_expectations",
    "definitions",
]
"""Modules that dominate the start of the processes of `coinstream up`."""
DEVELOPMENT = "requirements-dev.lock"
TESTED = [
    "apprise",
    "ccxt.pro",
    "dagster_k8s",
    "hypothesis.strategies",
    "kafka",
    "kubernetes.client",
    "marimo",
    "moto.server",
    "playwright.sync_api",
    "polars",
    "psycopg",
    "pyiceberg.catalog.sql",
    "pytest",
    "xdist.remote",
]
"""Modules that dominate the start of the tests, whose processes all import them at the same time."""
BROKER = """
from coinstream.local_broker import jars, storage
storage.archive_options(jars.java(), jars.classpath(), jars.jar_cache())
"""
"""Program that fetches the jars of the local broker and makes the archive of their classes."""
PREPARATION_S = 300.0
"""Longest time of each program that only saves time later, for example where the network does not answer."""
FROM_PIP = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
}
"""Environment variables of uv for pip's settings, such as a mirror, a certificate or a timeout."""


def main(locks: list[str]) -> int:
    """Install and return the exit code."""
    bootstrap = subprocess.run(
        [*PIP, "install", *QUIET, "--require-hashes", "--no-deps", "-r", "requirements-bootstrap.lock"],
        cwd=ROOT,
    )
    code = bootstrap.returncode or _install_locked(locks) or _install_project()
    if code == 0:
        _prepare("the first start will take longer", f"import {', '.join(IMPORTED)}")
    if code == 0 and DEVELOPMENT in locks:
        _prepare("the first test run will take longer", f"import {', '.join(TESTED)}")
        _prepare("the first test run will fetch the local broker", BROKER)
    return code


def _install_locked(locks: list[str]) -> int:
    wanted = [word for lock in locks for word in ("-r", lock)]
    uv = [sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--quiet"]
    code = subprocess.run([*uv, "--require-hashes", *wanted], cwd=ROOT, env=_uv_environment()).returncode
    if code == 0:
        return 0
    print("uv could not install the packages (see above); pip tries, which takes longer", file=sys.stderr)
    return subprocess.run([*PIP, "install", *QUIET, "--require-hashes", *wanted], cwd=ROOT).returncode


def _install_project() -> int:
    # No build isolation: setuptools is pinned in the bootstrap lock, and nothing more is fetched.
    options = ["--no-deps", "--no-build-isolation", "--editable", "."]
    return subprocess.run([*PIP, "install", *QUIET, *options], cwd=ROOT).returncode


def _prepare(otherwise: str, program: str) -> None:
    """Run a Python program whose results stay on disk, such as the compiled form of what it imports.

    The processes of `coinstream up`, and those of the tests, start at the same time, and each would compile
    all of it: on a machine that keeps no compiled files (PYTHONDONTWRITEBYTECODE) at every start. pip
    compiles what it installs likewise.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment |= {"PYTHONPATH": os.pathsep.join((str(ROOT / "platform"), str(ROOT)))}
    command = [sys.executable, "-W", "ignore", "-c", program]
    options: dict[str, Any] = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True}
    try:
        done = subprocess.run(command, timeout=PREPARATION_S, **options)
    except subprocess.TimeoutExpired as error:
        print(f"{otherwise}: no result after {error.timeout:g} s", file=sys.stderr)
        return
    if done.returncode:
        print(f"{otherwise}: {done.stderr.strip()}", file=sys.stderr)


def _uv_environment() -> dict[str, str]:
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False)
    found: dict[str, str] = {}
    for line in listed.stdout.splitlines():
        name, separator, value = line.partition("=")
        variable = FROM_PIP.get(name.rpartition(".")[2].lower().replace("_", "-"))
        if separator and variable:
            found[variable] = " ".join(str(ast.literal_eval(value)).split())
    # What is set for uv itself goes first.
    return {**found, **os.environ}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
