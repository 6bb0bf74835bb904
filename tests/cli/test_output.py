"""Test the output of commands: encodings, terminal escapes and closed pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from confluent_kafka import Producer

from coinstream.local_broker import LocalBroker
from coinstream.text import format_timestamp, printable, printable_json, readable
from tests.cli.test_tail import tail
from tests.conftest import TopicFactory

EVIL = "a\x1b]0;owned\x07b\x9b31m\u202ec\u2028"


def run(*words: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "coinstream", *words]
    return subprocess.run(command, check=False, timeout=120, **options)  # type: ignore[call-overload,no-any-return]


def test_every_encoding_can_show_everything(broker: LocalBroker, topic: TopicFactory) -> None:
    name = topic("prices")
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(name, "€ is no message".encode(), "€URO".encode())
    assert producer.flush(20) == 0
    env = os.environ | {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "REDPANDA_BROKERS": broker.bootstrap}
    for words in (["tail", name, "--from-beginning", "--no-follow"], ["--help"], ["topics", "list"]):
        done = run(*words, env=env, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b""), words
        assert done.stdout.isascii()
    shown = run("tail", name, "--from-beginning", "--no-follow", env=env, capture_output=True)
    assert rb"\u20acURO" in shown.stdout


def test_a_command_that_nobody_reads_ends_with_the_code_of_a_broken_pipe() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run("--help", stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("code", [*range(32), 127, *range(128, 160), 0x202E, 0x2066, 0x200B, 0xD800, 0xE0041])
def test_no_control_character_is_printed(code: int) -> None:
    shown = printable(f"a{chr(code)}b")
    assert shown.isascii()
    assert shown.isprintable()
    assert printable_json(json.dumps(f"a{chr(code)}b", ensure_ascii=False)).isascii()
    assert json.loads(printable_json(json.dumps(chr(code), ensure_ascii=False))) == chr(code)


def test_text_of_people_stays_as_it_is() -> None:
    assert printable("€URO 漢字 👍 naïve \\x1b") == "€URO 漢字 👍 naïve \\x1b"
    assert printable("a\nb", keep_newlines=True) == "a\nb"
    assert readable(b"\xff\x1bok") == "\\xff\\x1bok"


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        (-1, None),
        (0, "1970-01-01T00:00:00.000Z"),
        (1_764_000_000_123, "2025-11-24T16:00:00.123Z"),
        (1_764_000_000_123_456, "1764000000123456"),
        (2**62, str(2**62)),
    ],
)
def test_a_timestamp_that_is_no_time_is_a_number(stamp: int, shown: str | None) -> None:
    assert format_timestamp(stamp) == shown


def test_tail_shows_no_terminal_escape(
    broker: LocalBroker,
    topic: TopicFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)
    name = topic("escapes", config={"message.timestamp.after.max.ms": str(2**62)})
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    producer.produce(name, EVIL.encode(), EVIL.encode(), headers=[(EVIL, EVIL.encode())])
    producer.produce(name, b"later", timestamp=2**62)
    assert producer.flush(20) == 0
    plain, _ = tail(capsys, name, "--from-beginning", "--no-follow")
    assert str(2**62) in plain
    text, _ = tail(capsys, name, "--from-beginning", "--no-follow", "--json")
    for shown in (plain, text):
        assert all(line.isprintable() for line in shown.splitlines())
        assert len(shown.splitlines()) == 2
    assert json.loads(text.splitlines()[0])["key"] == EVIL


def test_tail_begins_where_it_is_told(
    broker: LocalBroker,
    topic: TopicFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)
    name = topic("starts")
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(10):
        producer.produce(name, b"number %d" % number, timestamp=1_764_000_000_000 + 1000 * number)
    assert producer.flush(20) == 0

    def offsets(*words: str) -> list[int]:
        lines = tail(capsys, name, "--no-follow", "--json", *words)[0].splitlines()
        return [json.loads(line)["offset"] for line in lines]

    assert offsets("--offset", "7") == [7, 8, 9]
    assert offsets("--since", "2025-11-24T16:00:04Z") == [4, 5, 6, 7, 8, 9]
    assert offsets("--since", "2030-01-01") == []
    assert offsets("--from-beginning", "--grep", "[35]$") == [3, 5]
    assert offsets("--from-beginning", "--grep", "number", "--limit", "2") == [0, 1]
    assert "only one" in tail(capsys, name, "--offset", "1", "--from-beginning", code=2)[1]
    assert "--grep" in tail(capsys, name, "--grep", "(", code=2)[1]
    assert "yesterday" in tail(capsys, name, "--since", "yesterday", code=2)[1]
