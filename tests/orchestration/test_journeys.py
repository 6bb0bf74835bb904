"""Test what a new user does from end to end, and print the time of each journey: `make journeys`.

The schedule's ticks alone take up to five minutes. Other tests cover the parts of each journey, so that
`make test-all` leaves this module out.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from coinstream.local_broker import require_broker
from coinstream.monitoring.alerts import Kind
from coinstream.settings import BrokerSettings, HomeSettings
from coinstream.stack.process import DagsterClient
from tests.docs.walkthrough import Walkthrough, steps
from tests.monitoring.webhook import Webhook, webhook
from tests.running_up import ROOT, RunningUp
from tests.support import wait_until

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(1800),
    pytest.mark.xdist_group("journeys"),
    pytest.mark.skipif("JOURNEYS" not in os.environ, reason="`make journeys` runs and times them"),
]

GROUP = "strategy"
WAIT_S = 600.0
_SCHEDULE = {
    "repositoryLocationName": "coinstream",
    "repositoryName": "__repository__",
    "scheduleName": "feed_schedule",
}
_START = """mutation ($schedule: ScheduleSelector!) { startSchedule(scheduleSelector: $schedule) {
  ... on ScheduleStateResult { scheduleState { status } } } }"""
_RUNS = "{ runsOrError(limit: 100) { ... on Runs { results { status tags { key value } } } } }"


@contextmanager
def timed(journey: str) -> Iterator[None]:
    """Print how long the block takes."""
    start = time.monotonic()
    yield
    load = os.getloadavg()[0]
    print(f"journey: {journey}: {time.monotonic() - start:.1f} s, load {load:.1f}")


@pytest.fixture(scope="module")
def hook() -> Iterator[Webhook]:
    with webhook() as opened:
        yield opened


@pytest.fixture(scope="module")
def platform(hook: Webhook, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningUp]:
    """Return a new platform with an alert channel and sensors that run every five seconds."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("COINSTREAM_ALERTS", hook.url)
        environment.setenv("COINSTREAM_WATCH_INTERVAL_S", "5")
        with timed("first start to quotes in a topic"):
            running = RunningUp(tmp_path_factory.mktemp("journeys") / "home")
            running.wait_for("first run succeeded", WAIT_S)
    try:
        yield running
    finally:
        if running.process.is_running():
            running.end_by(signal.SIGTERM)


@pytest.fixture
def web(platform: RunningUp) -> Iterator[DagsterClient]:
    opened = platform.wait_ready()
    yield opened
    opened.close()


def coinstream(platform: RunningUp, *words: str) -> str:
    """Run a command beside the platform; return its output."""
    command = [sys.executable, "-m", "coinstream", *words]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=platform.environment,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def as_json(platform: RunningUp, *words: str) -> dict[str, Any]:
    """Run a command with `--json`; return the object that it printed."""
    return dict(json.loads(coinstream(platform, *words, "--json")))


def read_quotes(platform: RunningUp, file: Path) -> None:
    """Copy new quotes to a file with a consumer group that leaves when none comes any more."""
    words = ("sink", "run", "jsonl", str(file), "--topic", "crypto-level1", "--group", GROUP, "--idle", "5")
    coinstream(platform, *words)


def test_quotes_of_the_first_run_are_read(platform: RunningUp) -> None:
    shown = coinstream(platform, "tail", "crypto-level1", "--from-beginning", "--limit", "3", "--json")
    quotes = [json.loads(line) for line in shown.splitlines()]
    assert len(quotes) == 3
    assert all("bestBid" in json.dumps(quote) for quote in quotes)


def test_a_stopped_consumer_is_alerted_and_its_recovery_too(
    platform: RunningUp, hook: Webhook, tmp_path: Path
) -> None:
    def received(*kinds: Kind) -> bool:
        return any(alert["type"] in kinds and GROUP in alert["message"] for alert in hook.received)

    read_quotes(platform, tmp_path / "quotes.jsonl")
    coinstream(platform, "feed", "run", "binance", "--speed", "max", "--limit", "30000", "--loop")
    with timed("quotes that a stopped consumer does not read, to the alert"):
        wait_until(lambda: received(Kind.WARNING, Kind.FAILURE), WAIT_S, what=f"an alert on {GROUP}")
    with timed("consumer started again, to the recovery"):
        read_quotes(platform, tmp_path / "quotes.jsonl")
        wait_until(lambda: received(Kind.RECOVERY), WAIT_S, what=f"a recovery of {GROUP}")


def test_an_hour_is_backfilled_once(platform: RunningUp) -> None:
    coinstream(platform, "feed", "run", "binance", "--speed", "max", "--limit", "5000", "--loop")
    hour = time.strftime("%Y-%m-%dT%H", time.gmtime())
    with timed("backfill of an hour"):
        (first,) = as_json(platform, "lake", "land", "level1", "--hour", hour)["tables"]
    (again,) = as_json(platform, "lake", "land", "level1", "--hour", hour)["tables"]
    assert first["messages"] > 0
    assert again["rows"] == 0, "every message of the hour is in the table"


def test_a_bad_message_is_found_and_replayed(platform: RunningUp, tmp_path: Path) -> None:
    broker = require_broker(BrokerSettings(), HomeSettings(home=platform.home)).brokers
    with timed("bad message, from its arrival to its replay"):
        producer = Producer({"bootstrap.servers": broker})
        producer.produce("crypto-level1", b"{not json", b"binance-BTC/USDT")
        assert producer.flush(60) == 0
        read_quotes(platform, tmp_path / "quotes.jsonl")
        listed = as_json(platform, "dlq", "list", "crypto-level1")
        assert listed["total"] == 1, listed
        assert as_json(platform, "dlq", "replay", "crypto-level1", "--dry-run") == {"would_replay": 1}
        assert as_json(platform, "dlq", "replay", "crypto-level1")["replayed"] == 1
    assert as_json(platform, "dlq", "replay", "crypto-level1", "--dry-run") == {"would_replay": 0}
    coinstream(platform, "lake", "land", "level1")
    refused = as_json(platform, "lake", "quarantine", "list", "level1")
    assert any("{not json" in one["value"] for one in refused["newest"])
    checked = as_json(platform, "lake", "quarantine", "replay", "level1", "--dry-run")
    assert checked["selected"] >= 1
    assert checked["landed"] == 0, "it breaks the rules still"


def test_an_exchange_is_added_as_the_tutorial_shows(platform: RunningUp, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "tutorial.md").read_text()
    section = page.partition("## 3. ")[2].partition("\n## ")[0]
    walk = Walkthrough(tmp_path, dict(platform.environment))
    with timed("exchange added, from its recording to messages"):
        problems = [problem for step in steps(section) if (problem := walk.follow(step))]
    assert not problems + walk.stop()


def test_a_scheduled_feed_runs(web: DagsterClient) -> None:
    def scheduled() -> list[str]:
        found = web.ask(_RUNS)["runsOrError"]["results"]
        wanted = {"key": "dagster/schedule_name", "value": "feed_schedule"}
        return [run["status"] for run in found if wanted in run["tags"]]

    with timed("schedule turned on, to a run with messages (ticks are five minutes apart)"):
        web.ask(_START, schedule=_SCHEDULE)
        wait_until(lambda: "SUCCESS" in scheduled(), WAIT_S, what="a run of the schedule")
