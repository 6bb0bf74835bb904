"""Measure consumer lag: plot it on the topics, send one alert and one recovery, start a landing run."""

import time
from datetime import UTC, datetime
from typing import Final

import dagster as dg

from assets.lake import hour_of
from coinstream.errors import CoinstreamError
from coinstream.monitoring.group_alerts import SensorCursor, hysteresis, run_key, update_alarms
from coinstream.monitoring.group_lag import GroupLag, evaluate_group
from coinstream.monitoring.lag import LagMonitor
from coinstream.monitoring.topic_report import TopicReport, report_topics
from coinstream.settings import BrokerSettings, LagSettings, WatchSettings
from resources.admin import AdminResource
from resources.alerts import AlertsResource
from sensors.clients import lag_monitor, topic_stats_reader, with_short_timeout
from sensors.topic_events import topic_events
from sensors.topic_notes import pack, unpack

LANDING_JOB: Final = "land_topics"
"""Job that lands the topics in their tables before retention deletes messages."""

WATCH: Final = WatchSettings()


@dg.sensor(
    job_name=LANDING_JOB,
    name="lag_sensor",
    minimum_interval_seconds=WATCH.interval_s,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Measure the lag of every consumer group. When one is unhealthy, send one alert and start "
    "one landing run, which stores the messages of all topics in their tables before retention deletes them. "
    "When the group is healthy again, send one recovery. Writes at most one event per minute and topic.",
)
def lag_sensor(
    context: dg.SensorEvaluationContext, admin: AdminResource, alerts: AlertsResource
) -> dg.SensorResult:
    """Measure the lag, report events and alert on changes."""
    state = SensorCursor.load(context.cursor, hysteresis(WATCH), context.log)
    try:
        brokers = with_short_timeout(admin, WATCH)
        monitor = lag_monitor(brokers)
        groups, reports = _measure(monitor, brokers)
    except CoinstreamError as error:
        state.deliver(alerts, context.log)
        return dg.SensorResult(
            skip_reason=f"The lag cannot be measured: {error}", cursor=state.dump(time.time())
        )
    raised = update_alarms(state, groups, monitor.settings, alerts.page("").rstrip("/"))
    state.deliver(alerts, context.log)
    now = time.time()
    notes = unpack(state.notes.get("topics", {}))
    events = topic_events(notes, reports, now, WATCH.events_every_s)
    state.notes["topics"] = pack(notes)
    requests = [_landing_run(lag, monitor.settings) for lag in raised]
    return dg.SensorResult(
        run_requests=requests,
        skip_reason=None if requests else _summary(groups, monitor.settings),
        asset_events=events,
        cursor=state.dump(now),
    )


def _measure(monitor: LagMonitor, brokers: BrokerSettings) -> tuple[list[GroupLag], dict[str, TopicReport]]:
    """Return the lag of every group and the report of every topic."""
    groups = monitor.measure_all()
    stats = topic_stats_reader(brokers).look()
    return groups, report_topics(monitor.cluster.metadata(), stats, groups, monitor.settings)


def _landing_run(lag: GroupLag, settings: LagSettings) -> dg.RunRequest:
    found = evaluate_group(lag, settings)
    return dg.RunRequest(
        run_key=run_key(lag),
        # Any partition lands all new messages; the current hour shows the run on its page.
        partition_key=hour_of(datetime.now(UTC)),
        tags={
            "coinstream/lagging_group": lag.group,
            "coinstream/lag_messages": str(lag.messages),
            "coinstream/status": str(found.status),
            "coinstream/health": str(found.health),
            "coinstream/reason": found.reason,
        },
    )


def _summary(groups: list[GroupLag], settings: LagSettings) -> str:
    found = [(lag, evaluate_group(lag, settings)) for lag in groups if lag.messages]
    behind = [f"{lag.group} {lag.messages:,} ({one.status}: {one.reason})" for lag, one in found]
    return f"{len(groups)} group(s) measured; " + (f"lag: {', '.join(behind)}" if behind else "no lag")


defs = dg.Definitions(sensors=[lag_sensor])
