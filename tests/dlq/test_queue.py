"""Listing and replaying dead letters, as a user does: through the command line."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from coinstream.cli import main
from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.dlq import DeadLetterQueue
from coinstream.dlq.entry import DeadLetterFilter
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.consumer.common import Memory, fill
from tests.support import unique, wait_until

Run = Callable[..., dict[str, object]]


@pytest.fixture
def run(
    broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """`run("dlq", "list", topic)` gives the object that the command prints."""
    monkeypatch.setenv("REDPANDA_BROKERS", broker_settings.brokers)

    def call(*words: str) -> dict[str, object]:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        assert not ended.value.code
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    return call


def fail_all(client: RedpandaClient, topic: str, group: str, count: int) -> None:
    """Run a group whose handler fails on every message until there are `count` entries."""

    def fails(received: ConsumedMessage) -> None:
        raise (KeyError if received.offset % 2 else ValueError)(f"number {received.offset}")

    options = GroupOptions(retries=0)
    with client.create_consumer_group(group, [topic], fails, options) as manager:
        wait_until(lambda: manager.report().dead_letters >= count)


def test_letters_are_listed_filtered_and_shown(client: RedpandaClient, topic: TopicFactory, run: Run) -> None:
    name = topic("crypto-level1")
    fill(client, name, 20, symbols=4)
    fail_all(client, name, unique("group"), 20)
    listed = run("dlq", "list", name)
    assert (listed["total"], listed["by_error"]) == (20, {"ValueError": 10, "KeyError": 10})
    assert run("dlq", "list", name, "--error", "valueerror: number 1")["total"] == 5
    assert run("dlq", "list", f"{name}.dlq", "--key", "binance-S3/USDT")["total"] == 5
    assert run("dlq", "list", name, "--until", "2001-01-01")["total"] == 0
    assert run("dlq", "list", name, "--since", "2200-01-01")["total"] == 0
    shown = run("dlq", "show", name, "--partition", "0", "--offset", "7")
    assert shown["error"] == "KeyError: 'number 7'"
    assert shown["key"] == "binance-" + json.loads(str(shown["value"]))["symbol"]


def test_a_replay_sends_each_letter_once_and_never_loops(
    client: RedpandaClient, topic: TopicFactory, run: Run
) -> None:
    name, group = topic("crypto-level1"), unique("group")
    fill(client, name, 30)
    fail_all(client, name, group, 30)
    assert run("dlq", "replay", name, "--dry-run") == {"would_replay": 30}
    assert run("dlq", "replay", name, "--error", "KeyError") == {
        "replayed": 15,
        "already": 0,
        "exhausted": 0,
        "incomplete": 0,
    }
    assert run("dlq", "replay", name) == {"replayed": 15, "already": 15, "exhausted": 0, "incomplete": 0}
    assert run("dlq", "replay", name) == {"replayed": 0, "already": 30, "exhausted": 0, "incomplete": 0}
    # They fail again: new dead letters, which count their replays.
    for turn in (1, 2):
        fail_all(client, name, group, 30)
        assert run("dlq", "replay", name) == {
            "replayed": 30,
            "already": 30 * turn,
            "exhausted": 0,
            "incomplete": 0,
        }
    fail_all(client, name, group, 30)
    assert run("dlq", "replay", name) == {"replayed": 0, "already": 90, "exhausted": 30, "incomplete": 0}
    # Handled at last, they are gone from the topic: 30 messages, each in its original form.
    memory = Memory()
    assert run("dlq", "replay", name, "--max-replays", "4")["replayed"] == 30
    seen: list[ConsumedMessage] = []

    def handle(each: ConsumedMessage) -> None:
        seen.append(each)
        memory.one(each)

    with client.create_consumer_group(group, [name], handle):
        wait_until(lambda: memory.total >= 30)
    assert memory.numbers == dict.fromkeys(range(30), 1)
    assert all(dict(each.headers)["coinstream-replays"] == b"4" for each in seen)
    assert all(dict(each.headers)["replayed-from"].startswith(f"{name}.dlq[".encode()) for each in seen)


def test_letters_can_go_to_another_topic(
    client: RedpandaClient, broker_settings: BrokerSettings, topic: TopicFactory
) -> None:
    name, other = topic("crypto-level1"), topic("crypto-level1")
    fill(client, name, 5, symbols=1)
    fail_all(client, name, unique("group"), 5)
    box = DeadLetterQueue(broker_settings, name)
    assert box.replay(DeadLetterFilter(offset=3), to=other).replayed == 1
    memory = Memory()
    with client.create_consumer_group(unique("group"), [other], memory.one):
        wait_until(lambda: memory.total)
    assert memory.numbers == {3: 1}
    assert [entry.dead_letter.offset for entry in box.read() if entry.is_replayed] == [3]


def test_a_topic_without_dead_letters_is_one_clear_error(
    broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker_settings.brokers)
    with pytest.raises(SystemExit) as ended:
        main(["dlq", "list", "crypto-nowhere"])
    assert ended.value.code == 1
    assert "crypto-nowhere.dlq does not exist" in capsys.readouterr().err
