"""Provision and inspect topics: `coinstream topics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich.markup import escape
from rich.table import Table

from coinstream.cli.output import AsJson, broker, console, print_json, progress_console, topic_names
from coinstream.cli.rendering import duration, progress
from coinstream.errors import TopicError
from coinstream.monitoring.topic_report import TopicDescription, describe_topic
from coinstream.settings import HomeSettings
from coinstream.text import printable
from coinstream.topics.apply import Provisioner
from coinstream.topics.catalogue import TopicSpec, catalogue, topic_like
from coinstream.topics.plan import Plan, PlanAction, TopicPlan

app = typer.Typer(help="Plan, apply, create, list and describe topics.", no_args_is_help=True)

Exchanges = Annotated[
    list[str] | None,
    typer.Option("--exchange", "-e", help="Include the topics of this exchange; may be repeated."),
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
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 3 if there are changes.")] = False,
) -> None:
    """Show the changes that `apply` would make."""
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
    """Create and change topics as planned. Never deletes topics or removes partitions."""
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
        console.print(f"[red]Differs from the spec and cannot be changed in place:[/] {', '.join(stuck)}")
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


@app.command(
    "create",
    epilog="Examples:\n\ncoinstream topics create crypto-prices-again --like crypto-prices\n\n"
    "coinstream topics create scratch --partitions 6 --retention-hours 24",
)
def create_topic(
    name: Annotated[str, typer.Argument(help="Name of the new topic.")],
    like: Annotated[
        str | None, typer.Option("--like", help="Copy the settings of this topic of the catalogue.")
    ] = None,
    partitions: Annotated[int | None, typer.Option(min=1, help="Number of partitions.")] = None,
    retention_hours: Annotated[float | None, typer.Option(min=0.1, help="Retention in hours.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
    json: AsJson = False,
) -> None:
    """Create a topic with the settings of a topic of the catalogue. An existing topic is an error."""
    spec = topic_like(name, like, partitions, retention_hours)
    with broker() as settings:
        provisioner = Provisioner(settings)
        wanted = provisioner.plan([spec])
        topic = next(one for one in wanted.topics if one.name == name)
        if topic.action is not PlanAction.CREATE:
            raise TopicError(f"topic {name} exists already; `coinstream topics describe {name}` shows it")
        wanted = Plan((topic,))
        if not dry_run:
            provisioner.apply(wanted)
    if json:
        print_json(_as_dict(wanted))
    else:
        _render(wanted)
        console.print("Nothing was created: dry run." if dry_run else f"Created {name}.")


@app.command("describe", epilog="Examples:\n\ncoinstream topics describe crypto-level1 --json")
def describe(
    name: Annotated[str, typer.Argument(help="Name of the topic.", autocompletion=topic_names)],
    json: AsJson = False,
) -> None:
    """Show a topic's partitions with leader, replicas and offsets, its settings and its consumer groups."""
    with broker() as settings:
        found = describe_topic(settings, name)
    print_json(found) if json else _render_description(found)


@app.command("delete", epilog="Examples:\n\ncoinstream topics delete crypto-prices-oldexchange --yes")
def delete_topics(
    names: Annotated[list[str], typer.Argument(help="Full names of the topics to delete.")],
    yes: Annotated[bool, typer.Option("--yes", help="Skip the confirmation.")] = False,
) -> None:
    """Delete topics by name after a confirmation."""
    with broker() as settings:
        provisioner = Provisioner(settings)
        provisioner.require(names)
        if not yes:
            typer.confirm(f"Delete {', '.join(names)} with all messages?", abort=True)
        provisioner.delete(names)
    console.print(f"Deleted {', '.join(names)}.")


_LISTED: Final = ("retention.ms", "retention.bytes", "min.insync.replicas")


def _specs(exchanges: list[str] | None) -> list[TopicSpec]:
    if exchanges:
        from coinstream.feeds.registry import require_exchanges

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


def _render_description(found: TopicDescription) -> None:
    console.print(
        f"[bold]{found.name}[/]  {len(found.partitions)} partitions, {found.messages:,} messages, "
        f"newest {duration(found.newest_s) if found.newest_s is not None else 'unknown'} old"
    )
    table = Table("partition", "leader", "replicas", "in sync", "first", "next", "messages", box=None)
    for part in found.partitions:
        replicas, in_sync = (", ".join(map(str, ids)) for ids in (part.replicas, part.in_sync))
        leader = str(part.leader) if part.leader is not None else "[red]none[/]"
        first, behind = f"{part.low:,}", f"{part.high:,}"
        table.add_row(str(part.partition), leader, replicas, in_sync, first, behind, f"{part.messages:,}")
    console.print(table)
    settings = Table("setting", "value", "set on the topic", box=None)
    for name, value in sorted(found.settings.items()):
        settings.add_row(name, value, "yes" if name in found.overridden else "")
    console.print(settings)
    readers = Table("group", "lag", "oldest", box=None)
    for reader in found.groups:
        readers.add_row(escape(printable(reader.group)), f"{reader.messages:,}", duration(reader.seconds))
    console.print(readers if found.groups else "No consumer group has committed offsets of this topic.")


def _grouped(warnings: Sequence[str]) -> dict[str, list[str]]:
    """Group topics by warning, because a small cluster lowers the replication of all topics."""
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
            {
                "name": topic.name,
                "action": topic.action,
                "differences": topic.differences,
            }
            for topic in wanted.topics
        ],
    }
