"""Deletes runs and sensors' events of long ago: storage must not grow for ever."""

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import dagster as dg
from dagster._core.storage.event_log.schema import SqlEventLogStorageTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from pydantic import Field
from sqlalchemy import and_

from coinstream.settings import WatchSettings

_AT_ONCE: Final = 100
_ENDED: Final = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
_OBSERVED: Final = [
    dg.DagsterEventType.ASSET_OBSERVATION.value,
    dg.DagsterEventType.ASSET_CHECK_EVALUATION.value,
]


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


@dg.op(description="Deletes runs that ended, and observations made, longer ago than `keep_days`.")
def delete_old_runs(context: dg.OpExecutionContext, config: CleanupConfig) -> None:
    """Delete runs in small portions, so that the web UI is never locked out for long."""
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
    events = delete_old_events(context.instance, before)
    context.add_output_metadata(
        {"deleted_runs": deleted, "deleted_events": events, "before": before.isoformat()}
    )
    context.log.info(f"{deleted} run(s), {events} event(s) from before {before:%Y-%m-%d %H:%M} UTC deleted.")


def delete_old_events(instance: dg.DagsterInstance, before: datetime) -> int:
    """Delete what sensors observed before that time; how many events.

    They belong to no run, so deleting runs leaves them, and Dagster has no call for it. Both of its SQL
    storages keep them in this table; SQLite in two files, of which one is for reading by asset.
    """
    storage = instance.event_log_storage
    if not isinstance(storage, SqlEventLogStorage):
        return 0
    table = SqlEventLogStorageTable
    is_old = and_(
        table.c.run_id == "",
        table.c.dagster_event_type.in_(_OBSERVED),
        table.c.timestamp < before.replace(tzinfo=None),
    )
    with storage.index_connection() as index:
        found = int(index.execute(table.delete().where(is_old)).rowcount)
    with storage.run_connection("") as runless:
        runless.execute(table.delete().where(is_old))
    return found


@dg.job(
    name="clean_up_runs",
    description="Delete runs and observations of long ago from Dagster's storage.",
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
