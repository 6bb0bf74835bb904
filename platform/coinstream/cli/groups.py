"""Show the lag of consumer groups, and reset their offsets: `coinstream lag` and `coinstream groups`."""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from coinstream.cli.dlq import moment
from coinstream.cli.output import AsJson, broker, cell, console, print_json, topic_names
from coinstream.cli.rendering import Interval, asked_broker, duration, per_second, stream, styled, watch
from coinstream.consumer.reset import OffsetChange, OffsetReset, ResetTarget
from coinstream.monitoring.evaluation import PartitionStatus
from coinstream.monitoring.group_lag import (
    GroupEvaluation,
    GroupLag,
    PartitionLag,
    TimeLagSource,
    evaluate_group,
)
from coinstream.monitoring.lag import LagMonitor, lag_history
from coinstream.settings import LagSettings
from coinstream.text import printable

lag_app = typer.Typer()
app = typer.Typer(help="Change consumer groups.", no_args_is_help=True)

HIDDEN_GROUPS: Final = (
    "This user lacks the right DESCRIBE on the cluster: groups that it may not describe are not listed."
)
NO_GROUPS: Final = "No consumer group has committed anything yet."

_EXAMPLES = """
Examples:

coinstream lag   (every group, one line each)

coinstream lag prices-to-db   (its partitions, worst first)

coinstream lag --watch --json | jq .groups[].messages
"""


@lag_app.command(epilog=_EXAMPLES)
def lag(
    group: Annotated[str | None, typer.Argument(help="A consumer group. Default: every group.")] = None,
    watching: Annotated[bool, typer.Option("--watch", "-w", help="Refresh until Ctrl-C.")] = False,
    interval: Interval = 2.0,
    over: Annotated[
        float, typer.Option(min=0, help="Observe twice, this many seconds apart, to measure the trend.")
    ] = 0.0,
    every: Annotated[bool, typer.Option("--all", help="Include partitions without lag.")] = False,
    json: AsJson = False,
) -> None:
    """Show the lag of consumer groups in messages and in time, with trend and status.

    Statuses: ok; warn (lag grows); behind (lag above a threshold in messages or time); stall (members are
    alive but commit no progress); stop (no commit for a while); rewind (the offset moved back). Trend, stall
    and rewind require several observations: those of the lag sensor and of `coinstream metrics` are used,
    else use --watch or --over.
    """
    monitor = LagMonitor(asked_broker(), history=lag_history())
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
        "hidden_groups": group is None and monitor.cluster.hides_groups,
        "groups": [_group_as_dict(one, evaluate_group(one, monitor.settings)) for one in groups],
    }


def _group_as_dict(one: GroupLag, found: GroupEvaluation) -> dict[str, Any]:
    return {
        "group": one.group,
        "state": one.state,
        "members": one.members,
        "at": one.at,
        "messages": one.messages,
        "seconds": one.seconds,
        "status": found.status,
        "health": found.health,
        "reason": found.reason,
        "trend": one.trend,
        "lost": one.lost,
        "deleted_topics": one.deleted,
        "unreadable": one.unreadable,
        "partitions": [asdict(part) for part in one.partitions],
    }


def _render(monitor: LagMonitor, group: str | None, every: bool) -> RenderableType:
    groups = _look(monitor, group)
    if group is None:
        hidden = [f"[yellow]{HIDDEN_GROUPS}[/]"] if monitor.cluster.hides_groups else []
        shown = _groups_table(groups, monitor.settings) if groups else NO_GROUPS
        return Group(shown, *hidden)
    one = groups[0]
    found = evaluate_group(one, monitor.settings)
    return Group(
        _groups_table(groups, monitor.settings),
        f"{styled(found.health)}: {escape(printable(found.detail))}",
        *_partitions(one, every),
        *_remarks(one),
    )


def _groups_table(groups: list[GroupLag], settings: LagSettings) -> Table:
    table = Table("group", "state", "members", "lag", "oldest", "trend", "status", "topics", box=None)
    for one in groups:
        table.add_row(
            cell(one.group),
            one.state.lower(),
            str(one.members),
            f"{one.messages:,}",
            duration(one.seconds),
            per_second(one.trend),
            styled(evaluate_group(one, settings).status),
            ", ".join(one.topics),
        )
    return table


def _partitions(one: GroupLag, every: bool) -> list[RenderableType]:
    """Return a table of the relevant partitions, and the number of omitted ones."""
    shown = [part for part in one.partitions if every or _matters(part)]
    hidden = len(one.partitions) - len(shown)
    left_out = f"{hidden} partition(s) without lag are not shown; --all shows them."
    return [*([_partitions_table(shown)] if shown else []), *([f"[dim]{left_out}[/]"] if hidden else [])]


def _matters(part: PartitionLag) -> bool:
    """Return whether a partition has lag, lost messages, a commit beyond the log end, or a bad status."""
    beyond = part.committed is not None and part.committed > part.high
    return bool(part.messages or part.lost or beyond) or part.status is not PartitionStatus.OK


def _partitions_table(parts: list[PartitionLag]) -> Table:
    table = Table(
        "topic", "partition", "committed", "end", "lag", "oldest", "trend", "status", "remark", box=None
    )
    for part in sorted(parts, key=lambda part: -part.messages):
        table.add_row(
            part.topic,
            str(part.partition),
            "-" if part.committed is None else f"{part.committed:,}",
            f"{part.high:,}",
            f"{part.messages:,}",
            _age(part),
            per_second(part.trend),
            styled(part.status),
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


@app.callback()
def _groups() -> None:
    """Change consumer groups. `coinstream lag` lists them."""


@app.command(
    "reset",
    epilog="Examples:\n\ncoinstream groups reset strategy --to earliest --dry-run\n\n"
    "coinstream groups reset strategy --to 2026-11-01T00:00:00Z --topic crypto-level1\n\n"
    "coinstream groups reset strategy --to 1200",
)
def reset(
    group: Annotated[str, typer.Argument(help="The consumer group.")],
    to: Annotated[str, typer.Option("--to", help="earliest, latest, a time in ISO 8601, or an offset.")],
    topic: Annotated[
        list[str] | None,
        typer.Option(
            "--topic",
            "-t",
            help="Only this topic; may be repeated. Default: every topic with offsets of the group.",
            autocompletion=topic_names,
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the changes.")] = False,
    json: AsJson = False,
) -> None:
    """Set the committed offsets of a group without members.

    An offset outside a partition's range is moved to the nearest end.
    """
    target = _target(to)
    with broker() as settings:
        setting = OffsetReset(settings, group)
        changes = setting.plan(target, topic or ())
        if not dry_run:
            setting.apply(changes)
    if json:
        print_json({"group": group, "applied": not dry_run, "changes": changes})
        return
    _render_changes(changes)
    verb = "Would set" if dry_run else "Set"
    again, skipped = (sum(getattr(change, name) for change in changes) for name in ("repeated", "skipped"))
    console.print(
        f"{verb} {len(changes):,} partition(s) of group {group}: {again:,} message(s) again, "
        f"{skipped:,} skipped.",
        markup=False,
    )


def _target(text: str) -> ResetTarget:
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    if text.isascii() and text.isdecimal():
        return int(text)
    found = moment(text, "--to")
    assert found is not None
    return found


def _render_changes(changes: list[OffsetChange]) -> None:
    table = Table("topic", "partition", "before", "after", "again", "skipped", box=None)
    for change in changes:
        before = "-" if change.before is None else f"{change.before:,}"
        numbers = (change.after, change.repeated, change.skipped)
        table.add_row(
            cell(change.topic), str(change.partition), before, *(f"{number:,}" for number in numbers)
        )
    console.print(table)
