"""Deletes runs that ended long ago, with their events: storage must not grow for ever."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from pydantic import Field

from coinstream.settings import WatchSettings

_AT_ONCE: Final = 100
_ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


class CleanupConfig(dg.Config):
    """What is old."""

    keep_days: float = Field(
        default=WatchSettings().runs_kept_days,
        ge=0,
        description="Runs that ended longer ago are deleted (COINSTREAM_WATCH_RUNS_KEPT_DAYS).",
    )
    at_most_s: float = Field(
        default=600.0, gt=0, description="Stop after so many seconds; the next run goes on."
    )


@dg.op(description="Deletes runs that ended longer ago than `keep_days`, oldest first.")
def delete_old_runs(context: dg.OpExecutionContext, config: CleanupConfig) -> None:
    """Delete in small portions, so that the web UI is never locked out for long."""
    before = datetime.now(UTC) - timedelta(days=config.keep_days)
    deadline, deleted = time.monotonic() + config.at_most_s, 0
    old = dg.RunsFilter(statuses=_ENDED, created_before=before)
    while time.monotonic() < deadline:
        records = context.instance.get_run_records(old, limit=_AT_ONCE, ascending=True)
        if not records:
            break
        for record in records:
            context.instance.delete_run(record.dagster_run.run_id)
        deleted += len(records)
    context.add_output_metadata({"deleted_runs": deleted, "before": before.isoformat()})
    context.log.info(f"{deleted} run(s) from before {before:%Y-%m-%d %H:%M} UTC deleted.")


@dg.job(
    name="clean_up_runs",
    description="Delete the runs of long ago, with their logs and events in Dagster's storage.",
    tags={"system": "housekeeping"},
)
def clean_up_runs() -> None:
    """One step."""
    delete_old_runs()


clean_up_schedule = dg.ScheduleDefinition(
    name="clean_up_schedule",
    job=clean_up_runs,
    cron_schedule="17 3 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every night.",
)

defs = dg.Definitions(jobs=[clean_up_runs], schedules=[clean_up_schedule])
