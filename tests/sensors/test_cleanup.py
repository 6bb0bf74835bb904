"""Old runs are deleted, with their events; those that live are not."""

from datetime import UTC, datetime

import dagster as dg

from sensors.cleanup import clean_up_runs, delete_old_events
from tests.sensors.test_failure_alerts import run


def test_old_runs_go_and_living_ones_stay(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        run(instance, works=True)
    run(instance, works=False)

    @dg.job
    def living() -> None:
        """Run for ever."""

    kept = instance.create_run_for_job(living, status=dg.DagsterRunStatus.STARTED).run_id
    config = {"ops": {"delete_old_runs": {"config": {"keep_days": 0}}}}
    result = clean_up_runs.execute_in_process(config, instance=instance)
    assert result.success
    left = {record.run_id for record in instance.get_runs()}
    assert left == {kept, result.run_id}


def test_young_runs_stay(instance: dg.DagsterInstance) -> None:
    run(instance, works=True)
    clean_up_runs.execute_in_process(instance=instance)
    assert len(instance.get_runs()) == 2


def test_old_observations_of_sensors_go_and_young_ones_stay(instance: dg.DagsterInstance) -> None:
    def observations() -> list[object]:
        found = instance.fetch_observations(dg.AssetKey("a"), limit=10).records
        return [record.asset_observation.metadata["n"].value for record in found if record.asset_observation]

    instance.report_runless_asset_event(dg.AssetObservation("a", metadata={"n": "old"}))
    before = datetime.now(UTC)
    instance.report_runless_asset_event(dg.AssetObservation("a", metadata={"n": "young"}))
    assert delete_old_events(instance, before) == 1
    assert observations() == ["young"]
    assert delete_old_events(instance, before) == 0
