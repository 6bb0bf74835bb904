"""Test the alert rules with promtool, and the dashboard's queries with a real Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from coinstream.monitoring.exporter import exporter
from coinstream.monitoring.metrics import Metrics
from tests.monitoring.test_metrics import filled, scrape
from tests.support import wait_until

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus"
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "coinstream.json").read_text())
OURS = re.compile(r"\b(?:redpanda|coinstream)_[a-z_]+")
needs_prometheus = pytest.mark.skipif(
    not (shutil.which("promtool") and shutil.which("prometheus")),
    reason="needs Prometheus (Debian package `prometheus`)",
)


def queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def names_of(metrics: Metrics) -> set[str]:
    families = {family.name: family.type for family in metrics.registry.collect()}
    counters = {f"{name}_total" for name, kind in families.items() if kind == "counter"}
    parts = {
        f"{name}_{part}"
        for name, kind in families.items()
        if kind == "histogram"
        for part in ("bucket", "sum", "count")
    }
    return counters | parts | {name for name, kind in families.items() if kind == "gauge"}


def test_rules_and_dashboard_use_only_metrics_that_we_export() -> None:
    rules = yaml.safe_load((RULES / "rules.yml").read_text())
    expressions = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    used = {name for text in [*expressions, *queries()] for name in OURS.findall(text)}
    assert used
    assert used <= names_of(Metrics())


def test_every_alert_is_tested() -> None:
    rules = yaml.safe_load((RULES / "rules.yml").read_text())
    tests = yaml.safe_load((RULES / "rules.test.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    raised = {
        case["alertname"] for test in tests["tests"] for case in test["alert_rule_test"] if case["exp_alerts"]
    }
    assert raised == alerts


@needs_prometheus
@pytest.mark.parametrize(
    "command", [["check", "config", "prometheus.yml"], ["test", "rules", "rules.test.yml"]]
)
def test_promtool_is_content(command: list[str]) -> None:
    done = subprocess.run(["promtool", *command], cwd=RULES, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def prometheus(tmp_path: Path) -> Iterator[tuple[str, Metrics]]:
    """Yield a real Prometheus that scrapes an exporter of ours every 200 ms; its address and the metrics."""
    metrics = filled()
    log = (tmp_path / "log").open("w")
    with exporter(metrics=metrics) as running:
        config = {
            "global": {"scrape_interval": "200ms", "scrape_timeout": "200ms"},
            "scrape_configs": [
                {"job_name": "coinstream", "static_configs": [{"targets": [f"127.0.0.1:{running.port}"]}]}
            ],
        }
        (tmp_path / "prometheus.yml").write_text(yaml.safe_dump(config))
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield wait_until(lambda: address_in(tmp_path / "log"), what="Prometheus listens"), metrics
        finally:
            process.terminate()
            process.wait(120)
            log.close()


def address_in(log: Path) -> str:
    found = re.search(r'msg="Listening on" address=(127\.0\.0\.1:\d+)', log.read_text())
    return f"http://{found[1]}" if found else ""


def ask(url: str, query: str) -> list[Any]:
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query}, timeout=10).json()
    assert answer["status"] == "success", (query, answer)
    result: list[Any] = answer["data"]["result"]
    return result


@needs_prometheus
def test_every_panel_shows_something(prometheus: tuple[str, Metrics]) -> None:
    url, metrics = prometheus
    metrics.consumer_lag_seconds.replace("m", {("t", "3", "g"): 5})
    metrics.consumer_status.replace("m", {("t", "3", "g", "stop"): 1})
    for gauge in (
        metrics.cluster_brokers,
        metrics.leaderless,
        metrics.under_replicated,
        metrics.monitor_success,
    ):
        gauge.replace("m", {(): 3})

    def shown(query: str) -> list[Any]:
        # Counters must move while they are watched: a rate needs that.
        metrics.messages_produced.labels("t", "3").inc()
        metrics.messages_consumed.labels("t", "3", "g").inc()
        metrics.producer_latency.observe(4.0, "t")
        metrics.consumer_latency.observe(4.0, "t", "g")
        metrics.batch_size.observe(7, "t")
        return ask(url, query.replace("$topic", ".*").replace("$__rate_interval", "1m"))

    for query in queries():
        wait_until(lambda query=query: shown(query), what=f"an answer to {query}")  # type: ignore[misc]


@needs_prometheus
def test_what_prometheus_stores_is_what_we_export(prometheus: tuple[str, Metrics]) -> None:
    url, metrics = prometheus
    _, samples = scrape(metrics)
    for name, series in samples.items():
        stored = wait_until(lambda name=name: ask(url, name), what=name)  # type: ignore[misc]
        own = {"__name__", "job", "instance"}
        kept = {
            frozenset((key, value) for key, value in one["metric"].items() if key not in own)
            for one in stored
        }
        assert kept == {frozenset(labels.items()) for labels, _ in series}
