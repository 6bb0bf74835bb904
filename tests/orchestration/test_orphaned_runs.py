"""Runs whose process is gone are failed: at the start of `up`, and by run monitoring."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher.base import WorkerStatus
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
from dagster._core.storage.tags import GRPC_INFO_TAG
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.server import GrpcServerProcess

from resources import run_launcher
from resources.orphaned_runs import fail_orphaned_runs
from resources.run_launcher import MonitoredRunLauncher

ROOT = Path(__file__).parents[2]
ORIGIN = RemoteRepositoryOrigin(
    InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="definitions")), "__repository__"
).get_job_origin("run_feed")
STATUSES = dg.DagsterRunStatus
STARTUP_S = 120


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test(temp_dir=str(tmp_path)) as made:
        yield made


@pytest.mark.parametrize(
    ("status", "after"),
    [
        (STATUSES.STARTED, STATUSES.FAILURE),
        (STATUSES.STARTING, STATUSES.FAILURE),
        (STATUSES.NOT_STARTED, STATUSES.FAILURE),
        (STATUSES.CANCELING, STATUSES.CANCELED),
        (STATUSES.QUEUED, STATUSES.QUEUED),
        (STATUSES.SUCCESS, STATUSES.SUCCESS),
    ],
)
def test_what_an_earlier_up_left(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus, after: dg.DagsterRunStatus
) -> None:
    run = create_run_for_test(instance, status=status, remote_job_origin=ORIGIN)
    assert fail_orphaned_runs(instance, time.time() - 3_600) == 0, "a run of this `up` is left alone"
    failed = fail_orphaned_runs(instance, time.time() + 1)
    assert failed == (status is not after)
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is after


def test_the_settings_name_the_launcher(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_launcher, MonitoredRunLauncher)
        assert instance.run_launcher.supports_check_run_worker_health


def test_a_killed_code_server_takes_its_runs_along(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {GRPC_INFO_TAG: json.dumps({"host": "127.0.0.1", "port": 1})}
    run = create_run_for_test(instance, status=STATUSES.STARTED, tags=gone)
    launcher = MonitoredRunLauncher()
    assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING, "once is no proof"
    monkeypatch.setattr(run_launcher, "UNREACHABLE_S", 0.0)
    assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_a_code_server_that_answers_late_keeps_its_runs(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_launcher, "_TIMEOUT_S", 1)
    monkeypatch.setattr(run_launcher, "UNREACHABLE_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        busy = {GRPC_INFO_TAG: json.dumps({"host": "127.0.0.1", "port": silent.getsockname()[1]})}
        run = create_run_for_test(instance, status=STATUSES.STARTED, tags=busy)
        launcher = MonitoredRunLauncher()
        assert launcher.check_run_worker_health(run).status is WorkerStatus.RUNNING
        monkeypatch.setattr(run_launcher, "UNRESPONSIVE_S", 0.0)
        assert launcher.check_run_worker_health(run).status is WorkerStatus.FAILED


def test_a_code_server_that_does_not_know_the_run(instance: dg.DagsterInstance) -> None:
    with GrpcServerProcess(
        instance_ref=instance.get_ref(), wait_on_exit=True, startup_timeout=STARTUP_S
    ) as server:
        where = {"host": "localhost", "port": server.port, "socket": server.socket}
        tags = {GRPC_INFO_TAG: json.dumps({key: value for key, value in where.items() if value})}
        run = create_run_for_test(instance, status=STATUSES.STARTED, tags=tags)
        assert MonitoredRunLauncher().check_run_worker_health(run).status is WorkerStatus.FAILED
