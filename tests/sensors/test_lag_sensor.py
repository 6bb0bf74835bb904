"""Ticks of the lag sensor on a real broker, with a real webhook."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

import definitions
from assets.topic_health import topic_metadata
from coinstream.local_broker import LocalBroker
from coinstream.monitoring.group_alerts import SensorCursor, hysteresis
from coinstream.monitoring.lag import LagMonitor
from coinstream.monitoring.topic_report import TopicStatsReader, report_topics
from coinstream.settings import BrokerSettings, LagSettings, WatchSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import LEVEL1
from resources.admin import AdminResource
from sensors.lag import LANDING_JOB, lag_sensor
from sensors.topic_events import topic_events
from tests.conftest import TopicFactory
from tests.monitoring.webhook import Webhook
from tests.sensors.conftest import UI, Commit, Fill
from tests.support import unique

Tick = Callable[[], dg.SensorResult]


@pytest.fixture
def tick(instance: dg.DagsterInstance, resources: dict[str, Any]) -> Tick:
    """Ticks on and on: each goes on with the cursor of the last one."""
    cursor: list[str | None] = [None]

    def once() -> dg.SensorResult:
        context = dg.build_sensor_context(instance=instance, cursor=cursor[0], resources=resources)
        result = lag_sensor(context)
        assert isinstance(result, dg.SensorResult)
        cursor[0] = result.cursor
        return result

    return once


def test_an_alert_a_landing_run_and_a_recovery_once_each(
    tick: Tick, topic: TopicFactory, fill: Fill, commit: Commit, hook: Webhook
) -> None:
    name, group = topic(), unique("group")
    fill(name, 30, 600)
    commit(group, name, 10)

    def mine(result: dg.SensorResult) -> list[dg.RunRequest]:
        return [one for one in result.run_requests or [] if one.tags.get("coinstream/lagging_group") == group]

    def told() -> list[dict[str, Any]]:
        return [one for one in hook.received if group in one["title"]]

    assert mine(tick()) == [], "one bad tick raises no alert"
    (request,) = mine(tick())
    assert request.run_key == f"landing/{group}/{name}/0/10-30"
    job = definitions.defs.resolve_job_def(LANDING_JOB)
    assert job.partitions_def is not None
    assert job.partitions_def.has_partition_key(str(request.partition_key)), "the job takes it"
    (alert,) = told()
    assert alert["title"] == f"[coinstream] Alert: group {group} has stopped on {name}"
    for part in (
        "20 message(s) unhandled",
        "Since:",
        f"coinstream lag {group}",
        f"{UI}/assets/topics/{name}",
    ):
        assert part in alert["message"]
    assert mine(tick()) == []
    assert len(told()) == 1
    commit(group, name, 30)
    assert len([tick(), tick(), tick()]) == 3
    recovery = told()[1:]
    assert [one["type"] for one in recovery] == ["success"]
    assert "keeps up again" in recovery[0]["title"]


def test_an_alert_that_reaches_nobody_is_sent_again(
    tick: Tick, topic: TopicFactory, fill: Fill, commit: Commit, hook: Webhook
) -> None:
    name, group = topic(), unique("group")
    fill(name, 5, 600)
    commit(group, name, 1)
    hook.status = 503
    for _ in range(3):
        tick()
    assert hook.received == []
    hook.status = 200
    tick()
    assert len([title for title in hook.titles() if group in title]) == 1


def test_the_interval_of_a_topics_events_is_a_setting(
    tick: Tick, broker_settings: BrokerSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    provisioner = Provisioner(broker_settings)
    provisioner.apply(provisioner.plan([LEVEL1]))
    now = [1_900_000_000.0]
    monkeypatch.setattr("sensors.lag.WATCH", WatchSettings(events_every_s=10))
    monkeypatch.setattr("sensors.lag.time", SimpleNamespace(time=lambda: now[0]))

    def has_event() -> bool:
        return any(event.asset_key.path[-1] == LEVEL1.name for event in tick().asset_events)

    found = [has_event()]
    for step in (9, 191):  # without changes a topic has an event every fifteen intervals
        now[0] += step
        found.append(has_event())
    assert found == [True, False, True]


def test_a_dead_broker_is_one_clear_tick(instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
    dead = resources | {"admin": AdminResource(brokers="127.0.0.1:1")}
    result = lag_sensor(dg.build_sensor_context(instance=instance, resources=dead))
    assert isinstance(result, dg.SensorResult)
    assert not result.run_requests
    assert result.skip_reason is not None
    assert "127.0.0.1:1" in str(result.skip_reason)


@pytest.mark.parametrize(
    "cursor", ["nonsense", "{}", '{"alarms": {"g": 1}, "pending": [], "notes": {}}', "z:x"]
)
def test_a_cursor_of_another_release_starts_anew(
    instance: dg.DagsterInstance, resources: dict[str, Any], hook: Webhook, cursor: str
) -> None:
    context = dg.build_sensor_context(instance=instance, resources=resources, cursor=cursor)
    result = lag_sensor(context)
    assert isinstance(result, dg.SensorResult)
    assert result.cursor is not None
    # Read as the next tick reads it: with many partitions on the broker the cursor is packed.
    kept = SensorCursor.load(result.cursor, hysteresis(WatchSettings()), logging.getLogger(__name__))
    assert kept.notes.keys() >= {"topics"}


@pytest.mark.system
def test_the_cursor_stays_small_with_a_thousand_lagging_partitions(
    tick: Tick, topic: TopicFactory, commit: Commit, broker: LocalBroker, hook: Webhook
) -> None:
    name, group = topic(partitions=1000), unique("group")
    producer = Producer({"bootstrap.servers": broker.bootstrap})
    for number in range(1000):
        producer.produce(name, b"x", partition=number)
    assert producer.flush(60) == 0
    commit(group, name, 0)
    for _ in range(3):
        result = tick()
    assert result.cursor is not None
    assert len(result.cursor) < 60_000
    admin = AdminClient({"bootstrap.servers": broker.bootstrap})
    admin.delete_topics([name])[name].result(30)


def test_at_most_one_event_a_minute_and_asset(
    broker_settings: BrokerSettings, fill: Fill, commit: Commit
) -> None:
    provisioner = Provisioner(broker_settings)
    provisioner.apply(provisioner.plan([LEVEL1]))
    fill(LEVEL1.name, 40, 600)
    commit(unique("reader"), LEVEL1.name, 15)
    monitor = LagMonitor(broker_settings)
    reports = report_topics(
        monitor.cluster.metadata(),
        TopicStatsReader(monitor.cluster).look(),
        monitor.measure_all(),
        LagSettings(),
    )
    shown = topic_metadata(reports[LEVEL1.name])
    # Other tests may have published to the topic too, and their groups may be further behind.
    assert shown["records"] - 15 <= shown["lag_messages"] <= shown["records"]
    assert shown["partitions"] == LEVEL1.partitions
    assert 590 < shown["lag_seconds"] < 3_000
    notes: dict[str, Any] = {}
    by_minute = []
    for second in range(0, 300, 30):
        growing = replace(reports[LEVEL1.name], records=40 + second)
        reports[LEVEL1.name] = growing
        events = topic_events(notes, reports, 1_000_000.0 + second, 60)
        mine = [event for event in events if event.asset_key.path[-1] == LEVEL1.name]
        assert len(mine) <= 1
        by_minute += mine
    kinds = [type(event).__name__ for event in by_minute]
    assert kinds == ["AssetCheckEvaluation"] * 2 + ["AssetObservation"] * 3
    checks = {one.check_name: one.passed for one in by_minute if isinstance(one, dg.AssetCheckEvaluation)}
    assert checks == {"lag": False, "health": True}
    json.dumps(notes)

    def told(start: int, stop: int) -> int:
        return sum(
            event.asset_key.path[-1] == LEVEL1.name
            for second in range(start, stop, 30)
            for event in topic_events(notes, reports, 1_000_000.0 + second, 60)
        )

    assert told(300, 600) == 5, "nothing moves, but a group is behind: every minute"
    reports[LEVEL1.name] = replace(reports[LEVEL1.name], readers=())
    assert told(600, 2_700) == 3, "no group is behind: one report, then the figures every fifteen minutes"
