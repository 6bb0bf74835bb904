"""List and replay the messages that landing refused: `coinstream lake quarantine`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from coinstream.cli.dlq import moment
from coinstream.cli.output import AsJson, cell, console, print_json

if TYPE_CHECKING:
    from coinstream.lake.quarantine_replay import QuarantineReplay

app = typer.Typer(help="List and replay the messages that landing refused.", no_args_is_help=True)

_EXAMPLES = """
Examples:

coinstream lake quarantine list

coinstream lake quarantine list level1 --since 2026-11-01T00:00:00Z --limit 5

coinstream lake quarantine replay level1 --reason bid_at_most_ask --dry-run
"""

Since = Annotated[
    str | None, typer.Option("--since", help="Only messages refused at this time or later (UTC).")
]


@app.command("list", epilog=_EXAMPLES)
def show_list(
    message_type: Annotated[
        str | None, typer.Argument(help="Message type, for example level1. Default: all.")
    ] = None,
    since: Since = None,
    limit: Annotated[
        int, typer.Option("--limit", help="Maximum messages to print; all are counted.", min=1)
    ] = 20,
    json: AsJson = False,
) -> None:
    """Count refused messages by reason, and print the newest of them."""
    from coinstream.lake.quarantine import summarize_violations
    from coinstream.lake.schemas import QUARANTINE, spec_named
    from coinstream.lake.store import Lake

    chosen = spec_named(message_type).name if message_type else None
    found = summarize_violations(Lake(), QUARANTINE, chosen, moment(since, "--since"), limit)
    if json:
        print_json(found)
        return
    stored = found.entries - found.waiting
    console.print(f"{found.entries:,} refused message(s), of which {stored:,} are stored after a replay.")
    if found.reasons:
        reasons = Table("not stored", "reason", box=None)
        for reason, count in found.reasons.items():
            reasons.add_row(f"{count:,}", cell(reason))
        console.print(reasons)
    if found.newest:
        newest = Table("type", "message", "time", "reason", "stored", "value", box=None)
        for one in found.newest:
            plain = map(cell, (one.type, one.origin, one.time, one.reason))
            newest.add_row(*plain, "yes" if one.stored else "no", cell(one.value))
        console.print(newest)


@app.command("replay", epilog=_EXAMPLES)
def replay(
    message_type: Annotated[str, typer.Argument(help="Message type, for example level1.")],
    reason: Annotated[
        str | None,
        typer.Option("--reason", help="Only messages whose reason or failed rule contains this text."),
    ] = None,
    since: Since = None,
    limit: Annotated[
        int | None, typer.Option("--limit", help="Check at most this many, oldest first.", min=1)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only print the number of messages that would land.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Check refused messages again by the current rules, and land those that pass, each once.

    Messages are read from the quarantine. No topic is written, so no consumer group receives a message twice.
    """
    from coinstream.expectations.validator import ExpectationValidator
    from coinstream.lake.quarantine_replay import QuarantineFilter, replay_quarantine
    from coinstream.lake.schemas import spec_named
    from coinstream.lake.store import Lake

    lake, spec = Lake(), spec_named(message_type)
    wanted = QuarantineFilter(reason, moment(since, "--since"), limit)
    done = replay_quarantine(lake, spec, ExpectationValidator(spec, lake.settings), wanted, dry_run=dry_run)
    if json:
        print_json({"dry_run": dry_run, **vars(done)})
    else:
        _render(done, dry_run=dry_run)


def _render(done: QuarantineReplay, *, dry_run: bool) -> None:
    did = "Would land" if dry_run else "Landed"
    console.print(
        f"{did} {done.landed:,} of {done.selected:,} refused {done.table} message(s); "
        f"{done.refused:,} still break a rule, {done.present:,} were in the table, "
        f"{done.incomplete:,} are not stored whole."
    )
