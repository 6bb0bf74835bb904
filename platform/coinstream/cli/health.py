"""Check the health of producer, consumer groups and cluster: `coinstream health`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from coinstream.cli.output import AsJson, console, print_json
from coinstream.cli.rendering import asked_broker, duration, styled
from coinstream.monitoring.group_lag import Status, worst_status
from coinstream.monitoring.health import (
    ClusterHealth,
    GroupHealth,
    ProducerHealth,
    check_cluster,
    check_group,
    check_producer,
)
from coinstream.monitoring.lag import LagMonitor, lag_history
from coinstream.text import printable

app = typer.Typer()

_EXAMPLES = """
Examples:

coinstream health   (producer, cluster and every group)

coinstream health prices-to-db || page-someone
"""


@app.command(epilog=_EXAMPLES)
def health(
    group: Annotated[str | None, typer.Argument(help="Only this consumer group.")] = None,
    strict: Annotated[bool, typer.Option(help="Count degraded as unhealthy.")] = False,
    json: AsJson = False,
) -> None:
    """Check the health of the producer, of consumer groups and of the cluster.

    Exits with 0 if everything is healthy or degraded, with 1 if something is unhealthy.
    """
    brokers = asked_broker()
    monitor = LagMonitor(brokers, history=lag_history())
    producer = cluster = None
    if group is None:
        with ThreadPoolExecutor() as together:
            probing = together.submit(check_producer, brokers)
            cluster = check_cluster(monitor.cluster)
            # The row of the cluster reports that it does not answer, so groups cannot be listed.
            names = monitor.cluster.group_names() if cluster.brokers else []
            groups = [check_group(monitor, name) for name in names]
            producer = probing.result()
    else:
        groups = [check_group(monitor, group)]
    statuses = [one.status for one in (producer, cluster, *groups) if one is not None]
    status = worst_status(statuses)
    if json:
        told = {"status": status, "producer": producer, "cluster": cluster, "groups": groups}
        print_json(told)
    else:
        console.print(_table(producer, cluster, groups))
    if status is Status.UNHEALTHY or (strict and status is Status.DEGRADED):
        raise typer.Exit(1)


def _table(
    producer: ProducerHealth | None, cluster: ClusterHealth | None, groups: list[GroupHealth]
) -> Table:
    table = Table("what", "health", "lag", "oldest", "detail", box=None)
    if cluster is not None:
        table.add_row("cluster", styled(cluster.status), "", "", cluster.detail)
    if producer is not None:
        table.add_row("producer", styled(producer.status), "", "", producer.detail)
    for one in groups:
        oldest = "" if one.error else duration(one.seconds)
        name, detail = escape(printable(one.group)), escape(printable(one.detail))
        table.add_row(f"group {name}", styled(one.status), f"{one.lag:,}", oldest, detail)
    return table
