"""Dagster's daemon is killed: runs go on without it, what is queued waits, nothing is lost or done twice."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from coinstream.local_broker import LocalBroker
from coinstream.local_broker.properties import free_ports, is_free
from coinstream.stack.paths import HOST, InstancePaths, code_root
from tests.faults.test_processes import coinstream, stored_messages
from tests.support import wait_until

pytestmark = [pytest.mark.system, pytest.mark.timeout(1200)]
FEED = "binance"
ENDS = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}


class Orchestrator:
    """Code server and daemon as processes of their own, as in production; each can be killed."""

    def __init__(self, home: Path, brokers: str) -> None:
        self.place = InstancePaths(code_root(), home)
        (self._port,) = free_ports(1)
        self.place.prepare(self._port)
        self._environment = {**self.place.environment(), "REDPANDA_BROKERS": brokers}
        self._running: list[subprocess.Popen[bytes]] = []
        where = ["--host", HOST, "--port", str(self._port), "--working-directory", str(self.place.root)]
        self._start("dagster", "api", "grpc", "--module-name", "definitions", "--location-name", "coinstream",
                    "--inject-env-vars-from-instance", *where)  # fmt: skip
        wait_until(lambda: not is_free(self._port), 600, "the code server listens")
        self.instance = dg.DagsterInstance.from_config(str(self.place.dagster_home))

    def start_daemon(self) -> subprocess.Popen[bytes]:
        return self._start("dagster._daemon", "run", "--workspace", str(self.place.workspace))

    def launch(self, **config: object) -> str:
        """Ask for a run of the feed; gives its id."""
        known = {run.run_id for run in self.instance.get_runs()}
        wanted = {"ops": {"feeds__market_data": {"config": config}}}
        command = [
            *(sys.executable, "-m", "dagster", "job", "launch", "--workspace", str(self.place.workspace)),
            *("--location", "coinstream", "--job", "run_feed", "--config-json", json.dumps(wanted)),
            *("--tags", json.dumps({"dagster/partition": FEED})),
        ]
        done = subprocess.run(
            command,
            env=self._environment,
            cwd=self.place.root,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        (run_id,) = {run.run_id for run in self.instance.get_runs()} - known
        return run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def end_of(self, run_id: str) -> dg.DagsterRunStatus:
        """Wait until a run has ended; how."""
        wait_until(lambda: self.status(run_id) in ENDS, 600, f"run {run_id} ends")
        return self.status(run_id)

    def messages(self, run_id: str) -> int:
        """How many messages a run says that the cluster has acknowledged, dead letters included."""
        records = self.instance.get_records_for_run(
            run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records
        (found,) = [record.asset_materialization for record in records]
        assert found is not None
        return sum(int(str(found.metadata[name].value)) for name in ("messages", "dead_letters"))

    def close(self) -> None:
        for process in reversed(self._running):
            process.terminate()
        for process in self._running:
            try:
                process.wait(120)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.instance.dispose()

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        log = (self.place.logs / f"{words[0]}.log").open("ab")
        with log:
            process = subprocess.Popen(
                [sys.executable, "-m", *words],
                env=self._environment,
                cwd=self.place.root,
                stdout=log,
                stderr=log,
            )
        self._running.append(process)
        return process


@pytest.fixture
def orchestrator(broker: LocalBroker, home: Path) -> Iterator[Orchestrator]:
    started = Orchestrator(home, broker.bootstrap)
    yield started
    started.close()


def test_killed_daemon(
    orchestrator: Orchestrator, broker: LocalBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)
    coinstream("topics", "apply").communicate(timeout=300)
    before = stored_messages(broker.bootstrap)
    daemon = orchestrator.start_daemon()
    first = orchestrator.launch(duration_s=15.0, speed=20.0, loop=True)
    wait_until(lambda: stored_messages(broker.bootstrap) > before, 600, "messages flow")
    daemon.kill()
    daemon.wait()
    second = orchestrator.launch(speed=0.0, limit=1000)
    assert orchestrator.end_of(first) is dg.DagsterRunStatus.SUCCESS, "a run needs no daemon"
    assert orchestrator.status(second) is dg.DagsterRunStatus.QUEUED
    orchestrator.start_daemon()
    assert orchestrator.end_of(second) is dg.DagsterRunStatus.SUCCESS, "what was queued is run"
    told = orchestrator.messages(first) + orchestrator.messages(second)
    assert stored_messages(broker.bootstrap) - before == told
