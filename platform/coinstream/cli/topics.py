"""`coinstream topics`: topics as code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich.table import Table

from coinstream.cli.output import AsJson, broker, console, print_json, progress_console
from coinstream.cli.progress import progress
from coinstream.settings import HomeSettings
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import TopicSpec, catalogue
from coinstream.topics.plan import Plan, PlanAction, TopicPlan

app = typer.Typer(help="Plan, apply and list topics as code.", no_args_is_help=True)

Exchanges = Annotated[
    list[str] | None,
    typer.Option("--exchange", "-e", help="Also the topics of this exchange. May be repeated."),
]
_MARKS: Final = {
    PlanAction.CREATE: "[green]+[/]",
    PlanAction.CHANGE: "[yellow]~[/]",
    PlanAction.DRIFT: "[magenta]?[/]",
    PlanAction.CANNOT: "[red]![/]",
    PlanAction.SAME: " ",
    PlanAction.UNMANAGED: "[dim]·[/]",
}
_PENDING: Final = 3


@app.command(
    "plan",
    epilog="Examples:\n\ncoinstream topics plan -e binance -e kraken\n\n"
    "coinstream topics plan --exit-code || echo something would change",
)
def show_plan(
    exchange: Exchanges = None,
    json: AsJson = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 when something would change.")
    ] = False,
) -> None:
    """Show what would change on the cluster. Changes nothing."""
    specs = _specs(exchange)
    with broker() as settings:
        wanted = Provisioner(settings).plan(specs)
    print_json(_as_dict(wanted)) if json else _render(wanted)
    if exit_code and not wanted.is_settled:
        raise typer.Exit(_PENDING)


@app.command(
    "apply", epilog="Examples:\n\ncoinstream topics apply\n\ncoinstream topics apply -e binance --json"
)
def apply_plan(exchange: Exchanges = None, json: AsJson = False) -> None:
    """Create and change topics as planned. Never deletes, never shrinks."""
    specs = _specs(exchange)
    with broker() as settings:
        provisioner = Provisioner(settings)
        wanted = provisioner.plan(specs)
        if not json:
            _render(wanted)
        with progress("applying", quiet=json, unit="topics") as tell:
            done = 0

            def on_done(topic: TopicPlan) -> None:
                nonlocal done
                done += 1
                tell(done, len(wanted.topics), note=topic.name)
                if not json:
                    _report(topic)

            provisioner.apply(wanted, on_done)
    if json:
        print_json(_as_dict(wanted))
    elif stuck := [topic.name for topic in wanted.topics if topic.action is PlanAction.CANNOT]:
        console.print(f"[red]Not as wanted, and not to be changed in place:[/] {', '.join(stuck)}")
    elif wanted.is_settled:
        console.print("Nothing to do.")


@app.command("list", epilog="Examples:\n\ncoinstream topics list --json | jq -r .topics[].name")
def show_topics(json: AsJson = False) -> None:
    """List the topics of the cluster with their main settings."""
    with broker() as settings:
        topics = Provisioner(settings).actual()
    if json:
        print_json({"topics": topics})
        return
    table = Table("topic", "partitions", "RF", "retention ms", "retention bytes", "min ISR", box=None)
    for topic in topics:
        values = (topic.config.get(key, "") for key in _LISTED)
        table.add_row(topic.name, str(topic.partitions), str(topic.replication_factor), *values)
    console.print(table)


@app.command("delete", epilog="Examples:\n\ncoinstream topics delete crypto-prices-oldexchange --yes")
def delete_topics(
    names: Annotated[list[str], typer.Argument(help="Full names of topics, with all their messages.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete topics by name, after asking."""
    if not yes:
        typer.confirm(f"Delete {', '.join(names)} with all messages?", abort=True)
    with broker() as settings:
        Provisioner(settings).delete(names)
    console.print(f"Deleted {', '.join(names)}.")


_LISTED: Final = ("retention.ms", "retention.bytes", "min.insync.replicas")


def _specs(exchanges: list[str] | None) -> list[TopicSpec]:
    if exchanges:
        from coinstream.feeds.exchange_names import require_exchanges

        require_exchanges(exchanges)
    return catalogue(dict.fromkeys([*HomeSettings().exchange_topics, *(exchanges or [])]))


def _render(wanted: Plan) -> None:
    for text, names in _grouped(wanted.warnings).items():
        progress_console.print(f"[yellow]warning:[/] {text} ({', '.join(names)})", soft_wrap=True)
    for topic in wanted.topics:
        console.print(f"{_MARKS[topic.action]} [bold]{topic.name}[/]  {topic.action}")
        for item in topic.differences:
            before = "" if item.actual is None else f"{item.actual} -> "
            after = "(not in the catalogue)" if item.wanted is None else item.wanted
            reason = f"  [dim]{item.reason}[/]" if item.reason else ""
            console.print(f"    {_MARKS[item.action]} {item.setting}: {before}{after}{reason}")
    counts = ", ".join(f"{wanted.count(action)} {action}" for action in PlanAction)
    console.print(f"Plan: {counts}.")


def _grouped(warnings: Sequence[str]) -> dict[str, list[str]]:
    """Return the topics that share a warning: a small cluster lowers all of them alike."""
    groups: dict[str, list[str]] = {}
    for warning in warnings:
        name, _, text = warning.partition(": ")
        groups.setdefault(text, []).append(name)
    return groups


def _report(topic: TopicPlan) -> None:
    if topic.action is PlanAction.CREATE:
        console.print(f"[green]created[/] {topic.name}")
    elif topic.changes:
        console.print(f"[yellow]changed[/] {topic.name}")


def _as_dict(wanted: Plan) -> dict[str, object]:
    return {
        "settled": wanted.is_settled,
        "warnings": wanted.warnings,
        "topics": [
            {"name": topic.name, "action": topic.action, "differences": topic.differences}
            for topic in wanted.topics
        ],
    }
