"""Every panel of the dashboard has data from the product's own processes, scraped by a real Prometheus."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from coinstream.local_broker.properties import free_ports
from coinstream.monitoring.exporter import targets_folder
from coinstream.settings import BrokerSettings, HomeSettings
from tests.conftest import TopicFactory
from tests.monitoring.test_prometheus import address_in, ask, needs_prometheus, queries
from tests.support import unique, wait_until

pytestmark = [pytest.mark.system, needs_prometheus]


@contextmanager
def running(command: Sequence[str], log: Path, environment: dict[str, str]) -> Iterator[None]:
    """Run a process for the block and end it."""
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait(120)


@pytest.fixture
def prometheus(
    broker_settings: BrokerSettings, topic: TopicFactory, home: Path, tmp_path: Path
) -> Iterator[str]:
    """Run a feed, a sink, the exporter and a Prometheus that finds them; give its address."""
    (port,) = free_ports(1)
    quotes = topic("crypto-level1-dashboard")
    environment = {
        **os.environ,
        "REDPANDA_BROKERS": broker_settings.brokers,
        "COINSTREAM_HOME": str(home),
    }
    targets = targets_folder(HomeSettings(home=home))
    (tmp_path / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [
                    {"job_name": "coinstream", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
                    {
                        "job_name": "coinstream-processes",
                        "file_sd_configs": [{"files": [f"{targets}/*.json"], "refresh_interval": "1s"}],
                    },
                ],
            }
        )
    )
    product = [sys.executable, "-m", "coinstream"]
    sink = ["sink", "run", "jsonl", str(tmp_path / "quotes.jsonl"), "--topic", quotes]
    commands = {
        "feed": [sys.executable, "-c", FEED, quotes],
        "sink": [*product, *sink, "--group", unique("dashboard")],
        "metrics": [*product, "metrics", "--port", str(port), "--interval", "1"],
        "prometheus": [
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ],
    }
    with ExitStack() as stack:
        for name, command in commands.items():
            stack.enter_context(running(command, tmp_path / name, environment))
        yield wait_until(lambda: address_in(tmp_path / "prometheus"), what="Prometheus listens")


FEED = """
import sys, time
from datetime import UTC, datetime
from coinstream.client import RedpandaClient
from coinstream.messages import Level1
from coinstream.monitoring.exporter import serving_metrics
from coinstream.settings import BrokerSettings

with serving_metrics({"feed": "dashboard"}), RedpandaClient(BrokerSettings()) as client:
    while True:
        now = datetime.now(UTC)
        client.produce(sys.argv[1], [Level1("binance", "BTC/USDT", 1.0, 2.0, 1.0, 1.0, now, now)] * 20)
        time.sleep(0.1)
"""


def test_every_panel_has_data(prometheus: str) -> None:
    for query in queries():
        asked = query.replace("$topic", "crypto-level1-dashboard.*").replace("$__rate_interval", "1m")
        wait_until(
            lambda asked=asked: ask(prometheus, asked),  # type: ignore[misc]
            timeout=120,
            what=f"an answer to {asked}",
        )


def test_the_processes_are_discovered(prometheus: str) -> None:
    wait_until(lambda: len(ask(prometheus, 'up{job="coinstream-processes"} == 1')) == 2, timeout=300)
    labels = {key for one in ask(prometheus, 'up{job="coinstream-processes"}') for key in one["metric"]}
    assert {"feed", "sink", "consumer_group"} <= labels
