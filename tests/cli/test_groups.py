"""`coinstream groups reset`: where a group goes on is set, shown first, and refused while it has members."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Producer

from coinstream.cli import main
from coinstream.client import RedpandaClient
from coinstream.consumer import GroupOptions
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.consumer.common import Memory, fill
from tests.consumer.conftest import client, committed
from tests.support import unique, wait_until

__all__ = ["client", "committed"]

Committed = Callable[[str, str, int], dict[int, int]]


@pytest.fixture(autouse=True)
def _on_the_broker(broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker_settings.brokers)


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> Any:
    with pytest.raises(SystemExit) as ended:
        main(["groups", "reset", *words, "--json"])
    out, err = capsys.readouterr()
    assert (ended.value.code or 0) == code, err
    return json.loads(out) if not code else err


def test_a_group_is_set_to_a_time_an_offset_and_the_ends(
    broker_settings: BrokerSettings,
    topic: TopicFactory,
    committed: Committed,
    capsys: pytest.CaptureFixture[str],
) -> None:
    name, group = topic("crypto-level1"), unique("group")
    producer = Producer({"bootstrap.servers": broker_settings.brokers})
    for number in range(10):
        producer.produce(name, b"x", timestamp=1_764_000_000_000 + 1000 * number)
    assert producer.flush(20) == 0

    def offset_after(*words: str) -> int:
        [change] = run(capsys, group, *words)["changes"]
        assert (change["topic"], change["partition"]) == (name, 0)
        return int(change["after"])

    assert "name its topics with --topic" in run(capsys, group, "--to", "earliest", code=1)
    assert offset_after("--to", "4", "--topic", name) == 4
    assert committed(group, name, 1) == {0: 4}
    assert offset_after("--to", "2025-11-24T16:00:07Z") == 7
    assert offset_after("--to", "2099-01-01") == 10
    assert offset_after("--to", "5000") == 10
    assert offset_after("--to", "earliest", "--dry-run") == 0
    assert committed(group, name, 1) == {0: 10}
    assert offset_after("--to", "earliest") == 0
    assert offset_after("--to", "latest") == 10
    assert committed(group, name, 1) == {0: 10}
    assert "soon" in run(capsys, group, "--to", "soon", code=2)
    assert "nosuch" in run(capsys, group, "--to", "earliest", "--topic", "nosuch", code=1)
    assert "name of a consumer group is empty" in run(capsys, "", "--to", "latest", code=1)
    assert offset_after("--to", "0001-01-01") == 0, "a time before 1970 is the start"


def test_a_reset_counts_what_is_skipped_without_a_commit(
    broker_settings: BrokerSettings, topic: TopicFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    name, group = topic("crypto-level1"), unique("group")
    producer = Producer({"bootstrap.servers": broker_settings.brokers})
    for _ in range(6):
        producer.produce(name, b"x")
    assert producer.flush(20) == 0

    def counts(to: str) -> tuple[object, int, int]:
        [change] = run(capsys, group, "--to", to, "--topic", name)["changes"]
        return change["before"], change["repeated"], change["skipped"]

    assert counts("4") == (None, 0, 4)
    assert counts("latest") == (4, 0, 2)
    assert counts("earliest") == (6, 6, 0)


def test_a_group_goes_on_where_it_was_set(
    client: RedpandaClient, topic: TopicFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    name, group, memory = topic("crypto-level1", partitions=3), unique("group"), Memory()
    fill(client, name, 60)
    options = GroupOptions(offset_reset="latest")
    with client.create_consumer_group(group, [name], memory.one, options) as manager:
        manager.wait_joined()
        assert "1 member(s)" in run(capsys, group, "--to", "earliest", "--topic", name, code=1)
    run(capsys, group, "--to", "earliest", "--topic", name)
    with client.create_consumer_group(group, [name], memory.one, options):
        wait_until(lambda: memory.total >= 60)
    assert memory.numbers == dict.fromkeys(range(60), 1)
