"""Every bench runs from end to end. What it measures is nobody's business here: tests never assert times."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from coinstream.cli.bench import BENCHES
from coinstream.errors import CoinstreamError
from coinstream.local_broker import LocalBroker

TINY: dict[str, dict[str, Any]] = {
    "produce": {"messages": 2000, "repetitions": 1, "partitions": 2},
    "latency": {"rate": 500, "seconds": 0.4, "warmup": 0.2, "repetitions": 1, "broker_warmup": 0.2},
    "consume": {"messages": 2000, "repetitions": 1, "partitions": 2, "peers": False},
    "soak": {"messages": 2000, "partitions": 2},
}


@pytest.fixture(autouse=True)
def _on_the_broker_of_the_tests(broker: LocalBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)


@pytest.mark.system
@pytest.mark.parametrize("name", TINY)
def test_a_bench_runs_to_its_end(name: str) -> None:
    result = import_module(BENCHES[name][0]).run(**TINY[name])
    assert result["messages_per_second"] > 0
    assert result["machine"]["cores"] >= 1
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
