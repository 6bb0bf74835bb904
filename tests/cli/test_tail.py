"""`coinstream tail` shows every record of a topic, message or not."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import lz4.frame
import pytest
from confluent_kafka import Producer

from coinstream.cli import main
from coinstream.local_broker import LocalBroker
from coinstream.messages import Level1, Price
from coinstream.serialization import MessageSerializer
from tests.conftest import TopicFactory
from tests.support import unique

MOMENT = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)
QUOTE = Level1("binance", "BTCUSDT", 61000.1, 61000.2, 1.5, 0.25, MOMENT, MOMENT)
PRICE = Price("binance", "€URO", 1.08, MOMENT)


@pytest.fixture(autouse=True)
def _on_the_broker(broker: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)


@pytest.fixture
def mixed(broker: LocalBroker, topic: TopicFactory) -> str:
    """Return a topic of two partitions with five records: three messages, garbage, a tombstone."""
    name = topic("mixed", partitions=2)
    encoder = MessageSerializer()
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    stamp = int(MOMENT.timestamp() * 1000)

    def put(value: bytes | None, key: bytes | None, partition: int, headers: Any = None) -> None:
        producer.produce(name, value, key, partition, timestamp=stamp, headers=headers or [])

    put(encoder.encode(QUOTE)[0], b"BTCUSDT", 0)
    put(lz4.frame.compress(encoder.encode(PRICE)[0]), "€URO".encode(), 0, [("compressed", b"true")])
    put(b"\xff\x00 not json", b"BTCUSDT", 0)
    put(None, b"gone", 1)
    put(encoder.encode(QUOTE)[0][:-1] + b',"venueNote":"halted"}', None, 1)
    assert producer.flush(20) == 0
    return name


def tail(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as done:
        main(["tail", *words])
    out, err = capsys.readouterr()
    assert (done.value.code or 0) == code, err
    return out, err


def objects(capsys: pytest.CaptureFixture[str], *words: str) -> dict[tuple[int, int], Any]:
    lines = map(json.loads, tail(capsys, *words, "--json")[0].splitlines())
    return {(line["partition"], line["offset"]): line for line in lines}


def test_everything_is_shown(mixed: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = objects(capsys, mixed, "--from-beginning", "--no-follow")
    assert set(found) == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)}
    assert {line["topic"] for line in found.values()} == {mixed}
    assert {line["time"] for line in found.values()} == {"2026-03-01T12:30:15.250Z"}

    quote = found[0, 0]
    assert (quote["type"], quote["key"]) == ("level1", "BTCUSDT")
    assert quote["message"]["bestBid"] == 61000.1
    assert "error" not in quote
    packed = found[0, 1]
    assert packed["headers"] == {"compressed": "true"}
    assert (packed["message"]["symbol"], packed["message"]["usdPrice"]) == ("€URO", 1.08)
    garbage = found[0, 2]
    assert garbage["error"].startswith("not JSON")
    assert garbage["raw"] == "\\xff\x00 not json"
    assert "tombstone" in found[1, 0]["error"]
    assert found[1, 1]["unknown"] == {"venueNote": "halted"}
    assert found[1, 1]["key"] is None


def test_lines_in_a_pipe(mixed: str, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = tail(capsys, mixed, "--from-beginning", "--no-follow", "--partition", "0")
    first, second, third = out.splitlines()
    assert first.split()[:4] == ["2026-03-01T12:30:15.250Z", "0:0", "BTCUSDT", "level1"]
    assert "bestBid=61000.1" in first
    assert "symbol=€URO" in second
    assert "not a message: not JSON" in third
    assert "\x1b" not in out


def test_filters_and_limit(mixed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert set(objects(capsys, mixed, "--from-beginning", "--no-follow", "--key", "BTCUSDT")) == {
        (0, 0),
        (0, 2),
    }
    assert set(objects(capsys, mixed, "--from-beginning", "--partition", "0", "--limit", "2")) == {
        (0, 0),
        (0, 1),
    }
    assert objects(capsys, mixed, "--no-follow") == {}


@pytest.mark.parametrize("beyond", ["3", "9999", "99999999999999999999"])
def test_an_offset_beyond_the_end_starts_at_the_end(
    mixed: str, capsys: pytest.CaptureFixture[str], beyond: str
) -> None:
    assert objects(capsys, mixed, "--offset", beyond, "--no-follow") == {}
    shown = objects(capsys, mixed, "--offset", "1", "--no-follow", "--limit", beyond * 5)
    assert set(shown) == {(0, 1), (0, 2), (1, 1)}


def test_a_time_before_1970_is_the_beginning(mixed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert len(objects(capsys, mixed, "--since", "0001-01-01", "--no-follow")) == 5


def test_an_unknown_topic_or_partition_is_one_clear_error(
    mixed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = mixed.replace("mixed", "mixde")
    _, err = tail(capsys, typed, code=1)
    assert err.startswith(f"error: topic {typed} does not exist")
    assert f"did you mean {mixed}" in err
    assert "topics list" in tail(capsys, unique("qqqqqqqq"), code=1)[1]
    assert "no partition 7; it has 2, from 0 to 1" in tail(capsys, mixed, "--partition", "7", code=1)[1]


def test_it_follows_until_ctrl_c(broker: LocalBroker, topic: TopicFactory) -> None:
    name = topic("followed")
    process = subprocess.Popen(
        [sys.executable, "-m", "coinstream", "tail", name, "--from-beginning"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    try:
        for number in range(3):
            producer.produce(name, f"number {number}".encode())
            assert producer.flush(20) == 0
            # It comes while the command goes on: a line is not held back until the next.
            assert f"number {number}" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=300)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (0, "", "")


def test_a_reader_that_has_enough_ends_it(broker: LocalBroker, mixed: str) -> None:
    command = f"{sys.executable} -m coinstream tail {mixed} --from-beginning | head -n 1"
    feeding = Producer({"bootstrap.servers": broker.bootstrap})
    process = subprocess.Popen(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None:
        # `tail` notices the closed pipe when it writes again.
        feeding.produce(mixed, b"more", partition=0)
        feeding.poll(0.05)
    assert feeding.flush(20) == 0
    out, err = process.communicate()
    assert len(out.splitlines()) == 1
    assert err == ""
