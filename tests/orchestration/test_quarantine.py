"""Test the quarantine in the web UI: assets, check, sensor and jobs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import definitions
from assets.lake import table_key
from assets.quarantine import (
    CHECK,
    TYPES,
    inspect_quarantine,
    quarantine,
    quarantine_key,
    replay_quarantine_job,
)
from coinstream.expectations.validator import ExpectationValidator
from coinstream.lake.landing import land
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.settings import BrokerSettings, HomeSettings
from resources.lake import LakeResource
from sensors.quarantine import quarantine_sensor
from tests.conftest import TopicFactory
from tests.lake.support import level1, places, send

pytestmark = pytest.mark.system

SPEC = spec_named("level1")


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    monkeypatch.setenv("COINSTREAM_HOME", str(tmp_path))
    return Lake(home=HomeSettings(home=tmp_path))


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.instance_for_test() as made:
        yield made


@pytest.fixture
def refused(lake: Lake, broker_settings: BrokerSettings, topic: TopicFactory) -> str:
    """Return a topic whose landing refused a crossed quote and one that holds a terminal escape."""
    name = topic("level1")
    send(broker_settings.brokers, name, [level1(), level1(1, bestBid=62000.5), b"\x1b]0;owned"])
    report = land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    assert (report.rows, report.refused) == (1, 2)
    return name


def rows(value: dg.MetadataValue[Any]) -> list[dict[str, Any]]:
    """Return the records of a table."""
    assert isinstance(value, dg.TableMetadataValue)
    return [dict(record.data) for record in value.records]


def run_check(instance: dg.DagsterInstance) -> dg.AssetCheckEvaluation:
    """Evaluate the check of the refused quotes."""
    wanted = dg.AssetSelection.checks_for_assets(quarantine_key("level1"))
    location = dg.Definitions(
        asset_checks=[quarantine],
        jobs=[dg.define_asset_job("check", wanted)],
        resources={"lake": LakeResource()},
    )
    result = location.resolve_job_def("check").execute_in_process(instance=instance)
    (found,) = result.get_asset_check_evaluations()
    return found


def tick(instance: dg.DagsterInstance, cursor: str | None) -> dg.SensorResult:
    """Evaluate the sensor once."""
    context = dg.build_sensor_context(instance=instance, cursor=cursor, resources={"lake": LakeResource()})
    found = quarantine_sensor(context)
    assert isinstance(found, dg.SensorResult)
    return found


def reported(result: dg.SensorResult) -> dict[str, bool]:
    """Return the check results of a tick by message type."""
    events = [one for one in result.asset_events if isinstance(one, dg.AssetCheckEvaluation)]
    return {one.asset_key.path[-1]: one.passed for one in events}


def test_a_refused_message_from_landing_to_replay(
    lake: Lake, instance: dg.DagsterInstance, refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run_check(instance)
    assert (found.check_name, found.passed, found.severity) == (CHECK, False, dg.AssetCheckSeverity.WARN)
    assert str(found.description).startswith("2 message(s) refused in 24 hours: ")
    assert "bid_at_most_ask 1" in str(found.description)

    resources = {"lake": LakeResource()}
    assert inspect_quarantine.execute_in_process(instance=instance, resources=resources).success
    for key in (quarantine_key("level1"), table_key("quarantine")):
        (record,) = instance.fetch_observations(key, limit=1).records
        observation = record.asset_observation
        assert observation is not None
        newest = rows(observation.metadata["newest"])
        assert {row["from"] for row in newest} == {f"{refused}[0]@1", f"{refused}[0]@2"}
        assert {row["reason"] for row in newest} >= {"bid_at_most_ask"}
        assert not any("\x1b" in row["value"] for row in newest)

    def replay(**config: Any) -> dict[str, int]:
        ops = {"ops": {"replay_refused": {"config": {"type": "level1", **config}}}}
        result = replay_quarantine_job.execute_in_process(
            run_config=ops, instance=instance, resources=resources
        )
        assert result.success
        (step,) = [one for one in result.all_events if one.event_type_value == "STEP_OUTPUT"]
        shown = step.step_output_data.metadata
        return {name: int(value.value) for name, value in shown.items()}  # type: ignore[arg-type]

    assert replay()["would_land"] == 0, "a dry run by default, by the present rules"
    without_rules(monkeypatch)
    assert replay()["would_land"] == 1
    assert len(places(lake, "level1")) == 1
    assert not run_check(instance).passed
    assert replay(dry_run=False, reason="bid_at_most")["landed"] == 1
    assert len(places(lake, "level1")) == 2
    stored = instance.get_latest_asset_check_evaluation_record(
        dg.AssetCheckKey(quarantine_key("level1"), CHECK)
    )
    assert stored is not None
    assert str(run_check(instance).description).startswith("1 message(s) refused")


def without_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the quotes pass that only a rule refuses, as after an expectation was corrected."""
    from coinstream.lake.validation import NoValidation

    monkeypatch.setattr("coinstream.expectations.validator.ExpectationValidator", lambda *_: NoValidation())


def test_the_sensor_reports_every_type_first_and_then_what_changed(
    lake: Lake, broker_settings: BrokerSettings, instance: dg.DagsterInstance, topic: TopicFactory
) -> None:
    first = tick(instance, None)
    assert reported(first) == dict.fromkeys(TYPES, True)
    assert reported(tick(instance, first.cursor)) == {}
    name = topic("level1")
    send(broker_settings.brokers, name, [level1(), level1(1, bestBid=62000.5)])
    land(lake, broker_settings, SPEC, ExpectationValidator(SPEC), topic=name)
    second = tick(instance, first.cursor)
    assert reported(second) == {"level1": False}
    third = tick(instance, second.cursor)
    assert reported(third) == {}
    assert len(str(third.cursor)) < 200


def test_every_type_has_an_asset_that_is_linked_to_its_table() -> None:
    graph = definitions.defs.resolve_asset_graph()
    for kind in TYPES:
        assert graph.get(quarantine_key(kind)).parent_keys == {table_key(kind)}
        assert dg.AssetCheckKey(quarantine_key(kind), CHECK) in graph.asset_check_keys
