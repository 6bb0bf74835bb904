"""`coinstream feed` in process: what it lists, refuses and reports."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from coinstream.cli.feed import app
from coinstream.errors import FeedError, SettingsError
from coinstream.feeds.config import read_feeds_file
from coinstream.feeds.registry import Options, open_feed
from coinstream.feeds.runner import run_feed
from coinstream.messages import Message
from coinstream.serialization import MessageSerializer


class Collector:
    """A client that encodes messages and keeps them, without a broker."""

    def __init__(self) -> None:
        self.encoder = MessageSerializer(strict=False)
        self.values: list[bytes] = []
        self.delivered: dict[tuple[str, int], int] = {}
        self.held_record_times: dict[str, int] = {}

    def publish(self, messages: Iterable[Message]) -> int:
        encoded = [self.encoder.encode(message)[0] for message in messages]
        self.values += encoded
        return len(encoded)

    def send(self, topic: str, key: bytes | None, value: bytes, headers: Any = None) -> Future[Any]:
        sent: Future[Any] = Future()
        sent.set_result(None)
        return sent

    def flush(self, timeout_s: float) -> None:
        return


ROOT = Path(__file__).parents[2]


def test_exchanges_are_listed_with_their_evidence() -> None:
    done = CliRunner().invoke(app, ["exchanges", "--json"])
    assert done.exit_code == 0, done.output
    venues = {venue["exchange"]: venue for venue in json.loads(done.output)}
    assert {"binance", "binanceusdm", "kraken", "krakenfutures", "okx", "bybit", "deribit"} <= venues.keys()
    assert venues["kraken"]["live"] is True
    assert venues["kraken"]["evidence"] == "recording"
    assert {"name": "ticker", "types": ["level1", "price"], "evidence": "recording"} in venues["kraken"][
        "channels"
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no/such/file.gz", "no such file"),
        ("missing.gz", "no such file"),
        (str(ROOT / "docs"), "cannot detect the exchange"),
    ],
)
def test_a_recording_that_is_not_there_is_told(name: str, said: str) -> None:
    with pytest.raises(FeedError, match=said):
        open_feed(name)


def test_an_empty_recording_is_told(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(b"")
    with pytest.raises(FeedError, match="the file contains no frame"):
        open_feed(str(empty))


def test_a_folder_without_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FeedError, match="the folder contains no file"):
        open_feed(str(tmp_path))


def test_a_key_that_is_not_set_is_an_error_at_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "feeds.yaml"
    path.write_text("feeds:\n  g:\n    source: coingecko\n    key: ${NO_SUCH_KEY_SET}\n")
    monkeypatch.setenv("COINSTREAM_FEEDS", str(path))
    with pytest.raises(FeedError, match="feed g: NO_SUCH_KEY_SET is not set"):
        open_feed("g")
    monkeypatch.setenv("NO_SUCH_KEY_SET", "secret")
    assert open_feed("g").name == "g"


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "{b: " * 100_000, "feeds: " + "[" * 50])
def test_a_deeply_nested_file_is_refused_at_once(tmp_path: Path, text: str) -> None:
    path = tmp_path / "feeds.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"nested deeper than|not YAML"):
        read_feeds_file(path)


def test_symbols_in_lower_case_are_normalized(tmp_path: Path) -> None:
    path = tmp_path / "feeds.yaml"
    path.write_text("feeds:\n  a:\n    source: direct\n    exchange: binance\n    symbols: [btc/usdt]\n")
    spec = read_feeds_file(path).feeds["a"]
    assert spec is not None
    assert spec.symbols == ("BTC/USDT",)  # type: ignore[union-attr]


def test_the_report_counts_prices_that_rounding_changed(tmp_path: Path) -> None:
    path = tmp_path / "session"
    quote = '{"u":%d,"s":"SHIBUSDT","b":"%s","B":"1","a":"%s","A":"1"}'
    lines = [
        "wss://stream.binance.com:9443/ws <-> 1723161254.0",
        "1723161254.1: " + quote % (1, "0.00000000012", "0.12345678901"),
        "1723161254.2: " + quote % (2, "0.1", "0.2"),
    ]
    path.write_text("\n".join(lines) + "\n")
    client = Collector()
    report = run_feed(open_feed(str(path), Options(speed=None)), client)
    assert report.messages == 2
    assert b'"bestBid":1.2e-10' in client.values[0]
    assert (report.rounded_prices, report.lossy_prices) == ({"level1.best_ask": 1}, {})


def test_the_status_shows_each_symbol_of_a_feed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "session"
    quote = '1723161254.%d: {"u":%d,"s":"%s","b":"1","B":"1","a":"2","A":"1"}'
    lines = [
        quote % (number, number, name) for number, name in enumerate(["BTCUSDT", "ETHUSDT", "BTCUSDT"], 1)
    ]
    path.write_text("\n".join(["wss://stream.binance.com:9443/ws <-> 1723161254.0", *lines]) + "\n")
    monkeypatch.setenv("COINSTREAM_HOME", str(tmp_path))
    feed = open_feed(str(path), Options(speed=None))
    run_feed(feed, Collector(), status_folder=tmp_path / "feed-status")
    done = CliRunner().invoke(app, ["status", "--json"])
    assert done.exit_code == 0, done.output
    [told] = json.loads(done.output)["feeds"]
    assert (told["exchange"], told["running"], told["ended"], told["messages"]) == ("binance", False, True, 3)
    assert {name: symbol["messages"] for name, symbol in told["symbols"].items()} == {
        "BTC/USDT": 2,
        "ETH/USDT": 1,
    }
    assert "BTC/USDT" in CliRunner().invoke(app, ["status"]).output
