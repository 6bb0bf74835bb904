"""Define the code location of the end-to-end test: the lag sensor, and a run that handles the lag."""

import dagster as dg
from confluent_kafka import Consumer

import sensors.failures
import sensors.lag
from assets.lake import HOURS
from coinstream.monitoring.lag import LagMonitor
from resources.admin import AdminResource
from resources.alerts import AlertsResource


@dg.op
def handle_the_rest(context: dg.OpExecutionContext, admin: AdminResource) -> None:
    """Consumes as the group that the sensor named, until nothing is left."""
    group = context.run_tags["coinstream/lagging_group"]
    settings = admin.settings()
    monitor = LagMonitor(settings)
    consumer = Consumer(
        {
            "bootstrap.servers": settings.brokers,
            "group.id": group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe(monitor.measure(group).topics)
    while monitor.measure(group).messages:
        if consumer.consume(1_000, 0.5):
            consumer.commit(asynchronous=False)
    consumer.close()


@dg.job(name=sensors.lag.LANDING_JOB, partitions_def=HOURS, executor_def=dg.in_process_executor)
def land_the_rest() -> None:
    """One step."""
    handle_the_rest()


defs = dg.Definitions.merge(
    sensors.lag.defs,
    sensors.failures.defs,
    dg.Definitions(jobs=[land_the_rest], resources={"admin": AdminResource(), "alerts": AlertsResource()}),
)
