"""Start, stop and inspect the local broker: `coinstream broker`."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import typer
from rich.table import Table

from coinstream.brokers import broker_home
from coinstream.cli.output import AsJson, console, print_json, progress_console
from coinstream.errors import LocalBrokerError
from coinstream.local_broker.daemon import start_detached, stop_detached
from coinstream.local_broker.status import BrokerStatus, NodeStatus, broker_status
from coinstream.settings import BrokerSettings, HomeSettings

app = typer.Typer(help="Start, stop and inspect the local broker.", no_args_is_help=True)

_NOT_RUNNING = 3


@app.command(
    epilog="Examples:\n\ncoinstream broker start\n\ncoinstream broker start --nodes 3 --port 0 --json"
)
def start(
    nodes: Annotated[int, typer.Option(help="Number of nodes: 1, or 3 with replication factor 3.")] = 1,
    port: Annotated[
        int | None, typer.Option(help="First port; 0 takes free ports.", envvar="COINSTREAM_BROKER_PORT")
    ] = None,
    json: AsJson = False,
) -> None:
    """Start the local broker and return when it is ready. It runs until `coinstream broker stop`."""
    if nodes not in (1, 3):
        raise typer.BadParameter("1 or 3", param_hint="--nodes")
    settings = HomeSettings()
    home = broker_home(settings)
    before = broker_status(home)
    if BrokerSettings().brokers:
        progress_console.print(
            f"REDPANDA_BROKERS is set, so other commands use {BrokerSettings().brokers} and not this broker",
            soft_wrap=True,
        )
    if before.running:
        _refuse_another(before, nodes)
    else:
        with progress_console.status(f"starting {nodes} node(s) of Apache Kafka …"):
            count = cast(Literal[1, 3], nodes)
            start_detached(home, count, settings.broker_port if port is None else port)
    _show(broker_status(home), json)


@app.command(epilog="Examples:\n\ncoinstream broker stop")
def stop(json: AsJson = False) -> None:
    """Stop the local broker and wait until it has exited. Its data stays."""
    home = broker_home(HomeSettings())
    stopped = stop_detached(home)
    if json:
        print_json({"stopped": stopped})
    else:
        console.print("stopped" if stopped else "the local broker is not running")


@app.command(
    epilog="Examples:\n\ncoinstream broker status\n\ncoinstream broker status --json | jq -r .bootstrap"
)
def status(json: AsJson = False) -> None:
    """Show nodes, ports, processes and data size. Exits with 3 if no broker is running."""
    found = broker_status(broker_home(HomeSettings()))
    _show(found, json)
    if not found.running:
        raise typer.Exit(_NOT_RUNNING)


def _refuse_another(running: BrokerStatus, nodes: int) -> None:
    if len(running.nodes) not in (0, nodes):
        raise LocalBrokerError(
            f"a local broker with {len(running.nodes)} node(s) runs already in {running.home}, not with "
            f"{nodes}: stop it first with `coinstream broker stop`"
        )
    progress_console.print("it is already running")


def _show(found: BrokerStatus, json: bool) -> None:
    if json:
        print_json(found)
        return
    if not found.running:
        console.print(f"the local broker is not running; {_megabytes(found.data_bytes)} in {found.home}")
        return
    state = "ready" if found.ready else "starting"
    kind = "detached" if found.detached else "stops with its owner"
    console.print(
        f"[bold]{found.bootstrap}[/]  {state}  up {_duration(found.uptime_s)}  "
        f"owner {found.owner_pid} ({kind})  {_megabytes(found.data_bytes)} in {found.home}",
        soft_wrap=True,
    )
    table = Table("node", "address", "process", "state", "memory", box=None)
    for node in found.nodes:
        table.add_row(*_row(node))
    console.print(table)
    for node in found.nodes:
        console.print(f"log of node {node.node_id}: {node.log}", soft_wrap=True)


def _row(node: NodeStatus) -> tuple[str, ...]:
    state = "[green]runs[/]" if node.alive else "[red]dead[/]"
    return str(node.node_id), node.address, str(node.pid), state, _megabytes(node.memory_bytes)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
