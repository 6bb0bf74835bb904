"""Dagster keeps its runs and events in a real PostgreSQL, with the settings that containers use."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from coinstream.local_broker.ports import free_ports
from tests.support import wait_until

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PASSWORD = "postgres-Secret-never-shown"

_JOB = """
import dagster as dg

@dg.op
def add(context) -> int:
    context.log.info("adding")
    return 2

@dg.job
def small():
    add()

instance = dg.DagsterInstance.get()
result = small.execute_in_process(instance=instance)
assert result.success
print(result.run_id)
"""
_READ = """
import sys
import dagster as dg

instance = dg.DagsterInstance.get()
run = instance.get_run_by_id(sys.argv[1])
events = {event.dagster_event_type for event in instance.all_logs(sys.argv[1])}
print(run.status.value, dg.DagsterEventType.RUN_SUCCESS in events, type(instance.run_storage).__name__)
print(instance.info_str())
"""


@pytest.fixture(scope="module")
def postgres() -> Iterator[int]:
    """Start a server and yield its port."""
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
            self._process.wait(30)

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


def test_runs_outlive_the_process(postgres: int, tmp_path: Path) -> None:
    pytest.importorskip("dagster_postgres", reason="dagster-postgres is not installed")
    settings = yaml.safe_load((ROOT / "deploy" / "dagster.yaml").read_text())
    settings["storage"]["postgres"]["postgres_db"]["port"] = postgres
    for name in ("compute_logs", "local_artifact_storage"):
        settings[name]["config"]["base_dir"] = str(tmp_path / name)
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(tmp_path),
        "DAGSTER_POSTGRES_HOST": "127.0.0.1",
        "DAGSTER_POSTGRES_USER": "dagster",
        "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
        "DAGSTER_POSTGRES_DB": "dagster",
    }
    run_id = _python(_JOB, environment).split()[-1]
    found = _python(_READ, environment, run_id)
    assert found.startswith("SUCCESS True PostgresRunStorage")
    assert PASSWORD not in found, "what the UI shows of the instance hides the password"


def _python(program: str, environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout
