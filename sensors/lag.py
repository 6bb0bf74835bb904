"""Watches consumer lag: plots it on the topics, alerts once, launches the catch-up, tells of the recovery."""

import logging
import time
from datetime import UTC, datetime
from typing import Any, Final

import dagster as dg

from assets.lake import hour_of
from coinstream.errors import CoinstreamError
from coinstream.monitoring.lag import GroupLag, LagMonitor
from coinstream.monitoring.topic_report import TopicReport, report_topics
from coinstream.monitoring.windows import GroupWindows
from coinstream.settings import BrokerSettings, WatchSettings
from resources.admin import AdminResource
from resources.alerts import AlertsResource
from sensors.clients import lag_monitor, topic_watch, with_short_timeout
from sensors.lag_alerts import run_key, watch_groups
from sensors.state import SensorCursor, hysteresis
from sensors.topic_events import topic_events

CATCH_UP_JOB: Final = "land_topics"
"""Lands what the topics hold in their tables: nothing unhandled is lost when retention deletes it."""

WATCH: Final = WatchSettings()

log = logging.getLogger(__name__)


@dg.sensor(
    job_name=CATCH_UP_JOB,
    name="lag_sensor",
    minimum_interval_seconds=WATCH.interval_s,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Measures the lag of every consumer group. When one falls behind, stops or goes back: one "
    "alert and one catch-up run; when it keeps up again: one message of recovery. Writes at most one "
    "event a minute on each topic, which its plots show.",
)
def lag_sensor(
    context: dg.SensorEvaluationContext, admin: AdminResource, alerts: AlertsResource
) -> dg.SensorResult:
    """One tick: measure, evaluate, report."""
    state = SensorCursor.load(context.cursor, hysteresis(WATCH), context.log)
    try:
        brokers = with_short_timeout(admin, WATCH)
        monitor = lag_monitor(brokers)
        groups, reports = _measure(state.notes, monitor, brokers)
    except CoinstreamError as error:
        state.deliver(alerts, context.log)
        return dg.SensorResult(
            skip_reason=f"The lag cannot be measured: {error}", cursor=state.dump(time.time())
        )
    raised = watch_groups(state, groups, monitor.settings, alerts.page("").rstrip("/"))
    state.deliver(alerts, context.log)
    now = time.time()
    events = topic_events(
        state.notes.setdefault("topics", {}), reports, monitor.settings, now, WATCH.events_every_s
    )
    requests = [_catch_up(lag) for lag in raised]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else _summary(groups),
        asset_events=events,
        cursor=state.dump(now),
    )


def _measure(
    notes: dict[str, Any], monitor: LagMonitor, brokers: BrokerSettings
) -> tuple[list[GroupLag], dict[str, TopicReport]]:
    """Lag of every group, report of every topic; windows of verdicts come from the cursor and go back."""
    _restore(notes.get("windows", {}), monitor)
    groups = monitor.measure_all()
    monitor.forget(monitor.windows.keys() - {lag.group for lag in groups})
    notes["windows"] = {group: windows.dump() for group, windows in monitor.windows.items()}
    stats = topic_watch(brokers).look()
    return groups, report_topics(monitor.cluster.metadata(), stats, groups)


def _restore(dumped: dict[str, Any], monitor: LagMonitor) -> None:
    monitor.windows.clear()
    for group, windows in dumped.items():
        try:
            monitor.windows[group] = GroupWindows.load(windows, monitor.rules(group))
        except (ValueError, KeyError, TypeError):
            log.warning("the history of group %s is of another release: starting anew", group)


def _catch_up(lag: GroupLag) -> dg.RunRequest:
    return dg.RunRequest(
        run_key=run_key(lag),
        # Any hour lands all that is new; it shows on the page of the one that is under way.
        partition_key=hour_of(datetime.now(UTC)),
        tags={
            "coinstream/catch_up": lag.group,
            "coinstream/lag_messages": str(lag.messages),
            "coinstream/verdict": str(lag.verdict),
        },
    )


def _summary(groups: list[GroupLag]) -> str:
    behind = [f"{lag.group} {lag.messages:,} ({lag.verdict})" for lag in groups if lag.messages]
    return f"{len(groups)} group(s) measured; " + (f"behind: {', '.join(behind)}" if behind else "no lag")


defs = dg.Definitions(sensors=[lag_sensor])
