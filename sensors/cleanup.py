"""Delete old runs and sensor events, to limit the size of Dagster's storage."""

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
    """Retention of runs and events."""

    keep_days: float = Field(
        default=WatchSettings().runs_kept_days,
        ge=0,
        description="Retention of finished runs (COINSTREAM_WATCH_RUNS_KEPT_DAYS).",
    )
    at_most_s: float = Field(
        default=600.0, gt=0, description="Stop after this many seconds; the next run continues."
    )


@dg.op(description="Delete runs and observations older than `keep_days`.")
def delete_old_runs(context: dg.OpExecutionContext, config: CleanupConfig) -> None:
    """Delete runs in small batches, so that the storage is never locked for long."""
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
    """Delete the events that sensors reported before a time; return their number.

    These events belong to no run, so they remain when runs are deleted, and Dagster has no API to delete
    them. Both of its SQL storages keep them in this table; SQLite also in a second file, for reads by asset.
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
    description="Delete old runs and observations from Dagster's storage.",
    tags={"system": "housekeeping"},
)
def clean_up_runs() -> None:
    """Run the op `delete_old_runs`."""
    delete_old_runs()


clean_up_schedule = dg.ScheduleDefinition(
    name="clean_up_schedule",
    job=clean_up_runs,
    cron_schedule="17 3 * * *",
    default_status=dg.DefaultScheduleStatus.RUNNING,
    description="Every night.",
)

defs = dg.Definitions(jobs=[clean_up_runs], schedules=[clean_up_schedule])
