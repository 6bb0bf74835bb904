"""Test the rules of the group evaluation, and that all interfaces report its result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from typer.testing import CliRunner

import coinstream.cli.groups
import coinstream.cli.monitoring
from assets.topic_health import lag_result
from coinstream.local_broker import LocalBroker
from coinstream.monitoring.evaluation import PartitionStatus
from coinstream.monitoring.group_lag import (
    GroupLag,
    GroupStatus,
    PartitionLag,
    Status,
    TimeLagSource,
    evaluate_group,
)
from coinstream.monitoring.lag import LagMonitor, lag_history
from coinstream.monitoring.metrics import Metrics
from coinstream.monitoring.monitor import Monitor
from coinstream.monitoring.topic_report import TopicStatsReader, report_topics
from coinstream.settings import BrokerSettings, LagSettings
from sensors.lag import lag_sensor
from tests.conftest import TopicFactory
from tests.monitoring.test_metrics import scrape
from tests.monitoring.webhook import Webhook
from tests.sensors.conftest import Commit, Fill, commit, fill, hook, instance, resources
from tests.support import unique

__all__ = ["commit", "fill", "hook", "instance", "resources"]

RULES = Path(__file__).parents[2] / "deploy" / "prometheus" / "rules.yml"
OK, WARN, STOP, STALL, REWIND = (
    PartitionStatus.OK,
    PartitionStatus.WARN,
    PartitionStatus.STOP,
    PartitionStatus.STALL,
    PartitionStatus.REWIND,
)


def lag_of(group: str, messages: int, seconds: float | None, status: PartitionStatus = OK) -> GroupLag:
    part = PartitionLag(
        "t", 3, 0, 0, messages, messages, seconds, TimeLagSource.RECORD, owned=True, status=status
    )
    return GroupLag(group, "STABLE", 2, 0.0, (part,))


@pytest.mark.parametrize(
    ("group", "messages", "seconds", "partition", "expected"),
    [
        ("strategy", 0, 0.0, OK, GroupStatus.OK),
        ("strategy", 999, 299.0, OK, GroupStatus.OK),
        ("strategy", 1_000, 0.1, OK, GroupStatus.WARN),
        ("strategy", 9_999, 5_000.0, OK, GroupStatus.WARN),
        ("strategy", 10_000, 0.1, OK, GroupStatus.BEHIND),
        ("strategy", 10_000, None, OK, GroupStatus.BEHIND),
        ("strategy", 5, 300.0, OK, GroupStatus.WARN),
        ("strategy", 5, 1.0, WARN, GroupStatus.WARN),
        ("strategy", 5, 90.0, STOP, GroupStatus.STOP),
        ("strategy", 5, 90.0, STALL, GroupStatus.STALL),
        ("strategy", 50_000, 90.0, REWIND, GroupStatus.REWIND),
        ("coinstream-landing", 98_000, 290.0, OK, GroupStatus.OK),
        ("coinstream-landing", 1_000_000, 1_799.0, WARN, GroupStatus.OK),
        ("coinstream-landing", 1, 1_800.0, OK, GroupStatus.BEHIND),
        ("coinstream-landing", 1, None, OK, GroupStatus.OK),
        ("coinstream-landing", 0, None, OK, GroupStatus.OK),
        ("coinstream-landing", 7, 2_000.0, STOP, GroupStatus.STOP),
    ],
)
def test_the_rules(
    group: str, messages: int, seconds: float | None, partition: PartitionStatus, expected: GroupStatus
) -> None:
    found = evaluate_group(lag_of(group, messages, seconds, partition), LagSettings())
    assert found.status is expected
    assert found.is_alarming is (found.health is Status.UNHEALTHY)
    assert found.reason


@pytest.mark.parametrize(
    ("setting", "value", "group", "messages", "seconds", "expected"),
    [
        ("degraded_messages", 20, "strategy", 20, 0.1, GroupStatus.WARN),
        ("unhealthy_messages", 30, "strategy", 30, 0.1, GroupStatus.BEHIND),
        ("late_s", 4, "strategy", 1, 4.0, GroupStatus.WARN),
        ("batch_silence_s", 60, "coinstream-landing", 1, 60.0, GroupStatus.BEHIND),
    ],
)
def test_the_thresholds_are_settings(
    setting: str, value: int, group: str, messages: int, seconds: float, expected: GroupStatus
) -> None:
    lag = lag_of(group, messages, seconds)
    assert evaluate_group(lag, LagSettings()).status is GroupStatus.OK
    assert evaluate_group(lag, LagSettings.model_validate({setting: value})).status is expected


def test_a_renamed_landing_group_is_advanced_by_jobs_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COINSTREAM_LAKE_LANDING_GROUP", "lander")
    assert evaluate_group(lag_of("lander", 98_000, 60.0), LagSettings()).status is GroupStatus.OK


def test_the_reason_holds_no_measured_figure_and_the_detail_names_the_partition() -> None:
    found = evaluate_group(lag_of("g", 4_711, 90.0, STOP), LagSettings())
    assert "4711" not in found.reason.replace(",", "")
    assert "t/3" in found.detail
    assert found.concerns("t")
    assert not found.concerns("other")


@dataclass
class Surfaces:
    """Reads the status of one group on every surface."""

    broker: LocalBroker
    instance: dg.DagsterInstance
    resources: dict[str, object]
    hook: Webhook
    cursor: str | None = None
    requests: tuple[dg.RunRequest, ...] = ()

    def tick(self) -> None:
        context = dg.build_sensor_context(
            instance=self.instance, cursor=self.cursor, resources=dict(self.resources)
        )
        result = lag_sensor(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        self.requests += tuple(result.run_requests or ())

    def settings(self) -> BrokerSettings:
        return BrokerSettings(brokers=self.broker.bootstrap)

    def by_command_lag(self, group: str) -> tuple[str, str, str]:
        (one,) = invoke(coinstream.cli.groups.lag_app, group, "--json")["groups"]
        return one["status"], one["health"], one["reason"]

    def by_command_health(self, group: str) -> tuple[str, str, str]:
        (one,) = invoke(coinstream.cli.monitoring.health_app, group, "--json")["groups"]
        return one["group_status"], one["status"], one["reason"]

    def by_metric(self, group: str) -> tuple[str, str, str]:
        metrics = Metrics()
        Monitor(self.settings(), metrics).measure()
        _, samples = scrape(metrics)
        (labels,) = [
            has for has, _ in samples["redpanda_consumer_group_status"] if has["consumer_group"] == group
        ]
        return labels["status"], labels["health"], labels["reason"]

    def check_passes(self, group: str, topic: str) -> tuple[bool, str]:
        monitor = LagMonitor(self.settings(), history=lag_history())
        groups = [lag for lag in monitor.measure_all() if lag.group == group]
        stats = TopicStatsReader(monitor.cluster).look()
        reports = report_topics(monitor.cluster.metadata(), stats, groups, monitor.settings)
        return lag_result(reports[topic])

    def alert(self, group: str) -> str:
        return "\n".join(one["message"] for one in self.hook.received if group in one["title"])

    def tags(self, group: str) -> list[tuple[str, str, str]]:
        return [
            (one.tags["coinstream/status"], one.tags["coinstream/health"], one.tags["coinstream/reason"])
            for one in self.requests
            if one.tags["coinstream/lagging_group"] == group
        ]


def invoke(app: Any, *arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return dict(json.loads(result.stdout))


def firing(status: str, health: str) -> set[str]:
    """Return the group alerts whose expression selects a series with these labels."""
    found = set()
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            match = re.fullmatch(r"redpanda_consumer_group_status\{(.*)\} == 1", rule["expr"])
            if match is None:
                continue
            matchers = re.findall(r'(\w+)(=~|=)"([^"]*)"', match[1])
            labels = {"status": status, "health": health}
            if all(re.fullmatch(want, labels[name]) for name, _, want in matchers):
                found.add(rule["alert"])
    return found


@pytest.fixture
def surfaces(
    broker: LocalBroker,
    instance: dg.DagsterInstance,
    resources: dict[str, object],
    hook: Webhook,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Surfaces:
    monkeypatch.setenv("REDPANDA_BROKERS", broker.bootstrap)
    return Surfaces(broker, instance, resources, hook)


Situation = Callable[[str, str, Fill, Commit, Surfaces], None]


def keeps_up(group: str, topic: str, fill: Fill, commit: Commit, surfaces: Surfaces) -> None:
    fill(topic, 20, 0)
    commit(group, topic, 15)


def degraded(group: str, topic: str, fill: Fill, commit: Commit, surfaces: Surfaces) -> None:
    fill(topic, 1_500, 0)
    commit(group, topic, 10)


def behind(group: str, topic: str, fill: Fill, commit: Commit, surfaces: Surfaces) -> None:
    fill(topic, 12_000, 0)
    commit(group, topic, 100)


def stopped(group: str, topic: str, fill: Fill, commit: Commit, surfaces: Surfaces) -> None:
    fill(topic, 20, 600)
    commit(group, topic, 15)


def reset_to_the_start(group: str, topic: str, fill: Fill, commit: Commit, surfaces: Surfaces) -> None:
    fill(topic, 20, 0)
    commit(group, topic, 20)
    surfaces.tick()
    commit(group, topic, 0)


@pytest.mark.parametrize(
    ("situation", "by_jobs", "expected"),
    [
        (keeps_up, False, GroupStatus.OK),
        (degraded, False, GroupStatus.WARN),
        (behind, False, GroupStatus.BEHIND),
        (behind, True, GroupStatus.OK),
        (stopped, False, GroupStatus.STOP),
        (reset_to_the_start, False, GroupStatus.REWIND),
    ],
)
def test_every_surface_reports_the_same(
    situation: Situation,
    by_jobs: bool,
    expected: GroupStatus,
    surfaces: Surfaces,
    topic: TopicFactory,
    fill: Fill,
    commit: Commit,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name, group = topic(), unique("group")
    if by_jobs:
        monkeypatch.setenv("COINSTREAM_LAG_BATCH_GROUPS", group)
    situation(group, name, fill, commit, surfaces)
    for _ in range(2):
        surfaces.tick()
    told = surfaces.by_command_lag(group)
    status, health, reason = told
    assert status == expected
    assert health == expected.health
    assert surfaces.by_command_health(group) == told
    assert surfaces.by_metric(group) == told
    is_unhealthy = expected.health is Status.UNHEALTHY
    passed, text = surfaces.check_passes(group, name)
    assert passed is not is_unhealthy
    assert reason in text
    assert surfaces.tags(group) == ([told] if is_unhealthy else [])
    assert (f"{status}: {reason}" in surfaces.alert(group)) is is_unhealthy
    assert bool(firing(status, health)) is (expected is not GroupStatus.OK)
