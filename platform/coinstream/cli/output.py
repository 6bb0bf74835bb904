"""What all commands share: JSON, tables, a broker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Final

import msgspec
import typer
from rich.console import Console
from rich.text import Text

from coinstream.settings import BrokerSettings, HomeSettings
from coinstream.text import printable, printable_json, readable

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]

_PIPE_WIDTH: Final = 200
"""Columns of a table where no terminal tells its width; 80 would cut names and paths."""


def _console(*, stderr: bool) -> Console:
    found = Console(stderr=stderr, highlight=False)
    return found if found.is_terminal else Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH)


console: Final = _console(stderr=False)
progress_console: Final = _console(stderr=True)
"""Progress and remarks go to standard error, so that standard output stays a clean pipe."""


def print_json(value: Any) -> None:
    """Print a value as one line of JSON; dataclasses and msgspec Structs become objects."""
    typer.echo(printable_json(msgspec.json.encode(value, enc_hook=str).decode()))


def cell(content: object) -> Text:
    """Return untrusted content for a table: no terminal escapes, and no markup of rich."""
    return Text(readable(content) if isinstance(content, bytes) else printable(str(content)))


@contextmanager
def broker() -> Iterator[BrokerSettings]:
    """Yield the configured broker, else this machine's local one, started for as long as the command runs."""
    from coinstream.brokers import open_broker

    with open_broker(BrokerSettings(), HomeSettings()) as settings:
        yield settings
