"""A feed runs in parts: every symbol in exactly one, each part a feed of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import sensors.feeds
from coinstream.errors import FeedError, SettingsError
from coinstream.feeds.config import load
from coinstream.feeds.feed_specs import CcxtSpec, SimulatedSpec
from coinstream.feeds.registry import Options, entries, open_feed, shards_of
from coinstream.feeds.simulated import SimulatedExchange
from coinstream.kafka.partition_reader import PartitionReader
from coinstream.kafka.records import key_of
from coinstream.local_broker import LocalBroker
from coinstream.messages import LEVEL1
from coinstream.routing import Shard
from coinstream.settings import BrokerSettings, ConsumerSettings, WatchSettings
from tests.support import unique

COINSTREAM = [sys.executable, "-m", "coinstream"]
SYMBOLS = [f"COIN{number}/USDT" for number in range(12)]


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"feeds:\n  many: {{source: ccxt, exchange: kraken, symbols: {json.dumps(SYMBOLS)}, types: [level1], "
        "shards: 3}\n"
        f"  made: {{source: simulated, symbols: {json.dumps(SYMBOLS)}, rate: 120, shards: 2}}\n"
        "  few: {source: direct, exchange: kraken, symbols: [BTC/USD], shards: 4}\n"
    )
    monkeypatch.setenv("COINSTREAM_FEEDS", str(path))
    return path


@pytest.mark.usefixtures("many")
def test_every_symbol_is_in_exactly_one_part() -> None:
    found = entries()
    assert shards_of("many") == ("many-1-of-3", "many-2-of-3", "many-3-of-3")
    assert sorted(symbol for part in shards_of("many") for symbol in found[part].symbols) == sorted(SYMBOLS)
    assert all(isinstance(load().feeds[part], CcxtSpec) for part in shards_of("many"))
    assert "many" not in found
    assert shards_of("binance") == ("binance",)


@pytest.mark.usefixtures("many")
def test_a_part_without_symbols_is_none() -> None:
    (part,) = shards_of("few")
    assert entries()[part].symbols == ("BTC/USD",)


@pytest.mark.usefixtures("many")
def test_the_rate_of_a_simulated_feed_is_dealt_out_too() -> None:
    specs = [load().feeds[part] for part in shards_of("made")]
    assert sum(spec.rate for spec in specs if isinstance(spec, SimulatedSpec)) == pytest.approx(120)


@pytest.mark.usefixtures("many")
def test_the_whole_is_not_run_beside_its_parts() -> None:
    with pytest.raises(FeedError, match="many has shards; use one of many-1-of-3, many-2-of-3"):
        open_feed("many")


def test_the_default_must_be_one_feed(many: Path) -> None:
    many.write_text("default: many\n" + many.read_text())
    with pytest.raises(SettingsError, match="`default` names 'many', which has shards"):
        load()


@pytest.mark.usefixtures("many")
def test_the_supervisor_keeps_every_part_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors.feeds, "WATCH", WatchSettings(feeds=("binance", "many")))
    monkeypatch.setattr(sensors.feeds, "FEEDS", entries())
    assert sensors.feeds.enabled_feeds() == ("binance", *shards_of("many"))


def test_what_cannot_be_dealt_out_says_so() -> None:
    first = Options(shard=Shard(1, 2))
    with pytest.raises(SettingsError, match="source replay has no list of symbols"):
        open_feed("binance", first)
    name = next(s for s in Shard.all(50) if not s.among(["BTC/USDT", "ETH/USDT"]))
    with pytest.raises(FeedError, match=f"shard {name} gets none of its symbols"):
        open_feed("simulated", Options(shard=name))


@pytest.mark.system
def test_two_processes_share_an_exchange(
    broker: LocalBroker, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both run at once, on one exchange; each brings its own symbols and none of the other's."""
    coin, limit = unique("COIN").replace("-", "").upper(), 300
    symbols = [f"{coin}{number}/USDT" for number in range(12)]
    with SimulatedExchange(symbols, 400) as exchange:
        path = tmp_path / "mine.yaml"
        path.write_text(
            f"feeds:\n  shared: {{source: simulated, symbols: {json.dumps(symbols)}, url: '{exchange.url}', "
            "types: [level1]}\n"
        )
        monkeypatch.setenv("COINSTREAM_FEEDS", str(path))
        monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)
        subprocess.run([*COINSTREAM, "topics", "apply"], check=True, capture_output=True)
        command = [*COINSTREAM, "feed", "run", "shared", "--limit", str(limit), "--json"]
        running = [
            subprocess.Popen([*command, "--shard", str(shard)], stdout=subprocess.PIPE, text=True)
            for shard in Shard.all(2)
        ]
        reports = [json.loads(process.communicate(timeout=300)[0]) for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert [report["feed"] for report in reports] == ["shared-1-of-2", "shared-2-of-2"]
    assert {path.stem for path in (home / "leases").glob("*.lock")} == {"shared-1-of-2", "shared-2-of-2"}
    stored = symbols_stored(broker.bootstrap, coin)
    for shard, report in zip(Shard.all(2), reports, strict=True):
        assert report["messages"] == limit == sum(stored[symbol] for symbol in shard.among(symbols))


def symbols_stored(bootstrap: str, coin: str) -> Counter[str]:
    """How many quotes of each symbol of a coin lie in the general topic."""
    settings = BrokerSettings(brokers=bootstrap)
    with PartitionReader(settings, ConsumerSettings(), LEVEL1.topic) as reader:
        keys = [(key_of(record) or b"").decode() for batch in reader for record in batch]
    return Counter(key.partition("-")[2] for key in keys if f"-{coin}" in key)
