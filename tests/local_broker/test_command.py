"""`coinstream broker` as a user runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import Producer

from coinstream.errors import BrokerError, LocalBrokerError
from coinstream.local_broker import LocalBroker, broker_home, open_broker, require_broker
from coinstream.local_broker.daemon import stop_detached
from coinstream.local_broker.status import READY_TOPIC
from coinstream.settings import BrokerSettings, HomeSettings
from tests.conftest import topic_factory
from tests.local_broker.reading import read_all
from tests.support import wait_until

pytestmark = pytest.mark.system


def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "coinstream", "broker", *words], capture_output=True, text=True
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def told(*words: str, code: int = 0) -> Any:
    return json.loads(run(*words, "--json", code=code).stdout)


@pytest.fixture
def own_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COINSTREAM_BROKER_PORT", "0")
    monkeypatch.delenv("REDPANDA_BROKERS", raising=False)
    return home


def test_start_status_stop(own_home: Path) -> None:
    assert told("status", code=3)["running"] is False
    assert "is not running" in run("stop").stdout
    with pytest.raises(BrokerError, match="coinstream broker start"):
        require_broker(BrokerSettings(), HomeSettings())

    started = told("start")
    try:
        assert started["ready"] is True
        assert started["detached"] is True
        assert [node["alive"] for node in started["nodes"]] == [True]
        assert require_broker(BrokerSettings(), HomeSettings()).brokers == started["bootstrap"]
        again = run("start", "--json")
        assert "already running" in again.stderr
        assert json.loads(again.stdout)["owner_pid"] == started["owner_pid"]
        assert "stop it first" in run("start", "--nodes", "3", code=1).stderr
        topic = produce_some(started["bootstrap"])

        psutil.Process(started["owner_pid"]).send_signal(signal.SIGKILL)
        java = started["nodes"][0]["pid"]
        wait_until(lambda: not psutil.pid_exists(java), what="Java is gone")
        assert told("status", code=3)["data_bytes"] > 0

        # Killed without warning, and yet nothing is lost and nothing is in the way.
        second = told("start")
        assert read_all(second["bootstrap"], topic, 100) == {str(number).encode() for number in range(100)}
        assert "runs" in run("status").stdout
    finally:
        assert told("stop")["stopped"] is True
    assert told("status", code=3)["running"] is False
    assert not psutil.pid_exists(second["nodes"][0]["pid"])


def produce_some(bootstrap: str) -> str:
    name = topic_factory(bootstrap)("kept")
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True})
    for number in range(100):
        producer.produce(name, str(number).encode())
    assert producer.flush(20) == 0
    return name


def test_what_prevents_a_start_is_one_line(own_home: Path) -> None:
    broker_home(HomeSettings()).mkdir(parents=True)
    (broker_home(HomeSettings()) / "nodes-1").write_text("in the way")
    failed = run("start", code=1)
    assert failed.stdout == ""
    (line,) = [text for text in failed.stderr.splitlines() if text.startswith("error: ")]
    assert "nodes-1" in line
    assert "COINSTREAM_HOME" in line
    assert "Traceback" not in failed.stderr


def test_a_broker_of_another_process_is_not_stopped(broker: LocalBroker) -> None:
    with pytest.raises(LocalBrokerError, match=r"belongs to process .* end that one"):
        stop_detached(broker.home)
    broker.check()


def test_a_command_without_a_broker_has_one_for_its_time(own_home: Path) -> None:
    with open_broker(BrokerSettings(), HomeSettings()) as found:
        topic = produce_some(found.brokers)
        # That it was ready means that a message was acknowledged.
        assert b"ready" in read_all(found.brokers, READY_TOPIC, 1)
        with open_broker(BrokerSettings(), HomeSettings()) as same:
            assert same.brokers == found.brokers
        assert len(read_all(found.brokers, topic, 100)) == 100
    assert told("status", code=3)["running"] is False


def test_the_configured_broker_goes_first() -> None:
    configured = BrokerSettings(brokers="redpanda:9092")
    assert require_broker(configured, HomeSettings()) is configured
    with open_broker(configured, HomeSettings()) as found:
        assert found is configured
