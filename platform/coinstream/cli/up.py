"""Run the whole platform until Ctrl-C, or only the explorer: `coinstream up` and `coinstream explore`."""

from __future__ import annotations

import os
import signal
import sys
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from coinstream.cli.output import console, progress_console
from coinstream.feeds.registry import DEFAULT, LIVE
from coinstream.settings import HomeSettings
from coinstream.stack import Stack
from coinstream.stack.paths import code_root, instance_paths, reserve_port
from coinstream.stack.process import DagsterClient, DagsterClientError, explorer_command, explorer_url

app = typer.Typer()
explore_app = typer.Typer()

RECORDED: Final = "binance"
FIRST_JOB: Final = "run_feed"
CHECK_JOB: Final = "check_topics"
LANDING_JOB: Final = "land_topics"
CANDLES_JOB: Final = "build_candles"
# Eighty seconds of the recording contain a complete minute for a candle.
_FIRST_CONFIG: Final = {"ops": {"feeds__market_data": {"config": {"duration_s": 2.5, "speed": 32.0}}}}
_FIRST_RUN_S: Final = 600.0
"""Maximum time to wait for one of the first runs: on a busy machine, the start alone takes minutes."""
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _Stop(BaseException):
    """Stop requested by the user; a BaseException, so that no handler treats it as a failure."""


@app.command(epilog="Examples:\n\ncoinstream up\n\ncoinstream up --port 3100 --open")
def up(
    port: Annotated[int, typer.Option(help="Port of the web UI, or the next free one.", min=0)] = 3000,
    feed: Annotated[
        str,
        typer.Option(help="Feed of the first run.", show_default="a recording; with FEEDS=live a live one"),
    ] = "",
    no_feed: Annotated[bool, typer.Option("--no-feed", help="Skip the first run.")] = False,
    open_browser: Annotated[bool, typer.Option("--open", help="Open the web UI in a browser.")] = False,
) -> None:
    """Start a broker (unless one is configured), create the topics, and start Dagster's web UI and daemon.

    Ctrl-C, SIGTERM or closing the terminal stops everything.
    """
    say = _elapsed()
    where = instance_paths()
    try:
        with _stoppable(), where.claimed() as claim:
            web_port = reserve_port(port)
            if port and web_port != port:
                say(f"port {port} is taken; the web UI gets {web_port}")
            platform = Stack(where, say)
            with platform.running(web_port) as web:
                claim.write_text(web.url)
                say(f"web UI at {web.url}")
                if open_browser:
                    webbrowser.open(web.url)
                has_quotes = not no_feed and _first_run(web, feed or _first_feed(), say)
                # The only line on standard output, for scripts that wait for it.
                typer.echo(f"Ready: {web.url} — Ctrl-C stops everything.")
                sys.stdout.flush()
                platform.start_pages()
                if has_quotes:
                    _fill_tables(web, say)
                platform.watch()
    except _Stop:
        _tell_if_heard("stopped")


def _tell_if_heard(text: str) -> None:
    # A closed terminal cannot be written to.
    with suppress(OSError):
        progress_console.print(text)


def _first_feed() -> str:
    # A recording provides real quotes immediately and without a network.
    return DEFAULT if os.environ.get("FEEDS", "").lower() == LIVE else RECORDED


def _first_run(web: DagsterClient, feed: str, say: Callable[[str], None]) -> bool:
    """Publish some quotes to view; return whether that succeeded."""
    try:
        run_id = web.launch(FIRST_JOB, config=_FIRST_CONFIG, tags={"dagster/partition": feed})
        say(f"first run: {feed} for some seconds, see {web.url}/runs/{run_id}")
        web.wait_run(run_id, _FIRST_RUN_S)
    except DagsterClientError as error:
        say(f"[yellow]first run:[/] {error}")
        return False
    say("first run succeeded; try `coinstream tail crypto-level1`")
    return True


def _fill_tables(web: DagsterClient, say: Callable[[str], None]) -> None:
    """Land the first quotes, build candles and check the topics in the background."""
    hour = f"{datetime.now(UTC):%Y-%m-%d-%H:00}"
    try:
        web.wait_run(web.launch(LANDING_JOB, config={}, tags={"dagster/partition": hour}), _FIRST_RUN_S)
        web.wait_run(web.launch(CANDLES_JOB, config={}, tags={}), _FIRST_RUN_S)
        # Last, because the topic of candles is filled by then.
        web.wait_run(web.launch(CHECK_JOB, config={}, tags={}), _FIRST_RUN_S)
    except DagsterClientError as error:
        say(f"[yellow]tables and candles:[/] {error}")
    else:
        say('quotes landed, candles built; try `coinstream lake sql "SELECT * FROM level1 LIMIT 5"`')


@contextmanager
def _stoppable() -> Iterator[None]:
    """End the block at the first signal, and ignore later ones while it stops."""

    def stop(number: int, frame: object) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        _tell_if_heard("stopping …")
        raise _Stop

    kept = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def _elapsed() -> Callable[[str], None]:
    started = time.monotonic()

    def say(text: str) -> None:
        progress_console.print(f"[dim]{time.monotonic() - started:5.1f} s[/]  {text}", soft_wrap=True)

    return say


@explore_app.command(epilog="Examples:\n\ncoinstream explore\n\ncoinstream explore --port 2800 --no-browser")
def explore(
    port: Annotated[int, typer.Option(help="Port, or the next free one.", min=0)] = 2718,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Do not open a browser.")] = False,
) -> None:
    """Serve the explorer in the browser until Ctrl-C, on loopback and protected by a token in its URL."""
    home = HomeSettings().home
    chosen = reserve_port(port)
    command, environment = explorer_command(
        code_root(), home, host, chosen, os.environ, open_browser=not no_browser
    )
    url = explorer_url(home, host, chosen)
    console.print(f"explorer at {url}", soft_wrap=True, markup=False)
    sys.stdout.flush()
    # The server replaces this process, so that it receives signals and sets the exit code.
    os.execve(command[0], command, environment)  # noqa: S606
