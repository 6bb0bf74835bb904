"""Every bench runs from end to end and reports its figures. Tests never assert times."""

from __future__ import annotations

import json
import os
import xml.etree.ElementTree as ET
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from coinstream.cli.bench import BENCHES, app
from coinstream.errors import CoinstreamError
from coinstream.local_broker import LocalBroker

TINY: dict[str, dict[str, Any]] = {
    "produce": {"messages": 2000, "repetitions": 1, "partitions": 2},
    "latency": {"rate": 500, "seconds": 0.4, "warmup": 0.2, "repetitions": 1, "broker_warmup": 0.2},
    "consume": {"messages": 2000, "repetitions": 1, "partitions": 2, "peers": False},
    "soak": {"messages": 2000, "partitions": 2},
}
KEYS = {
    "produce": {"ratio", "cpu_ratio", "typed_by_hand_ratio", "same_wire_ratio", "same_wire_cpu_ratio"},
    "latency": {"p50_ms", "p99_ms", "raw_p99_ms", "raw_cpu_us_per_message"},
    "consume": {"ratio", "raw_cpu_us_per_message"},
    "soak": {"growth"},
}
"""Figures that a report of these benches is read for."""


@pytest.fixture(autouse=True)
def _on_the_broker_of_the_tests(broker: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)


@pytest.mark.system
@pytest.mark.parametrize("name", TINY)
def test_a_bench_runs_to_its_end(name: str) -> None:
    result = import_module(BENCHES[name][0]).run(**TINY[name])
    assert result["messages_per_second"] > 0
    assert result["cpu_us_per_message"] > 0
    assert result["machine"]["cores"] >= 1
    assert result.keys() >= KEYS[name]
    if name != "soak":
        assert result["raw_messages_per_second"] > 0
        assert result["ratio"] > 0


@pytest.mark.system
def test_the_peers_bench_compares_with_the_bare_client_and_draws_a_chart(tmp_path: Path) -> None:
    chart = tmp_path / "peers.svg"
    result = import_module(BENCHES["peers"][0]).run(
        messages=2000, repetitions=1, partitions=2, only="confluent", chart=str(chart)
    )
    for kind in ("produce", "consume", "land"):
        assert result[kind]["messages_per_second"] > 0
        assert result[kind]["raw_messages_per_second"] > 0
    assert result["versions"]["confluent"]
    bars = ET.parse(chart).getroot().findall(".//{http://www.w3.org/2000/svg}rect")
    assert len(bars) == 1 + 3 * 2


def test_a_peer_that_is_none_is_named() -> None:
    with pytest.raises(CoinstreamError, match="kafkajs: there are confluent, quixstreams"):
        import_module(BENCHES["peers"][0]).run(only="kafkajs")


@pytest.mark.system
def test_the_scale_bench_compares_with_typed_work_by_hand() -> None:
    result = import_module(BENCHES["scale"][0]).run(
        messages=500, repetitions=1, partitions="2", exchanges="1,2", symbols="10", members="", shards=""
    )
    assert result["exchanges"].keys() == {1, 2}
    for found in (result["partitions"][2], *result["exchanges"].values(), result["symbols"][10]):
        assert found["cpu_us_per_message"] > 0
        assert found["raw_cpu_us_per_message"] > 0
        assert found["typed_by_hand_cpu_us_per_message"] > 0
    assert result["topics_growth"] > 0


@pytest.mark.system
def test_the_feeds_bench_measures_each_venue_and_paced_frames() -> None:
    result = import_module(BENCHES["feeds"][0]).run(
        messages=400,
        repetitions=1,
        partitions=2,
        paced_rate=2000,
        venues="okx",
        ccxt_rates="",
        ccxt_seconds=0,
    )
    assert result["venues"].keys() == {"binance", "okx"}
    for found in (result, *result["venues"].values()):
        assert found["cpu_us_per_message"] > 0
        assert found["cpu_ratio"] > 0
    assert result["paced_cpu_ratio"] > 0
    assert result["ccxt_handed_out_ratio"] is None


@pytest.mark.system
def test_the_candles_bench_builds_every_candle() -> None:
    result = import_module(BENCHES["candles"][0]).run(rows=2000, repetitions=1, hours=2.0, partitions=2)
    assert result["candles"] > 0
    assert result["cpu_us_per_row"] > 0
    assert result["raw_cpu_us_per_row"] > 0


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
