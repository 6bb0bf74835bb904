"""Run the local broker and a simulated exchange: `coinstream broker` and `coinstream simulate`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from rich.table import Table

from coinstream.cli import stopping
from coinstream.cli.output import AsJson, console, print_json, progress_console
from coinstream.errors import FeedError, LocalBrokerError
from coinstream.local_broker import broker_home
from coinstream.local_broker.daemon import start_detached, stop_detached
from coinstream.local_broker.status import BrokerStatus, NodeStatus, broker_status
from coinstream.settings import BrokerSettings, HomeSettings

if TYPE_CHECKING:
    from coinstream.feeds.simulated import Faults, Recorded, SimulatedExchange

broker_app = typer.Typer(help="Start, stop and inspect the local broker.", no_args_is_help=True)
simulate_app = typer.Typer(help="Run a local exchange with real protocols and faults on demand.")

_NOT_RUNNING = 3


@broker_app.command(
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


@broker_app.command(epilog="Examples:\n\ncoinstream broker stop")
def stop(json: AsJson = False) -> None:
    """Stop the local broker and wait until it has exited. Its data stays."""
    home = broker_home(HomeSettings())
    stopped = stop_detached(home)
    if json:
        print_json({"stopped": stopped})
    else:
        console.print("stopped" if stopped else "the local broker is not running")


@broker_app.command(
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


_EXAMPLES = """
Examples:

coinstream simulate --rate 5000 --recording binance

coinstream simulate --recording path/to/recording.gz

coinstream simulate -f gap=0.01 -f skew_ms=1200 --duration 60
"""
DEFAULT_PORT = 8765


@simulate_app.command("simulate", epilog=_EXAMPLES)
def simulate(
    symbol: Annotated[
        list[str] | None, typer.Option("--symbol", "-s", help="A symbol such as BTC/USDT; may be repeated.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Quotes per second over all symbols.", min=0)] = 100.0,
    recording: Annotated[
        str | None,
        typer.Option(
            help="A recorded session (a path), whose frames are played to the client that subscribes; "
            "or a replay feed by its name, whose quotes the simulated venues serve."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random walk and of random faults.")] = 1,
    port: Annotated[
        int, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = DEFAULT_PORT,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault", "-f", help="NAME=VALUE, for example gap=0.01 or skew_ms=1200; may be repeated."
        ),
    ] = None,
    duration: Annotated[float | None, typer.Option(help="Stop after this many seconds.", min=0)] = None,
    exchange: Annotated[
        str | None, typer.Option(help="Exchange of a recording, if it cannot be detected.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Serve Binance, Kraken v2 and Coinbase protocols on 127.0.0.1 until Ctrl-C.

    Quotes come from a seeded random walk or from a replay feed. A recorded session is served in the protocol
    of its exchange: each subscription is checked against the session, then its frames are sent. The exit
    code is 1 if a subscription was refused.

    Faults: gap, garble, duplicate and cross (fractions), delay_ms, skew_ms, freeze, html, drop, refuse,
    rate_limit (counts), vanished (symbols). Change them at runtime with
    curl 'http://127.0.0.1:8765/faults?garble=0.1'
    """
    from coinstream.feeds.simulated import Faults, SimulatedExchange
    from coinstream.feeds.simulated.exchange import DEFAULT_SYMBOLS

    (faults := Faults()).update(dict(map(_pair, fault or ())))
    if recording and Path(recording).exists():
        _serve_recording(Path(recording), exchange, port, faults, seed, duration, json=json)
        return
    source = _recorded(recording, symbol) if recording else None
    symbols = symbol or DEFAULT_SYMBOLS
    _serve(
        SimulatedExchange(symbols, rate, source=source, seed=seed, port=port, faults=faults), duration, json
    )


def _serve(exchange: SimulatedExchange, duration: float | None, json: bool) -> None:
    stop = threading.Event()
    with stopping(stop), exchange as venue:
        urls = {
            name: {"rest": venue.http_url(name), "websocket": venue.ws_url(name)}
            for name in ("binance", "kraken", "coinbase")
        }
        if json:
            print_json({"venues": urls, "control": f"{venue.url}/faults", "symbols": venue.market.symbols})
        else:
            for name, addresses in urls.items():
                console.print(f"[bold]{name:9}[/] {addresses['rest']}  {addresses['websocket']}")
            console.print(f"{'control':9} {venue.url}/faults   (Ctrl-C stops)")
        stop.wait(duration)


def _serve_recording(
    path: Path,
    exchange: str | None,
    port: int,
    faults: Faults,
    seed: int,
    duration: float | None,
    *,
    json: bool,
) -> None:
    from coinstream.feeds.simulated.recording_server import RecordingServer

    stop = threading.Event()
    with (
        stopping(stop),
        RecordingServer(path, exchange, port=port, faults=faults, seed=seed) as server,
    ):
        addresses = {"exchange": server.exchange, "websocket": server.ws_url, "rest": server.rest_url}
        if json:
            print_json({**addresses, "frames": len(server.frames), "symbols": server.symbols})
        else:
            console.print(f"[bold]{server.exchange}[/]  {server.ws_url}  {server.rest_url}")
            console.print(f"{len(server.frames)} frames of {', '.join(server.symbols)}   (Ctrl-C stops)")
        stop.wait(duration)
    if not json:
        console.print(f"{server.sent} frames sent, {len(server.subscriptions)} requests received")
    if server.refused:
        raise FeedError("; ".join(dict.fromkeys(server.refused)))


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--fault")
    return name, value


def _recorded(name: str, symbols: list[str] | None) -> Recorded:
    from coinstream.feeds.registry import Options, open_feed
    from coinstream.feeds.simulated import Recorded
    from coinstream.messages import Level1

    feed = open_feed(name, Options(speed=None, rebase=False))
    found = symbols or sorted(
        {
            message.symbol
            for batch in feed.messages(threading.Event())
            for message in batch
            if isinstance(message, Level1)
        }
    )
    return Recorded(found, feed)
