"""Provide JSON output, tables, common options, completion of names and a broker to all commands."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer
from rich.console import Console, ConsoleDimensions, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from coinstream.settings import BrokerSettings, HomeSettings
from coinstream.text import printable, printable_json, readable

if TYPE_CHECKING:
    from coinstream.lake.engines import Engine
    from coinstream.lake.store import Lake
    from coinstream.settings import BrokerSettings

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")]

_PIPE_WIDTH: Final = 200
"""Width of tables without a terminal; 80 columns would truncate names and paths."""


_NARROW: Final = 80
"""Below this width, a table that does not fit is printed as one block of lines per row."""


class _Console(Console):
    """Prints tables that do not fit a narrow terminal as `name: value` lines, so that they stay readable.

    The width is that of `COLUMNS`, of the terminal, or `_PIPE_WIDTH`, at the moment of printing.
    """

    @property
    def size(self) -> ConsoleDimensions:
        """Return width and height in characters."""
        width, height = super().size
        columns = os.environ.get("COLUMNS", "")
        if columns.isdecimal():
            return ConsoleDimensions(int(columns), height)
        return ConsoleDimensions(width if self.file.isatty() else _PIPE_WIDTH, height)

    @size.setter
    def size(self, new_size: tuple[int, int]) -> None:
        self._width, self._height = new_size

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as rich does, except for such tables."""
        super().print(*(self._fitting(one) for one in objects), **options)

    def _fitting(self, renderable: Any) -> Any:
        if not isinstance(renderable, Table) or self.width >= _NARROW:
            return renderable
        wanted = Measurement.get(self, self.options.update(max_width=_PIPE_WIDTH), renderable).maximum
        return renderable if wanted <= self.width else _as_lines(renderable)


def _as_lines(table: Table) -> Group:
    """Return the rows of a table as blocks of lines. Empty cells are left out."""
    headers = [str(column.header) for column in table.columns]
    blocks: list[RenderableType] = []
    for row in zip(*(column.cells for column in table.columns), strict=True):
        for name, content in zip(headers, row, strict=True):
            text = content if isinstance(content, Text) else Text.from_markup(str(content))
            if text.plain.strip():
                line = Text.assemble((f"{name}: ", "bold") if name else "", text)
                line.overflow, line.no_wrap = "fold", False
                blocks.append(line)
        blocks.append(Text(""))
    return Group(*blocks[:-1])


def _console(*, stderr: bool) -> Console:
    return _Console(stderr=stderr, highlight=False)


console: Final = _console(stderr=False)
progress_console: Final = _console(stderr=True)
"""Console for progress and notes on standard error, which keeps standard output clean for pipes."""


def print_json(value: Any) -> None:
    """Print a value as one line of JSON; dataclasses and msgspec Structs become objects."""
    typer.echo(printable_json(msgspec.json.encode(value, enc_hook=str).decode()))


_STANDARD_OUTPUT: Final = ("-", "/dev/stdout")


def export_rows(statement: str, csv: Path | None, parquet: Path | None, *, as_json: bool) -> None:
    """Write the rows of a query to files, or only the CSV to standard output, and print their number.

    Raises:
        BadParameter: standard output would contain more than the CSV.
        LakeError: the query fails, or a file cannot be written.
    """
    from coinstream.lake.query import export, sql

    if csv is not None and str(csv) in _STANDARD_OUTPUT:
        if parquet is not None or as_json:
            raise typer.BadParameter("--csv - allows neither --parquet nor --json")
        typer.echo(sql(statement).csv(), nl=False)
        return
    count = export(statement, csv=csv, parquet=parquet)
    names = ", ".join(str(path) for path in (csv, parquet) if path is not None)
    print_json({"rows": count}) if as_json else console.print(f"{names}: {count:,} rows", markup=False)


def cell(content: object) -> Text:
    """Return untrusted content for a table, without terminal escapes and rich markup."""
    return Text(readable(content) if isinstance(content, bytes) else printable(str(content)))


@contextmanager
def broker() -> Iterator[BrokerSettings]:
    """Yield the configured broker, or else the local one, started for the duration of the command."""
    from coinstream.local_broker import open_broker

    with open_broker(BrokerSettings(), HomeSettings()) as settings:
        yield settings


def feed_names(incomplete: str) -> list[str]:
    """Return the feeds of `feeds.yaml`."""
    from coinstream.feeds.registry import entries

    return _starting(incomplete, list(entries()))


def topic_names(incomplete: str) -> list[str]:
    """Return the topics of the catalogue, including those of configured exchanges."""
    from coinstream.settings import HomeSettings
    from coinstream.topics.catalogue import catalogue

    return _starting(incomplete, [spec.name for spec in catalogue(HomeSettings().exchange_topics)])


def sink_names(incomplete: str) -> list[str]:
    """Return the sinks, including those of plugins."""
    from coinstream.sinks import SINKS

    return _starting(incomplete, list(SINKS))


def _starting(incomplete: str, names: list[str]) -> list[str]:
    return [name for name in sorted(names) if name.startswith(incomplete)]


class Engines(StrEnum):
    """Engines that prepare slices and compute candles."""

    EMBEDDED = "embedded"
    RAY = "ray"


ChosenEngine = Annotated[
    Engines | None,
    typer.Option(help="Engine that does the work. Default: COINSTREAM_LAKE_ENGINE, else embedded."),
]


def engine_of(lake: Lake, brokers: BrokerSettings) -> AbstractContextManager[Engine]:
    """Open the engine of the lake's settings for a block.

    Raises:
        LakeError: as `open_engine`, on entering the block.
    """
    from coinstream.expectations.validator import ExpectationValidator
    from coinstream.lake.engines import open_engine

    return open_engine(lake.settings, brokers, ExpectationValidator)
