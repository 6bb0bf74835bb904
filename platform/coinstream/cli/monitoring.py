"""Check health, and show or serve the state of the cluster: `coinstream health`, `top` and `metrics`."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coinstream.cli.output import AsJson, console, print_json, progress_console
from coinstream.cli.rendering import Interval, asked_broker, duration, per_second, stream, styled, watch
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
from coinstream.monitoring.monitor import Snapshot, SnapshotReader
from coinstream.text import printable

health_app = typer.Typer()
top_app = typer.Typer()
metrics_app = typer.Typer()

_HEALTH_EXAMPLES = """
Examples:

coinstream health   (producer, cluster and every group)

coinstream health prices-to-db || page-someone
"""


@health_app.command(epilog=_HEALTH_EXAMPLES)
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
        console.print(_health_table(producer, cluster, groups))
    if status is Status.UNHEALTHY or (strict and status is Status.DEGRADED):
        raise typer.Exit(1)


def _health_table(
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


_TOP_EXAMPLES = """
Examples:

coinstream top   (live; Ctrl-C exits)

coinstream top --once

coinstream top --json | jq '.topics[] | {topic, rate, lag}'
"""
_RATE_NEEDS_S = 1.0


@top_app.command(epilog=_TOP_EXAMPLES)
def top(
    interval: Interval = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print one snapshot, measured over one second, and exit.")
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Include empty topics without consumer groups.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show topics, rates, lag, latency and health, live.

    On a terminal the view is updated in place. In a pipe snapshots are appended, with --json one object per
    line.
    """
    observer = SnapshotReader(asked_broker())
    try:
        if once:
            shown = observer.look()
            if shown.cluster.brokers:
                time.sleep(_RATE_NEEDS_S)
                shown = observer.look()
            print_json(shown) if json else console.print(render_snapshot(shown, every=every))
            if not shown.cluster.brokers:
                raise typer.Exit(1)
        elif json:
            stream(observer.look, interval)
        else:
            watch(lambda: render_snapshot(observer.look(), every=every), interval)
    finally:
        observer.close()


def render_snapshot(shown: Snapshot, *, every: bool) -> RenderableType:
    """Return the rendered view."""
    at = datetime.fromtimestamp(shown.at).astimezone().strftime("%H:%M:%S")
    head = Text.from_markup(f"[bold]coinstream[/]  {at}  {styled(shown.status)}")
    return Group(
        head, _top_health_table(shown), Text(), _topics_table(shown, every), Text(), _groups_table(shown)
    )


def _top_health_table(shown: Snapshot) -> Table:
    table = Table(box=None, show_header=False)
    table.add_row("cluster", styled(shown.cluster.status), shown.cluster.detail)
    table.add_row("producer", styled(shown.producer.status), shown.producer.detail)
    return table


def _topics_table(shown: Snapshot, every: bool) -> Table:
    table = Table("topic", "health", box=None)
    for name in ("partitions", "messages/s", "records", "newest", "lag"):
        table.add_column(name, justify="right")
    table.add_column("slowest group")
    lines = [line for line in shown.topics if every or line.records or line.lag]
    for line in sorted(lines, key=lambda line: (-(line.rate or 0.0), line.topic)):
        table.add_row(
            line.topic,
            styled(line.status),
            str(line.partitions),
            "-" if line.rate is None else f"{line.rate:,.1f}",
            f"{line.records:,}",
            "-" if line.newest_s is None else duration(line.newest_s),
            f"{line.lag:,}" if line.lag else "0",
            escape(printable(line.slowest or "")),
        )
    if not lines:
        table.add_row("all topics are empty", "", "", "", "", "", "", "")
    return table


def _groups_table(shown: Snapshot) -> Table:
    table = Table("group", "health", "status", "state", box=None)
    for name in ("members", "lag", "oldest", "trend"):
        table.add_column(name, justify="right")
    for group in sorted(shown.groups, key=lambda group: -group.lag):
        table.add_row(
            escape(printable(group.group)),
            styled(group.status),
            styled(group.group_status) if group.group_status is not None else "-",
            group.state.lower(),
            str(group.members),
            f"{group.lag:,}",
            duration(group.seconds),
            per_second(shown.trends.get(group.group)),
        )
    if not shown.groups:
        table.add_row("no consumer group has committed offsets", "", "", "", "", "", "", "")
    return table


_METRICS_EXAMPLES = """
Examples:

coinstream metrics --port 9108

coinstream metrics --once   (print the metrics once)
"""


@metrics_app.command(epilog=_METRICS_EXAMPLES)
def metrics(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 9108,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 allows other machines.")
    ] = "127.0.0.1",
    interval: Interval = 15.0,
    once: Annotated[bool, typer.Option("--once", help="Measure once, print and exit.")] = False,
) -> None:
    """Serve Prometheus metrics of lag, group status, topics and brokers, measured every few seconds.

    Metrics of producers and consumers are served by their own processes.
    """
    from coinstream.monitoring.exporter import exporter
    from coinstream.monitoring.metrics import METRICS
    from coinstream.monitoring.monitor import Monitor

    monitor = Monitor(asked_broker())
    succeeded = monitor.measure()
    if once:
        from prometheus_client import generate_latest

        typer.echo(generate_latest(METRICS.registry).decode(), nl=False)
        raise typer.Exit(0 if succeeded else 1)
    with exporter(port, host) as running:
        progress_console.print(f"Metrics at {running.url}. Ctrl-C stops.")
        stop = threading.Event()
        try:
            monitor.run(stop, interval)
        except KeyboardInterrupt:
            raise typer.Exit(0) from None
