"""`coinstream simulate`: an exchange on this machine, with faults on demand."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

import typer

from coinstream.cli.output import AsJson, console, print_json
from coinstream.cli.signals import stopping

app = typer.Typer(help="A local exchange that speaks the real protocols, with faults on demand.")

if TYPE_CHECKING:
    from coinstream.feeds.simulated import Recorded

_EXAMPLES = """
Examples:

coinstream simulate --rate 5000 --recording binance

coinstream simulate -f gap=0.01 -f skew_ms=1200 --duration 60
"""
DEFAULT_PORT = 8765


@app.command("simulate", epilog=_EXAMPLES)
def simulate(
    symbol: Annotated[
        list[str] | None, typer.Option("--symbol", "-s", help="A symbol such as BTC/USDT. May be repeated.")
    ] = None,
    rate: Annotated[float, typer.Option(help="Quotes per second over all symbols.", min=0)] = 100.0,
    recording: Annotated[
        str | None,
        typer.Option(help="Quotes from this recording (a path), or from a packaged replay by its feed name."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random walk and of the dice for faults.")] = 1,
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = DEFAULT_PORT,
    fault: Annotated[
        list[str] | None,
        typer.Option("--fault", "-f", help="NAME=VALUE, as gap=0.01 or skew_ms=1200. May be repeated."),
    ] = None,
    duration: Annotated[float | None, typer.Option(help="Stop after so many seconds.", min=0)] = None,
    json: AsJson = False,
) -> None:
    """Serve Binance, Kraken v2 and Coinbase protocols on 127.0.0.1 until Ctrl-C.

    Quotes come from a seeded random walk or from a recording. Faults: gap, garble, duplicate and cross
    (fractions), delay_ms, skew_ms, freeze, html, drop, refuse, rate_limit (how many), vanished (symbols).
    They can be changed while it runs: curl 'http://127.0.0.1:8765/faults?garble=0.1'
    """
    from coinstream.feeds.simulated import Faults, SimulatedExchange
    from coinstream.feeds.simulated.exchange import DEFAULT_SYMBOLS

    faults = Faults()
    faults.update(dict(_pair(text) for text in fault or ()))
    source = _recorded(recording, symbol) if recording else None
    stop = threading.Event()
    with (
        stopping(stop),
        SimulatedExchange(
            symbol or DEFAULT_SYMBOLS, rate, source=source, seed=seed, port=port, faults=faults
        ) as exchange,
    ):
        urls = {
            name: {"rest": exchange.http_url(name), "websocket": exchange.ws_url(name)}
            for name in ("binance", "kraken", "coinbase")
        }
        if json:
            print_json(
                {"venues": urls, "control": f"{exchange.url}/faults", "symbols": exchange.market.symbols}
            )
        else:
            for name, addresses in urls.items():
                console.print(f"[bold]{name:9}[/] {addresses['rest']}  {addresses['websocket']}")
            console.print(f"{'control':9} {exchange.url}/faults   (Ctrl-C stops)")
        stop.wait(duration)


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
