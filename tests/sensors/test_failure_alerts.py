"""Failed runs and failing sensors are told once, and so is their recovery."""

import time
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickData,
    TickStatus,
)
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster_shared.error import SerializableErrorInfo

from sensors.failures import failure_alert_sensor, subject_of
from tests.monitoring.webhook import Webhook


class Config(dg.Config):
    works: bool


@dg.op
def step(config: Config) -> None:
    if not config.works:
        raise RuntimeError("the exchange is on fire")


@dg.job
def work() -> None:
    step()


def run(instance: dg.DagsterInstance, *, works: bool) -> None:
    config = {"ops": {"step": {"config": {"works": works}}}}
    work.execute_in_process(config, instance=instance, raise_on_error=False)


class Ticker:
    def __init__(self, instance: dg.DagsterInstance, resources: dict[str, Any]) -> None:
        self._instance, self._alerts = instance, resources["alerts"]
        self._cursor: str | None = None

    def __call__(self) -> None:
        context = dg.build_sensor_context(
            instance=self._instance, cursor=self._cursor, resources={"alerts": self._alerts}
        )
        result = failure_alert_sensor(context)
        assert isinstance(result, dg.SensorResult)
        self._cursor = result.cursor


def test_a_failed_run_is_told_once_and_so_is_its_recovery(
    instance: dg.DagsterInstance, resources: dict[str, Any], hook: Webhook
) -> None:
    tick = Ticker(instance, resources)
    run(instance, works=True)
    tick()
    assert hook.received == []
    for _ in range(2):
        run(instance, works=False)
        tick()
    (alert,) = hook.received
    assert alert["title"] == "[coinstream] Alert: run of work failed"
    assert "the exchange is on fire" in alert["message"]
    assert "/runs/" in alert["message"]
    run(instance, works=True)
    tick()
    tick()
    assert hook.titles()[1:] == ["[coinstream] Recovered: run of work works again"]


def test_a_sensor_that_fails_itself_is_told(
    instance: dg.DagsterInstance, resources: dict[str, Any], hook: Webhook
) -> None:
    location = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="definitions"))
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), "watcher")
    state = instance.add_instigator_state(
        InstigatorState(
            origin,
            InstigatorType.SENSOR,
            InstigatorStatus.RUNNING,
            SensorInstigatorData(min_interval=1),
        )
    )

    def ticked(status: TickStatus, message: str | None = None) -> None:
        error = SerializableErrorInfo(message, [], None) if message else None
        instance.create_tick(
            TickData(
                state.instigator_origin_id,
                "watcher",
                InstigatorType.SENSOR,
                status,
                time.time(),
                run_ids=["a"] if status is TickStatus.SUCCESS else [],
                error=error,
                selector_id=state.selector_id,
            )
        )

    tick = Ticker(instance, resources)
    ticked(TickStatus.SUCCESS)
    tick()
    ticked(TickStatus.FAILURE, "ValueError: no such feed")
    ticked(TickStatus.FAILURE, "ValueError: no such feed")
    tick()
    tick()
    (alert,) = hook.received
    assert alert["title"] == "[coinstream] Alert: sensor watcher failed"
    assert "no such feed" in alert["message"]
    ticked(TickStatus.SKIPPED)
    tick()
    assert hook.titles()[1:] == ["[coinstream] Recovered: sensor watcher works again"]


@pytest.mark.parametrize(
    ("job", "assets", "partition", "expected"),
    [
        ("run_feed", [], "simulated", "run of run_feed (simulated)"),
        ("__ASSET_JOB", ["candles"], None, "run of asset candles"),
        (
            "__ASSET_JOB_0",
            ["topics/b", "topics/a"],
            "2026-01-05",
            "run of assets topics/a, topics/b (2026-01-05)",
        ),
        ("__ASSET_JOB", list("abcde"), None, "run of assets a, b, c and 2 more"),
    ],
)
def test_a_run_is_named_by_what_it_does(
    job: str, assets: list[str], partition: str | None, expected: str
) -> None:
    run = dg.DagsterRun(
        job_name=job,
        asset_selection=frozenset(dg.AssetKey.from_user_string(name) for name in assets) or None,
        tags={"dagster/partition": partition} if partition else {},
    )
    assert subject_of(run) == expected
