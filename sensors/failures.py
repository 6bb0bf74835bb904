"""Send one alert per failure of a run, sensor or schedule, and one when it recovers."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorState, TickStatus

from coinstream.monitoring.alerts import Alert, Change, Hysteresis, Kind
from coinstream.monitoring.group_alerts import Section, SensorCursor
from coinstream.settings import WatchSettings
from resources.alerts import AlertsResource

WATCH: Final = WatchSettings()
_AT_ONCE: Final = 200
_OVERLAP_S: Final = 120.0
_IMPLICIT_JOB: Final = "__ASSET_JOB"
"""Dagster's job name for runs of manually selected assets (the Materialize button)."""
_NAMED: Final = 3
_AT_FIRST_S: Final = 600.0
"""Period covered by the first tick, in seconds."""


class Completion(NamedTuple):
    """Completion of a run or tick. The next success with the same `subject` is its recovery."""

    subject: str
    bad: bool
    at: float
    detail: str
    page: str
    section: Section


@dg.sensor(
    name="failure_alert_sensor",
    minimum_interval_seconds=WATCH.interval_s,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Send one alert when a run, sensor or schedule fails, and one recovery when it succeeds "
    "again, per job and partition.",
)
def failure_alert_sensor(context: dg.SensorEvaluationContext, alerts: AlertsResource) -> dg.SensorResult:
    """Alert on the outcomes since the last tick."""
    # No hysteresis: each outcome is final.
    state = SensorCursor.load(context.cursor, Hysteresis(confirm=1, recover=1, memory_s=0), context.log)
    now = time.time()
    since = float(state.notes.get("until", now - _AT_FIRST_S))
    # Overlap with the last tick: ticks are listed by start time, and may fail after later ones are listed.
    found = [*_runs(context.instance, since - _OVERLAP_S), *_ticks(context.instance, since - _OVERLAP_S)]
    last: dict[str, float] = state.notes.get("last", {})
    outcomes = sorted(
        (one for one in found if one.at > last.get(one.subject, since - _OVERLAP_S)), key=lambda one: one.at
    )
    for outcome in outcomes:
        alarm, change = state.observe(outcome.subject, bad=outcome.bad, now=outcome.at)
        if change is not Change.NONE:
            state.announce(_alert(outcome, change, alarm.since or outcome.at, alerts))
    last |= {outcome.subject: outcome.at for outcome in outcomes}
    until = max([since, *last.values()])
    state.notes |= {
        "until": until,
        "last": {subject: at for subject, at in last.items() if at > until - 2 * _OVERLAP_S},
    }
    state.deliver(alerts, context.log)
    failed = [outcome.subject for outcome in outcomes if outcome.bad]
    return dg.SensorResult(
        skip_reason=f"{len(outcomes)} new end(s); failed: {', '.join(failed) or 'none'}",
        cursor=state.dump(now),
    )


def _runs(instance: dg.DagsterInstance, since: float) -> Iterator[Completion]:
    ended = dg.RunsFilter(
        statuses=[dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.SUCCESS],
        updated_after=datetime.fromtimestamp(since, UTC),
    )
    for record in instance.get_run_records(ended, limit=_AT_ONCE):
        run = record.dagster_run
        at = record.update_timestamp.timestamp()
        if at <= since:
            continue
        subject = subject_of(run)
        bad = run.status is dg.DagsterRunStatus.FAILURE
        detail = _error_of(instance, run.run_id) if bad else "it succeeded"
        yield Completion(subject, bad, at, detail, f"runs/{run.run_id}", Section.RUN)


def subject_of(run: dg.DagsterRun) -> str:
    """Return the job of a run, or its manually selected assets, with its partition."""
    subject = f"run of {run.job_name}"
    if run.job_name.startswith(_IMPLICIT_JOB):
        assets = sorted(key.to_user_string() for key in run.asset_selection or ())
        checks = sorted(
            f"{key.asset_key.to_user_string()}: {key.name}" for key in run.asset_check_selection or ()
        )
        subject = f"run of {_listed('asset', assets)}" if assets else f"run of {_listed('check', checks)}"
    partition = run.tags.get("dagster/partition")
    return f"{subject} ({partition})" if partition else subject


def _listed(kind: str, names: list[str]) -> str:
    if not names:
        return "selected assets"
    plural = "s" if len(names) > 1 else ""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{kind}{plural} {', '.join(names[:_NAMED])}{more}"


def _error_of(instance: dg.DagsterInstance, run_id: str) -> str:
    kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
    for record in instance.get_records_for_run(run_id, of_type=kinds).records:
        event = record.event_log_entry.dagster_event
        data = event.event_specific_data if event is not None else None
        error = getattr(data, "error", None)
        if error is not None:
            # The innermost cause is the actionable one.
            while error.cause is not None:
                error = error.cause
            return str(error.message).strip()[:500]
    return "no step failed: the run was stopped externally, or could not start"


def _ticks(instance: dg.DagsterInstance, since: float) -> Iterator[Completion]:
    for instigator in instance.all_instigator_state():
        for tick in instance.get_ticks(
            instigator.instigator_origin_id,
            instigator.selector_id,
            after=since,
            limit=_AT_ONCE,
            statuses=[TickStatus.FAILURE, TickStatus.SUCCESS, TickStatus.SKIPPED],
        ):
            if tick.timestamp > since:
                bad = tick.status is TickStatus.FAILURE
                detail = str(tick.error.message).strip()[:500] if tick.error is not None else "it ticks again"
                yield Completion(
                    _name(instigator), bad, tick.timestamp, detail, "automation", Section.AUTOMATION
                )


def _name(instigator: InstigatorState) -> str:
    return f"{instigator.instigator_type.value.lower()} {instigator.instigator_name}"


def _alert(outcome: Completion, change: Change, since: float, alerts: AlertsResource) -> Alert:
    where = (alerts.page(outcome.page), outcome.section.address)
    if change is Change.RAISED:
        return Alert(Kind.FAILURE, f"{outcome.subject} failed", since, outcome.detail, where)
    return Alert(Kind.RECOVERY, f"{outcome.subject} works again", since, outcome.detail, where)


defs = dg.Definitions(sensors=[failure_alert_sensor])
