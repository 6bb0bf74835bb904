"""Dagster keeps its runs and events in a real PostgreSQL, with the settings that containers use."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.postgres_server import PASSWORD, postgres_server

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]

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
    """Run a server and give its port."""
    with postgres_server() as port:
        yield port


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
