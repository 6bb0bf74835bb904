"""`coinstream up` from outside: what it shows, and that nothing of it is left, however it ends."""

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from coinstream.stack.process import DagsterClient
from tests.running_up import ROOT, RunningUp
from tests.support import wait_until

# A platform starts in 15 s on two idle cores, and in minutes on busy ones.
pytestmark = [pytest.mark.system, pytest.mark.timeout(1800)]

_ASSETS = "{ assetNodes { assetKey { path } assetMaterializations(limit: 1) { runId partition } } }"
_CHECKS = "{ assetNodes { assetKey { path } assetChecksOrError { ... on AssetChecks { checks { name } } } } }"
_OUTCOMES = """query ($path: [String!]!, $name: String!) {
  assetCheckExecutions(assetKey: { path: $path }, checkName: $name, limit: 100) { status } }"""
_STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
_LONG = {"ops": {"feeds__market_data": {"config": {"duration_s": 600.0, "loop": True}}}}
BINANCE = {"dagster/partition": "binance"}


@pytest.fixture
def web(up: RunningUp) -> Iterator[DagsterClient]:
    opened = up.wait_ready()
    yield opened
    opened.close()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RunningUp]:
    """Yield a second platform, for a test that ends it."""
    running = RunningUp(tmp_path / "home", "--no-feed")
    yield running
    for process in running.processes():
        process.kill()


def test_the_page_answers_and_the_first_run_left_its_marks(web: DagsterClient) -> None:
    page = httpx.get(web.url)
    assert page.status_code == 200
    assert "<html" in page.text
    nodes = {"/".join(node["assetKey"]["path"]): node for node in web.ask(_ASSETS)["assetNodes"]}
    (feed,) = nodes["feeds/market_data"]["assetMaterializations"]
    assert feed["partition"] == "binance"
    followed = ("topics/crypto-prices", "topics/crypto-level1", "tables/level1", "tables/price", "candles")
    assert all(nodes[name]["assetMaterializations"] for name in followed)


def test_the_first_run_left_green_checks(web: DagsterClient) -> None:
    nodes = {"/".join(node["assetKey"]["path"]): node for node in web.ask(_CHECKS)["assetNodes"]}
    for asset in ("topics/crypto-level1", "tables/level1"):
        checks = nodes[asset]["assetChecksOrError"]["checks"]
        assert checks
        for check in checks:
            asked = web.ask(_OUTCOMES, path=asset.split("/"), name=check["name"])["assetCheckExecutions"]
            # Dagster plans a check for the hour and notes its outcome for the table: the plan stays skipped.
            outcomes = [each["status"] for each in asked if each["status"] != "SKIPPED"]
            # The last is the first that was: tests of the pages have made some fail since.
            assert outcomes[-1] == "SUCCEEDED", check


def test_a_second_up_in_the_same_home_is_refused(up: RunningUp, web: DagsterClient) -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "coinstream", "up"],
        env=up.environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 1
    assert "runs already" in answer.stderr
    assert web.url in answer.stderr.replace("\n", "")


def test_ctrl_c_while_it_starts_leaves_nothing(other: RunningUp) -> None:
    other.wait_for("broker at")
    assert other.end_by(signal.SIGINT) == 0


def test_a_closed_terminal_leaves_nothing(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    running = RunningUp(tmp_path / "home", "--no-feed", terminal=slave)
    os.close(slave)
    said = b""
    while b"Ready: " not in said:
        said += os.read(master, 4096)
    running.end_with(lambda: os.close(master))


def test_a_kill_amid_a_feed_run_leaves_nothing(other: RunningUp) -> None:
    web = other.wait_ready()
    run_id = web.launch("run_feed", config=_LONG, tags=BINANCE)
    wait_until(lambda: _status(web, run_id) == "STARTED", 600, what="the feed run has started")
    web.close()
    other.end_by(signal.SIGKILL)


def test_a_child_that_dies_is_one_clear_error(other: RunningUp) -> None:
    other.wait_ready().close()
    (daemon,) = (
        each
        for each in other.processes()
        if each.cmdline()[2:4] == ["resources.fast_start", "dagster._daemon"]
    )
    daemon.kill()
    assert other.process.wait(120) == 1
    said = other.output.read_text()
    assert "the daemon ended" in said
    assert str(other.home / "logs" / "daemon.log") in said.replace("\n", "")
    _, left = psutil.wait_procs(other.processes(), timeout=30)
    assert not left


def _status(web: DagsterClient, run_id: str) -> str:
    return str(web.ask(_STATUS, id=run_id)["runOrError"]["status"])
