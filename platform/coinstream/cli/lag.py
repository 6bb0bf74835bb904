"""`coinstream lag`: what groups have not handled yet."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.table import Table

from coinstream.cli.output import AsJson, console, print_json
from coinstream.cli.rendering import Interval, asked_broker, duration, per_second, stream, styled, watch
from coinstream.monitoring.lag import GroupLag, LagMonitor, PartitionLag, TimeLagSource

app = typer.Typer()

_EXAMPLES = """
Examples:

coinstream lag   (every group, one line each)

coinstream lag prices-to-db   (its partitions, worst first)

coinstream lag --watch --json | jq .groups[].messages
"""


@app.command(epilog=_EXAMPLES)
def lag(
    group: Annotated[str | None, typer.Argument(help="A consumer group. Without: every group.")] = None,
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Look again and again.")] = False,
    interval: Interval = 2.0,
    over: Annotated[
        float, typer.Option(min=0, help="Look twice, so many seconds apart, to tell the trend.")
    ] = 0.0,
    every: Annotated[bool, typer.Option("--all", help="Partitions without lag too.")] = False,
    json: AsJson = False,
) -> None:
    """Lag of consumer groups in messages and in time, with trend and verdict.

    Verdicts: ok; warn (moves, but falls behind); stall (lives, but stands still); stop (nobody has
    handled anything for a while); rewind (went back). Trend, warn, stall and rewind need more than
    one look: --watch or --over.
    """
    monitor = LagMonitor(asked_broker())
    if over and not watching:
        _look(monitor, group)
        time.sleep(over)
    if not watching:
        print_json(_as_dict(monitor, group)) if json else console.print(_render(monitor, group, every))
    elif json:
        stream(lambda: _as_dict(monitor, group), interval)
    else:
        watch(lambda: _render(monitor, group, every), interval)


def _look(monitor: LagMonitor, group: str | None) -> list[GroupLag]:
    return [monitor.measure(group)] if group is not None else monitor.measure_all()


def _as_dict(monitor: LagMonitor, group: str | None) -> dict[str, Any]:
    started = time.perf_counter()
    groups = _look(monitor, group)
    return {
        "measured_in_ms": round((time.perf_counter() - started) * 1000, 1),
        "groups": [
            {
                "group": one.group,
                "state": one.state,
                "members": one.members,
                "at": one.at,
                "messages": one.messages,
                "seconds": one.seconds,
                "verdict": one.verdict,
                "trend": one.trend,
                "lost": one.lost,
                "deleted_topics": one.deleted,
                "unreadable": one.unreadable,
                "partitions": [asdict(part) for part in one.partitions],
            }
            for one in groups
        ],
    }


def _render(monitor: LagMonitor, group: str | None, every: bool) -> RenderableType:
    groups = _look(monitor, group)
    if group is None:
        return _groups_table(groups) if groups else "No consumer group has committed anything yet."
    return Group(_groups_table(groups), _partitions_table(groups[0], every), *_remarks(groups[0]))


def _groups_table(groups: list[GroupLag]) -> Table:
    table = Table("group", "state", "members", "lag", "oldest", "trend", "verdict", "topics", box=None)
    for one in groups:
        table.add_row(
            one.group,
            one.state.lower(),
            str(one.members),
            f"{one.messages:,}",
            duration(one.seconds),
            per_second(one.trend),
            styled(one.verdict),
            ", ".join(one.topics),
        )
    return table


def _partitions_table(one: GroupLag, every: bool) -> Table:
    table = Table(
        "topic", "partition", "committed", "end", "lag", "oldest", "trend", "verdict", "remark", box=None
    )
    shown = [part for part in one.partitions if every or part.messages or part.remark]
    for part in sorted(shown, key=lambda part: -part.messages):
        table.add_row(
            part.topic,
            str(part.partition),
            "-" if part.committed is None else f"{part.committed:,}",
            f"{part.high:,}",
            f"{part.messages:,}",
            _age(part),
            per_second(part.trend),
            styled(part.verdict),
            part.remark,
        )
    return table


def _age(part: PartitionLag) -> str:
    about = "~" if part.seconds_from is TimeLagSource.GROWTH else ""
    return about + duration(part.seconds)


def _remarks(one: GroupLag) -> list[str]:
    remarks = []
    if one.deleted:
        remarks.append(f"[dim]Deleted topics with commits of this group: {', '.join(one.deleted)}[/]")
    if one.unreadable:
        remarks.append(f"[yellow]No leader, so unknown: {', '.join(one.unreadable)}[/]")
    return remarks
