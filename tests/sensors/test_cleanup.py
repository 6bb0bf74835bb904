"""Old runs are deleted, with their events; those that live are not."""

import dagster as dg

from sensors.cleanup import clean_up_runs
from tests.sensors.test_failure_alerts import run


def test_old_runs_go_and_living_ones_stay(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        run(instance, works=True)
    run(instance, works=False)

    @dg.job
    def living() -> None:
        """Runs for ever."""

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
