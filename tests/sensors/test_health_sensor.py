"""Ticks of the health sensor: the broker goes, people are told; it comes back, they are told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from coinstream.local_broker import LocalBroker
from coinstream.settings import WatchSettings
from resources.admin import AdminResource
from sensors.health import health_sensor
from tests.monitoring.webhook import Webhook
from tests.support import wait_until


@pytest.mark.system
def test_a_broker_that_goes_and_comes_back(
    instance: dg.DagsterInstance, resources: dict[str, Any], hook: Webhook, tmp_path: Path
) -> None:
    cursor: str | None = None

    def tick() -> str:
        nonlocal cursor
        context = dg.build_sensor_context(instance=instance, cursor=cursor, resources=resources)
        result = health_sensor(context)
        assert isinstance(result, dg.SensorResult)
        cursor = result.cursor
        return str(result.skip_reason)

    broker = LocalBroker(tmp_path, port=0)
    broker.start()
    port = int(broker.bootstrap.rpartition(":")[2])
    resources["admin"] = AdminResource(brokers=broker.bootstrap)
    try:
        wait_until(lambda: "unhealthy" not in tick(), what="all is well")
        broker.stop()
        for _ in range(WatchSettings().confirm):
            assert "unhealthy" in tick()
        told = sorted(hook.titles())
        assert [title.split(": ")[1] for title in told] == [
            "the cluster is unhealthy",
            "the producer is unhealthy",
        ]
        broker = LocalBroker(tmp_path, port=port)
        broker.start()
        wait_until(lambda: tick() and len(hook.received) >= 4, what="the recovery is told")
        assert {one["type"] for one in hook.received[2:4]} == {"success"}
    finally:
        broker.stop()


def test_no_broker_at_all_is_unhealthy_and_no_crash(
    instance: dg.DagsterInstance, resources: dict[str, Any], home: Path
) -> None:
    nowhere = resources | {"admin": AdminResource(brokers="")}
    result = health_sensor(dg.build_sensor_context(instance=instance, resources=nowhere))
    assert isinstance(result, dg.SensorResult)
    assert "coinstream up" in str(result.skip_reason)
