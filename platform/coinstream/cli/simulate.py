"""Run a local exchange with faults on demand: `coinstream simulate`."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coinstream.cli import stopping
from coinstream.cli.output import AsJson, console, print_json
from coinstream.errors import FeedError

app = typer.Typer(help="Run a local exchange with real protocols and faults on demand.")

if TYPE_CHECKING:
    from coinstream.feeds.simulated import Faults, Recorded, SimulatedExchange

_EXAMPLES = """
Examples:

coinstream simulate --rate 5000 --recording binance

coinstream simulate --recording path/to/recording.gz

coinstream simulate -f gap=0.01 -f skew_ms=1200 --duration 60
"""
DEFAULT_PORT = 8765


@app.command("simulate", epilog=_EXAMPLES)
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
    if recording and Path(recording).is_file():
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
