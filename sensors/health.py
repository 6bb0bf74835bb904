"""Check the health of cluster and producer, and send one alert and one recovery per incident."""

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import dagster as dg

from coinstream.errors import CoinstreamError
from coinstream.monitoring.alerts import Alert, Change, Kind
from coinstream.monitoring.group_alerts import Section, SensorCursor, hysteresis
from coinstream.monitoring.group_lag import Status
from coinstream.monitoring.health import ClusterHealth, ProducerHealth, check_cluster
from coinstream.settings import WatchSettings
from resources.admin import AdminResource
from resources.alerts import AlertsResource
from sensors.clients import lag_monitor, producer_probe, with_short_timeout

WATCH: Final = WatchSettings()
_REMEDY: Final = ("coinstream health", "coinstream broker status")
_SECTIONS: Final = {"cluster": Section.CLUSTER, "producer": Section.PRODUCER}

Healths = dict[str, tuple[Status, str]]


@dg.sensor(
    name="health_sensor",
    minimum_interval_seconds=WATCH.interval_s,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Send a message to `health-check` and request the health of the brokers. Send one alert when "
    "the producer or the cluster is unhealthy, and one recovery when it is healthy again.",
)
def health_sensor(
    context: dg.SensorEvaluationContext, admin: AdminResource, alerts: AlertsResource
) -> dg.SensorResult:
    """Probe the producer and the cluster, and alert on changes."""
    state = SensorCursor.load(context.cursor, hysteresis(WATCH), context.log)
    healths, now = _probe(admin), time.time()
    for subject, (status, detail) in healths.items():
        alarm, change = state.observe(subject, bad=status is Status.UNHEALTHY, now=now)
        if change is not Change.NONE:
            state.announce(_alert(subject, change, alarm.since or now, detail, alerts))
    state.deliver(alerts, context.log)
    summary = "; ".join(f"{subject} {status}: {detail}" for subject, (status, detail) in healths.items())
    return dg.SensorResult(skip_reason=summary, cursor=state.dump(now))


def _probe(admin: AdminResource) -> Healths:
    try:
        brokers = with_short_timeout(admin, WATCH)
        # Concurrently, so that an unreachable broker costs one timeout instead of two.
        with ThreadPoolExecutor(2) as together:
            cluster = together.submit(check_cluster, lag_monitor(brokers).cluster)
            producer = together.submit(producer_probe(brokers).check)
            return _healths(cluster.result(), producer.result())
    except CoinstreamError as error:
        return {"cluster": (Status.UNHEALTHY, str(error)), "producer": (Status.UNHEALTHY, "no broker")}


def _healths(cluster: ClusterHealth, producer: ProducerHealth) -> Healths:
    return {"cluster": (cluster.status, cluster.detail), "producer": (producer.status, producer.detail)}


def _alert(subject: str, change: Change, since: float, detail: str, alerts: AlertsResource) -> Alert:
    page = alerts.page("sensors")
    if change is Change.RAISED:
        where = (*_REMEDY, _SECTIONS[subject].address, page)
        return Alert(Kind.FAILURE, f"the {subject} is unhealthy", since, detail, where)
    lasted = f"it lasted {time.time() - since:.0f} s; now {detail}"
    return Alert(Kind.RECOVERY, f"the {subject} has recovered", since, lasted, (_REMEDY[0], page))


defs = dg.Definitions(sensors=[health_sensor])
