"""Provide the `coinstream` command. The module of a command is imported when the command is used.

Also protects standard output, and converts Ctrl-C and SIGTERM to a graceful stop.
"""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final, NoReturn

import typer

from coinstream import __version__
from coinstream.errors import CoinstreamError
from coinstream.text import printable

GROUPS: Final[dict[str, str]] = {
    "up": "Start broker, topics, Dagster and its web UI; Ctrl-C stops them.",
    "broker": "Start, stop and inspect the local broker.",
    "topics": "Plan, apply and list topics as code.",
    "feed": "Run, list and inspect feeds.",
    "simulate": "Run a local exchange with real protocols and faults on demand.",
    "tail": "Print the decoded messages of a topic.",
    "lag": "Show the lag of consumer groups in messages and time.",
    "health": "Check the health of producer, consumer groups and cluster.",
    "explore": "Browse messages, quotes, candles, lag and dead letters.",
    "top": "Show a live view of topics, rates, lag, latency and health.",
    "metrics": "Serve Prometheus metrics.",
    "dlq": "List, show and replay dead letters.",
    "groups": "Reset the offsets of consumer groups.",
    "replay": "Copy a range of a topic to another topic.",
    "sink": "Write topics to files, databases and object stores.",
    "lake": "Land topics in tables and query them.",
    "bench": "Run benchmarks against the bare client.",
}
"""Every command with its one-line help."""

_SHARED_MODULES: Final[dict[str, tuple[str, str]]] = {
    "broker": ("local", "broker_app"),
    "explore": ("up", "explore_app"),
    "health": ("monitoring", "health_app"),
    "lag": ("groups", "lag_app"),
    "metrics": ("monitoring", "metrics_app"),
    "replay": ("sink", "replay_app"),
    "simulate": ("local", "simulate_app"),
    "top": ("monitoring", "top_app"),
}
"""Module and name of the `typer.Typer` of a command; otherwise it is `app` in the module of its name."""

_EXAMPLES: Final = """
Examples:

coinstream up   (run everything on this machine until Ctrl-C)

coinstream feed run binance --duration 30   (publish 30 seconds of quotes)

coinstream tail crypto-level1 --from-beginning --limit 5   (print five of them)

coinstream topics plan   (show pending changes of topics)

REDPANDA_BROKERS=host:9092 coinstream health   (check another cluster)

Exit codes: 0 success; 1 error or unhealthy; 2 invalid usage; 3 requested state not reached
(`broker status`: no broker is running; `topics plan --exit-code`: there are changes); 130 interrupted;
141 broken pipe.
"""


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with one of the documented exit codes."""
    words = sys.argv[1:] if arguments is None else arguments
    protect_output()
    chosen = words or _half_typed()
    try:
        if _command_in(chosen) is not None:
            # Imported late: the settings take longer to load than `coinstream --help` takes to print.
            from coinstream.settings import load_plugins

            load_plugins()
        root_app(chosen)(args=words, prog_name="coinstream")
    except CoinstreamError as error:
        typer.echo(f"error: {printable(str(error), keep_newlines=True)}", err=True)
        sys.exit(1)


def _half_typed() -> list[str]:
    """Return the words typed so far if bash, zsh, fish or PowerShell requests a completion."""
    return (os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")).split()[1:]


def _command_in(words: Collection[str]) -> str | None:
    """Return the first word that is not an option."""
    return next((word for word in words if not word.startswith("-")), None)


def root_app(words: Collection[str] = ()) -> typer.Typer:
    """Return the whole command line; only the first command named in `words` is imported, `*` imports all."""
    root = typer.Typer(
        help="Crypto market data on Redpanda: feeds, topics, lag, health, tables.",
        epilog=_EXAMPLES,
        no_args_is_help=True,
        # Plain help, because importing rich takes longer than everything else.
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    root.callback()(_options)
    chosen = _command_in(words)
    for name, text in GROUPS.items():
        _add(root, name, text, load=chosen in (name, "*"))
    return root


def _add(root: typer.Typer, name: str, text: str, *, load: bool) -> None:
    if not load:
        # A placeholder, because importing all commands would slow down every start.
        root.command(name, help=text)(lambda: None)
        return
    app = app_of(name)
    commands = app.registered_commands
    is_single = len(commands) == 1 and not app.registered_groups and app.registered_callback is None
    if is_single and commands[0].callback is not None:
        only = commands[0]
        root.command(
            name,
            help=only.help,
            # A complete line; the first sentence of the help would be truncated.
            short_help=text,
            epilog=only.epilog,
            context_settings=only.context_settings,
        )(commands[0].callback)
    else:
        root.add_typer(app, name=name)


def app_of(name: str) -> typer.Typer:
    """Import and return the application of a command."""
    module, attribute = _SHARED_MODULES.get(name, (name, "app"))
    app: typer.Typer = getattr(importlib.import_module(f"coinstream.cli.{module}"), attribute)
    return app


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"coinstream {__version__}")
        raise typer.Exit


def _options(
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Crypto market data on Redpanda: feeds, topics, lag, health, tables."""


BROKEN_PIPE_CODE: Final = 141
"""128 plus the number of SIGPIPE, the usual exit code after a broken pipe."""


class PipeOutput(io.TextIOWrapper):
    """Standard output that exits the command, with cleanup, when its reader has closed the pipe."""

    def write(self, text: str, /) -> int:
        """Write text.

        Raises:
            SystemExit: the reader has closed the pipe.
        """
        try:
            return super().write(text)
        except BrokenPipeError:
            _end()

    def flush(self) -> None:
        """Flush written text.

        Raises:
            SystemExit: the reader has closed the pipe.
        """
        try:
            super().flush()
        except BrokenPipeError:
            _end()


def protect_output() -> None:
    """Replace standard output, and escape characters that its encoding does not support."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        old = sys.stdout
        options: dict[str, Any] = {
            "encoding": old.encoding,
            "errors": "backslashreplace",
            "line_buffering": old.line_buffering,
            "write_through": old.write_through,
        }
        sys.stdout = PipeOutput(old.detach(), **options)


def _end() -> NoReturn:
    # Discard buffered output, also when the interpreter flushes at exit.
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
    raise SystemExit(BROKEN_PIPE_CODE)


@contextmanager
def stopping(stop: threading.Event) -> Iterator[None]:
    """Set `stop` at the first Ctrl-C or SIGTERM; let the second one interrupt."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, _: object) -> None:
        stop.set()
        signal.signal(number, kept[signal.Signals(number)])

    for number in kept:
        signal.signal(number, ask)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
