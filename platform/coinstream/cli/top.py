"""Show a live view of topics, groups and health: `coinstream top`."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from coinstream.cli.output import AsJson, console, print_json
from coinstream.cli.rendering import Interval, asked_broker, duration, per_second, stream, styled, watch
from coinstream.monitoring.monitor import Snapshot, SnapshotReader
from coinstream.text import printable

app = typer.Typer()

_EXAMPLES = """
Examples:

coinstream top   (live; Ctrl-C exits)

coinstream top --once

coinstream top --json | jq '.topics[] | {topic, rate, lag}'
"""
_RATE_NEEDS_S = 1.0


@app.command(epilog=_EXAMPLES)
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
            print_json(shown) if json else console.print(render(shown, every=every))
            if not shown.cluster.brokers:
                raise typer.Exit(1)
        elif json:
            stream(observer.look, interval)
        else:
            watch(lambda: render(observer.look(), every=every), interval)
    finally:
        observer.close()


def render(shown: Snapshot, *, every: bool) -> RenderableType:
    """Return the rendered view."""
    at = datetime.fromtimestamp(shown.at).astimezone().strftime("%H:%M:%S")
    head = Text.from_markup(f"[bold]coinstream[/]  {at}  {styled(shown.status)}")
    return Group(
        head, _health_table(shown), Text(), _topics_table(shown, every), Text(), _groups_table(shown)
    )


def _health_table(shown: Snapshot) -> Table:
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
