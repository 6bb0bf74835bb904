"""A real PostgreSQL server for tests, on a free port and in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from coinstream.local_broker.properties import free_ports
from tests.support import wait_until

USER = DATABASE = "dagster"
PASSWORD = "postgres-Secret-never-shown"


@contextmanager
def postgres_server() -> Iterator[int]:
    """Run a server and give its port; skip the test where PostgreSQL is missing."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not binaries:
        pytest.skip("no PostgreSQL here: install the Debian package `postgresql`")
    if os.geteuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("PostgreSQL refuses to run as root, and there is no user `postgres`")
    # Not below pytest's folder, which only its own user may enter.
    folder = Path(f"/tmp/coinstream-postgres-{os.getpid()}")
    folder.mkdir(mode=0o700)
    (port,) = free_ports(1)
    server = _Server(binaries[-1].parent, folder, port)
    try:
        server.start()
        yield port
    finally:
        server.stop()
        shutil.rmtree(folder)


class _Server:
    """PostgreSQL in a folder of its own; as the user `postgres` where the tests run as root."""

    def __init__(self, binaries: Path, folder: Path, port: int) -> None:
        self._binaries, self._folder, self._port = binaries, folder, port
        self._process: subprocess.Popen[bytes] | None = None
        self._as_owner: list[str] = []
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
            self._as_owner = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    def start(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        data = str(self._folder / "data")
        local = ["-h", "127.0.0.1", "-p", str(self._port)]
        self._run("initdb", "-D", data, "-U", "dagster", "-A", "scram-sha-256", f"--pwfile={password}", "-N")
        self._process = subprocess.Popen(
            [*self._command("postgres"), "-D", data, *local, "-k", self._folder],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(lambda: self._run("pg_isready", *local, check=False) == 0, what="PostgreSQL answers")
        self._run("createdb", *local, "-U", "dagster", "dagster")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(120)

    def _command(self, name: str) -> list[str]:
        return [*self._as_owner, str(self._binaries / name)]

    def _run(self, name: str, *arguments: str, check: bool = True) -> int:
        done = subprocess.run(
            [*self._command(name), *arguments],
            cwd=self._folder,
            env={**os.environ, "PGPASSWORD": PASSWORD},
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.returncode
