"""Every bench runs from end to end and reports its figures. Tests never assert times."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from importlib import import_module
from inspect import signature
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from benchmarks import sizes
from benchmarks.common import Cost, quotes
from benchmarks.peers.bench import chart_of
from benchmarks.produce import FailedDeliveries, bare_producer, send_typed
from benchmarks.scale import growth
from benchmarks.venue_frames import VENUES
from coinstream.cli.bench import BENCHES, app
from coinstream.errors import CoinstreamError
from coinstream.feeds.exchanges import adapters
from coinstream.local_broker import LocalBroker
from coinstream.producer.config import profile_chooser
from coinstream.settings import BrokerSettings, ProducerSettings
from scripts import figures
from tests.support import unique

TINY: dict[str, dict[str, Any]] = {
    "produce": {"messages": 2000, "repetitions": 1, "partitions": 2},
    "latency": {"rate": 500, "seconds": 0.4, "warmup": 0.2, "repetitions": 1, "broker_warmup": 0.2},
    "consume": {"messages": 2000, "repetitions": 1, "partitions": 2, "peers": False},
    "feeds": {
        **{"messages": 400, "repetitions": 1, "partitions": 2, "venues": "okx", "paced_rate": 2000.0},
        **{"ccxt_rates": ""},
    },
    "land": {"messages": 2000, "repetitions": 1, "partitions": 2},
    "candles": {"rows": 2000, "repetitions": 1, "hours": 2.0, "partitions": 2},
    "scale": {
        **{"messages": 500, "repetitions": 1, "partitions": "2", "exchanges": "1,2", "symbols": "10"},
        **{"members": "1", "shards": "1"},
    },
    "peers": {"messages": 500, "repetitions": 1, "partitions": 2, "only": "confluent"},
    "soak": {"messages": 2000, "partitions": 2},
}
KEYS = {
    "produce": {"ratio", "cpu_ratio", "typed_by_hand_ratio", "same_wire_ratio", "same_wire_cpu_ratio"}
    | {"typed_untracked_ratio"},
    "latency": {"p50_ms", "p99_ms", "raw_p99_ms", "raw_cpu_us_per_message"},
    "consume": {"ratio", "raw_cpu_us_per_message"},
    "soak": {"growth"},
}
"""Figures that a report of these benches is read for."""


@pytest.fixture(autouse=True)
def _on_the_broker_of_the_tests(broker: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)


@pytest.fixture(scope="module")
def results(broker: LocalBroker) -> Mapping[str, dict[str, Any]]:
    """Return the figures of all benches from one run with few messages."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("REDPANDA_BROKERS", broker.bootstrap)
        patched.setattr(sizes, "QUICK", TINY)
        found = CliRunner().invoke(app, ["all", "--quick", "--anyway", "--json"], catch_exceptions=False)
    reported: dict[str, dict[str, Any]] = json.loads(found.stdout)
    assert reported.keys() == BENCHES.keys()
    return reported


@pytest.mark.system
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", KEYS)
def test_a_bench_reports_its_figures(results: Mapping[str, dict[str, Any]], name: str) -> None:
    result = results[name]
    assert result["messages_per_second"] > 0
    assert result["cpu_us_per_message"] > 0
    assert result["machine"]["cores"] >= 1
    assert result.keys() >= KEYS[name]
    if name != "soak":
        assert result["raw_messages_per_second"] > 0
        assert result["ratio"] > 0


def test_the_loop_by_hand_counts_failed_deliveries(broker: LocalBroker) -> None:
    settings = ProducerSettings()
    producer = bare_producer(BrokerSettings(), settings, profile_chooser(settings)("crypto-level1-x"))
    failed = FailedDeliveries()
    send_typed(producer, {"x": unique("missing")}, quotes("x", 10), msgspec.json.Encoder().encode, failed)
    producer.purge()
    assert producer.flush(30) == 0
    assert failed.count == 10


@pytest.mark.system
@pytest.mark.timeout(1800)
def test_one_run_of_all_benches_fills_every_table(results: Mapping[str, dict[str, Any]]) -> None:
    assert "--quick" in figures.table(results)
    assert figures.costs(results)
    assert figures.sizing(results)


@pytest.mark.system
@pytest.mark.timeout(1800)
def test_the_peers_bench_compares_with_the_bare_client(results: Mapping[str, dict[str, Any]]) -> None:
    for kind in ("produce", "consume", "land"):
        assert results["peers"][kind]["messages_per_second"] > 0
        assert results["peers"][kind]["raw_messages_per_second"] > 0
    assert results["peers"]["versions"]["confluent"]


@pytest.mark.system
@pytest.mark.timeout(1800)
def test_the_scale_bench_compares_with_typed_work_by_hand(results: Mapping[str, dict[str, Any]]) -> None:
    result = results["scale"]
    assert result["exchanges"].keys() == {"1", "2"}
    for found in (result["partitions"]["2"], *result["exchanges"].values(), result["symbols"]["10"]):
        assert found["cpu_us_per_message"] > 0
        assert found["raw_cpu_us_per_message"] > 0
        assert found["typed_by_hand_cpu_us_per_message"] > 0
    assert result["topics_growth"] > 0
    assert result["typed_by_hand_topics_growth"] > 0


def test_growth_is_the_median_of_the_turns_of_a_client() -> None:
    costs = {
        1: {"ours": [Cost(10, cpu, 1.0) for cpu in (1.0, 2.0, 4.0)]},
        64: {"ours": [Cost(10, cpu, 1.0) for cpu in (3.0, 3.0, 40.0)]},
    }
    assert growth(costs, "ours") == 3.0


@pytest.mark.system
@pytest.mark.timeout(1800)
def test_the_feeds_bench_measures_each_venue_and_paced_frames(results: Mapping[str, dict[str, Any]]) -> None:
    result = results["feeds"]
    assert result["venues"].keys() == {"binance", "okx"}
    for found in (result, *result["venues"].values()):
        assert found["cpu_us_per_message"] > 0
        assert found["cpu_ratio"] > 0
    assert result["paced_cpu_ratio"] > 0
    assert result["ccxt_handed_out_ratio"] is None


@pytest.mark.system
@pytest.mark.timeout(1800)
def test_the_candles_bench_builds_every_candle(results: Mapping[str, dict[str, Any]]) -> None:
    assert results["candles"]["candles"] > 0
    assert results["candles"]["cpu_us_per_row"] > 0
    assert results["candles"]["raw_cpu_us_per_row"] > 0


def test_the_chart_of_peers_has_a_bar_for_each_library_and_kind() -> None:
    rate = {"messages_per_second": 2, "raw_messages_per_second": 3, "peers": {}}
    versions = {"coinstream": "1", "confluent": "2"}
    drawn = chart_of({"produce": rate, "consume": rate, "land": rate, "versions": versions})
    bars = ET.fromstring(drawn).findall(".//{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + 3 * 2


def test_a_peer_that_is_none_is_named() -> None:
    with pytest.raises(CoinstreamError, match="kafkajs: there are confluent, quixstreams"):
        import_module(BENCHES["peers"][0]).run(only="kafkajs")


@pytest.mark.parametrize("chosen", [sizes.FULL, sizes.QUICK])
def test_sizes_are_options_of_their_benches(chosen: sizes.Sizes) -> None:
    for name, options in chosen.items():
        known = signature(import_module(BENCHES[name][0]).run).parameters
        for option, value in options.items():
            assert type(known[option].default) is type(value)


def test_a_failed_bench_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(bench: str) -> Any:
        def fail() -> dict[str, Any]:
            raise RuntimeError(f"{bench} has no disk")

        return fail if bench == "land" else lambda: {"machine": {}}

    monkeypatch.setattr(sizes, "FULL", {})
    monkeypatch.setattr("coinstream.cli.bench._load", run)
    found = CliRunner().invoke(app, ["all", "--json", "--anyway"])
    assert json.loads(found.stdout).keys() == BENCHES.keys() - {"land"}
    assert isinstance(found.exception, CoinstreamError)
    assert "bench land failed: RuntimeError: land has no disk" in str(found.exception)


def test_quick_belongs_to_all() -> None:
    found = CliRunner().invoke(app, ["produce", "--quick"])
    assert found.exit_code == 2
    assert "--quick" in found.output


def test_a_loaded_machine_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 1000.0, 1000.0))
    found = CliRunner().invoke(app, ["soak", "--messages", "2000"])
    assert isinstance(found.exception, CoinstreamError)
    assert "1000.0" in str(found.exception)
    assert "--anyway" in str(found.exception)


def test_a_loaded_machine_is_measured_all_the_same_when_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getloadavg", lambda: (1000.0, 1000.0, 1000.0))
    words = ["soak", "--anyway", "--json", "--messages", "2000", "--partitions", "2"]
    found = CliRunner().invoke(app, words, catch_exceptions=False)
    result = json.loads(found.stdout)
    assert result["messages"] == 2000
    assert result["load_before"] == 1000.0
    assert result["other_cores_busy"] >= 0
    assert "load average 1000.0" in found.stderr


@pytest.mark.parametrize("name", sorted(VENUES))
def test_the_frame_server_lists_the_instruments_of_its_frames(name: str) -> None:
    adapter, venue = adapters()[name](), VENUES[name]
    found: set[str] = set()
    for url in adapter.instruments_urls:
        body = venue.reply("/" + url.partition("://")[2].partition("/")[2])
        assert body is not None
        found |= {instrument.symbol for instrument in adapter.parse_instruments(url, body)}
    assert found == set(venue.symbols)
    assert venue.reply("/nosuch") is None
