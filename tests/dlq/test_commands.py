"""`coinstream dlq` on dead letters that are not from a group, and on hostile content."""

from __future__ import annotations

import json
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from coinstream.cli import main
from coinstream.settings import BrokerSettings
from tests.conftest import TopicFactory
from tests.raw_records import RawRecord, produce_raw

EVIL = b"a\x1b]0;owned\x07[/bold]\xff"


@pytest.fixture(autouse=True)
def _on_the_broker(broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker_settings.brokers)


def run(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    with pytest.raises(SystemExit) as ended:
        main(["dlq", *words])
    out, err = capsys.readouterr()
    assert (ended.value.code or 0) == code, err
    return err if code else out


def objects(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    return json.loads(run(capsys, *words, "--json"))


@pytest.fixture
def feed_topic(broker_settings: BrokerSettings, topic: TopicFactory) -> str:
    """Create a dead-letter topic with two frames of a feed; return its name without the suffix."""
    name = topic("feeds")
    headers = [(b"exchange", b"kraken"), (b"error", b"malformed: not JSON"), (b"receivedNs", b"17")]
    frames = [RawRecord(b"{", b"kraken", headers), RawRecord(b"[", b"kraken", headers)]
    admin_topic = f"{name}.dlq"
    admin = AdminClient({"bootstrap.servers": broker_settings.brokers})
    admin.create_topics([NewTopic(admin_topic, 1)])[admin_topic].result(30)
    produce_raw(broker_settings.brokers, admin_topic, frames)
    return name


def test_frames_of_a_feed_show_their_reason_and_are_named_by_their_entry(
    feed_topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = objects(capsys, "list", feed_topic)
    assert (listed["total"], listed["by_error"]) == (2, {"malformed": 2})
    first = listed["dead_letters"][0]
    assert (first["error"], first["from"]) == ("malformed: not JSON", feed_topic)
    assert (first["partition"], first["offset"]) == (None, None)
    assert "[-1]" not in run(capsys, "list", feed_topic)
    shown = objects(capsys, "show", feed_topic, "--entry", "0:1")
    assert (shown["value"], shown["entry_offset"]) == ("[", 1)
    lines = run(capsys, "show", feed_topic, "--entry", "0:1").splitlines()
    assert {"partition: -", "offset: -"} <= set(lines)
    assert "not among" in run(capsys, "show", feed_topic, "--entry", "0:7", code=1)
    assert "PARTITION:OFFSET" in run(capsys, "show", feed_topic, "--entry", "x", code=2)
    assert "--entry" in run(capsys, "show", feed_topic, code=2)
    everywhere = objects(capsys, "list")["topics"]
    assert [(row["total"], row["by_error"]) for row in everywhere if row["topic"] == feed_topic] == [
        (2, {"malformed": 2})
    ]
    assert feed_topic in run(capsys, "list")


def test_hostile_content_is_shown_and_never_interpreted(
    broker_settings: BrokerSettings, feed_topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    headers = [(b"dlq-error", EVIL), (b"dlq-error-type", EVIL), (b"dlq-topic", EVIL), (b"\x1bname", EVIL)]
    produce_raw(broker_settings.brokers, f"{feed_topic}.dlq", [RawRecord(EVIL, EVIL, headers)])
    for words in (["list", feed_topic], ["show", feed_topic, "--entry", "0:2"], ["list"]):
        for more in ([], ["--json"]):
            shown = run(capsys, *words, *more)
            assert all(line.isprintable() for line in shown.splitlines()), words
    whole = objects(capsys, "show", feed_topic, "--entry", "0:2")
    assert whole["key"].startswith("a\x1b]0;owned")
    assert run(capsys, "list", feed_topic).count("[/bold]") >= 2
