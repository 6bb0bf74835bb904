"""`coinstream lag`, `health` and `top` as people and scripts run them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

import coinstream.cli.groups
import coinstream.cli.monitoring
from coinstream.cli.rendering import duration
from coinstream.local_broker import LocalBroker
from tests.command_line import run_cli
from tests.conftest import TopicFactory
from tests.support import unique, wait_until


def commit(consumer: Consumer, place: TopicPartition) -> None:
    """Commit an offset, again while the new group's coordinator is still loading."""

    def committed() -> bool:
        try:
            consumer.commit(offsets=[place], asynchronous=False)
        except KafkaException as error:
            if not error.args[0].retriable():
                raise
            return False
        return True

    wait_until(committed, what="the commit")


@pytest.fixture
def group(broker: LocalBroker, topic: TopicFactory) -> tuple[str, str]:
    """Return a group that has handled 3 of 8 messages, and its topic."""
    name, group = topic(partitions=2), unique("group")
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for _ in range(8):
        producer.produce(name, b"x", partition=1)
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    commit(consumer, TopicPartition(name, 1, 3))
    consumer.close()
    return group, name


@pytest.fixture(autouse=True)
def _on_the_broker(broker: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)
    monkeypatch.setenv("COLUMNS", "200")


def environment(bootstrap: str) -> dict[str, str]:
    return os.environ | {"REDPANDA_BROKERS": bootstrap, "COLUMNS": "200", "PYTHONUNBUFFERED": "1"}


def test_lag_of_a_group(broker: LocalBroker, group: tuple[str, str]) -> None:
    name, topic = group
    told = json.loads(run_cli("lag", name, "--json").stdout)
    (one,) = told["groups"]
    assert (one["group"], one["messages"], one["state"]) == (name, 5, "EMPTY")
    parts = {part["partition"]: part for part in one["partitions"]}
    assert (parts[1]["messages"], parts[1]["committed"], parts[1]["seconds_from"]) == (5, 3, "record")
    shown = run_cli("lag", name).stdout
    assert topic in shown
    assert "oldest" in shown


def test_partitions_without_a_commit_are_shown_only_on_request(
    broker: LocalBroker, topic: TopicFactory
) -> None:
    name, group = topic(partitions=43), unique("group")
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": group})
    commit(consumer, TopicPartition(name, 7, 0))
    consumer.close()
    # Right after a topic is created, some of its partitions may not have a leader yet.
    hidden = "43 partition(s) without lag are not shown"
    wait_until(lambda: hidden in run_cli("lag", group).stdout, what="every partition has a leader")
    assert run_cli("lag", group, "--all").stdout.count(f"{name} ") >= 43


def test_all_groups_are_listed(broker: LocalBroker, group: tuple[str, str]) -> None:
    shown = run_cli("lag")
    assert shown.exit_code == 0
    assert group[0] in shown.stdout


def test_a_group_that_does_not_exist(broker: LocalBroker) -> None:
    lag, health = (run_cli(command, "nobody-4") for command in ("lag", "health"))
    assert (lag.exit_code, health.exit_code) == (1, 1)
    assert "error: there is no consumer group nobody-4" in lag.stderr
    assert "Traceback" not in lag.stderr + health.stderr
    assert "-1" in health.stdout


def test_health_tells_by_its_exit_code(broker: LocalBroker, group: tuple[str, str]) -> None:
    told = run_cli("health", group[0], "--json")
    assert told.exit_code == 0, told.stdout
    one = json.loads(told.stdout)
    assert one["status"] == "healthy"
    assert (one["groups"][0]["lag"], one["groups"][0]["state"]) == (5, "EMPTY")
    dead = run_cli("health", "--json", environment={"REDPANDA_BROKERS": "127.0.0.1:1"})
    assert dead.exit_code == 1
    shown = json.loads(dead.stdout)
    assert {shown["status"], shown["cluster"]["status"], shown["producer"]["status"]} == {"unhealthy"}


def test_top_shows_everything_once(broker: LocalBroker, group: tuple[str, str]) -> None:
    told = json.loads(run_cli("top", "--once", "--json").stdout)
    topics = {line["topic"]: line for line in told["topics"]}
    mine = topics[group[1]]
    assert (mine["records"], mine["lag"], mine["slowest"], mine["partitions"]) == (8, 5, group[0], 2)
    assert mine["rate"] == 0
    assert mine["newest_s"] is not None
    assert told["producer"]["latency_ms"] > 0
    shown = run_cli("top", "--once").stdout
    assert group[0] in shown
    assert group[1] in shown


@pytest.mark.parametrize("command", [["top", "--json"], ["lag", "--watch", "--json"]])
def test_in_a_pipe_there_is_one_object_a_line_until_interrupted(
    broker: LocalBroker, group: tuple[str, str], tmp_path: Path, command: list[str]
) -> None:
    out = tmp_path / "out"
    with out.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "coinstream", *command, "--interval", "0.2"],
            env=environment(broker.bootstrap),
            stdout=file,
        )
    try:
        wait_until(lambda: out.read_text().count("\n") >= 3, what="three lines")
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait(120)
    for line in out.read_text().splitlines()[:3]:
        assert group[0] in line
        json.loads(line)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, "?"),
        (0.0, "0 s"),
        (0.85, "850 ms"),
        (4.25, "4.2 s"),
        (42.9, "42 s"),
        (185, "3 min 5 s"),
        (7_800, "2 h 10 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_durations_as_people_say_them(seconds: float | None, expected: str) -> None:
    assert duration(seconds) == expected


def test_a_deleted_group_does_not_exist(broker: LocalBroker, group: tuple[str, str]) -> None:
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_consumer_groups([group[0]])[group[0]].result(30)
    assert run_cli("lag", group[0]).exit_code == 1


def test_a_group_cannot_write_to_the_terminal(
    broker: LocalBroker, topic: TopicFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)
    name, evil = topic(), unique("\x1b]0;owned\x07[bold]group")
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": evil})
    consumer.commit(offsets=[TopicPartition(name, 0, 0)], asynchronous=False)
    consumer.close()
    for app, arguments in (
        (coinstream.cli.groups.lag_app, []),
        (coinstream.cli.groups.lag_app, [evil]),
        (coinstream.cli.monitoring.health_app, [evil]),
        (coinstream.cli.monitoring.top_app, ["--once"]),
    ):
        shown = CliRunner().invoke(app, arguments).stdout
        assert "owned" in shown
        assert "[bold]" in shown
        assert "\x1b" not in shown
        assert "\x07" not in shown
    # A client that nothing refers to ends, and its answers never come.
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_consumer_groups([evil])[evil].result(30)
