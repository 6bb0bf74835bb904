"""Reset the offsets of consumer groups: `coinstream groups`."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from coinstream.cli.dlq import moment
from coinstream.cli.output import AsJson, broker, cell, console, print_json, topic_names
from coinstream.consumer.reset import OffsetChange, OffsetReset, ResetTarget

app = typer.Typer(help="Change consumer groups.", no_args_is_help=True)


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
    _render(changes)
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


def _render(changes: list[OffsetChange]) -> None:
    table = Table("topic", "partition", "before", "after", "again", "skipped", box=None)
    for change in changes:
        before = "-" if change.before is None else f"{change.before:,}"
        numbers = (change.after, change.repeated, change.skipped)
        table.add_row(
            cell(change.topic), str(change.partition), before, *(f"{number:,}" for number in numbers)
        )
    console.print(table)
