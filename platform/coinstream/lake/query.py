"""Query the tables with DuckDB, read-only and without access to other files.

from coinstream.lake.query import sql, table

sql("SELECT symbol, count(*) AS quotes FROM level1 GROUP BY 1").polars()
table("level1", hours=1).pandas()
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import polars.exceptions as pl_errors
import pyarrow as pa
import pyarrow.dataset as ds

from coinstream.errors import LakeError
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake, wrap_errors
from coinstream.messages import MESSAGE_TYPES
from coinstream.text import did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    from pyiceberg.table import FileScanTask, Table


# Set at the start and locked, so that a query can neither access files and network nor change this.
_LOCKED: Final = {
    "enable_external_access": "false",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}
_NO_TABLE: Final = re.compile(r"Table with name (\S+) does not exist")
_READING: Final = {duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN}


@dataclass(frozen=True)
class Result:
    """Rows of a query. `cut` is True if there are more rows than the limit."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    cut: bool


def query(lake: Lake, sql: str, parameters: Mapping[str, Any] | None = None, *, limit: int = 1_000) -> Result:
    """Run one read-only statement with the tables as views and `$name` parameters.

    Raises:
        LakeError: the SQL is invalid or not read-only, or a table cannot be read.
    """
    with database(lake) as connection:
        statement = only_reading(connection, sql)
        try:
            found = connection.execute(statement, parameters)
            columns = [str(column[0]) for column in found.description or ()]
            rows = found.fetchmany(limit + 1)
        except duckdb.Error as error:
            raise LakeError(f"query: {explain(error, lake)}") from None
    return Result(columns, [tuple(map(_plain, row)) for row in rows[:limit]], cut=len(rows) > limit)


def explain(error: duckdb.Error, lake: Lake) -> str:
    """Return the error message for an error of DuckDB."""
    missing = _NO_TABLE.search(str(error))
    if missing is None:
        return str(error)
    # DuckDB would suggest tables of its own catalog.
    names = lake.names()
    hint = did_you_mean(missing[1], names) if names else "`coinstream lake land` makes the tables"
    return f"there is no table {missing[1]}; {hint}"


@contextmanager
def database(lake: Lake) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open DuckDB in memory with a view of every table. Filters and projections are pushed down to the files.

    Raises:
        LakeError: a table cannot be read.
    """
    found = {name: table for name in lake.names() if (table := lake.find(name)) is not None}
    rows = {
        name: wrap_errors(partial(as_dataset, each), f"read table {name}") for name, each in found.items()
    }
    with views(rows, lake.settings.memory_bytes) as connection:
        yield connection


@contextmanager
def views(
    rows: Mapping[str, ds.Dataset | pa.Table], memory_bytes: int
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open DuckDB in memory with a read-only view of each table."""
    connection = duckdb.connect(":memory:", config=dict(_LOCKED))
    try:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET python_enable_replacements = false")
        connection.execute(f"SET memory_limit = '{memory_bytes // 1024}KiB'")
        for name, each in rows.items():
            connection.register(name, each)
        connection.execute("SET lock_configuration = true")
        yield connection
    finally:
        connection.close()


def only_reading(connection: duckdb.DuckDBPyConnection, sql: str) -> duckdb.Statement:
    """Parse one read-only statement.

    Raises:
        LakeError: the text is not SQL, contains several statements, or is not read-only.
    """
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise LakeError(f"query: {error}") from None
    if len(statements) != 1:
        raise LakeError(f"query: expected one statement, got {len(statements)}")
    if statements[0].type not in _READING:
        raise LakeError(f"query: {statements[0].type.name} is refused; only SELECT statements are allowed")
    return statements[0]


def as_dataset(table: Table) -> ds.Dataset | pa.Table:
    """Return the table's files as an Arrow dataset with the partition values of each file."""
    # pyiceberg lists the newest files first; rows come in the order in which they were landed.
    tasks = list(table.scan().plan_files())[::-1]
    schema = table.schema().as_arrow()
    if any(task.delete_files for task in tasks):  # ours have none; another engine may have left some
        return table.scan().to_arrow()
    if not tasks:
        return schema.empty_table()
    filesystem, _ = located(table, tasks[0].file.file_path)
    form = ds.ParquetFileFormat()
    fragments = [
        form.make_fragment(located(table, task.file.file_path)[1], filesystem, _known(table, task, schema))
        for task in tasks
    ]
    return ds.FileSystemDataset(fragments, schema, form, filesystem)


def located(table: Table, address: str) -> tuple[Any, str]:
    """Return the file system of a location, and the path in it."""
    from pyiceberg.io.pyarrow import PyArrowFileIO

    from coinstream.lake.warehouse import FileIO

    io = table.io if isinstance(table.io, PyArrowFileIO) else FileIO(table.properties)
    scheme, netloc, path = io.parse_location(address)
    return io.fs_by_scheme(scheme, netloc), path


def _known(table: Table, task: FileScanTask, schema: pa.Schema) -> ds.Expression | None:
    """Return the partition values of a file as an expression, so that queries can skip the file."""
    spec = table.specs()[task.file.spec_id]
    known: ds.Expression | None = None
    for at, part in enumerate(spec.fields):
        value = task.file.partition[at]
        name = table.schema().find_column_name(part.source_id)
        if value is None or name is None:
            continue
        column = ds.field(name)
        if str(part.transform) == "identity":
            said = column == value
        elif str(part.transform) == "day":
            start = datetime.combine(_day(value), time(), UTC)
            kind = schema.field(name).type
            said = (column >= pa.scalar(start, kind)) & (column < pa.scalar(start + timedelta(days=1), kind))
        else:
            continue
        known = said if known is None else known & said
    return known


def _day(value: Any) -> Any:
    return (
        (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=value)).date() if isinstance(value, int) else value
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        text = format(value, "f")
        return Decimal(text.rstrip("0").rstrip(".") if "." in text else text)
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return value


@dataclass(frozen=True)
class Rows:
    """The rows of a query. Prices are decimals with 18 digits after the point; times are UTC."""

    _table: pa.Table

    def arrow(self) -> pa.Table:
        """Return the rows as an Arrow table."""
        return self._table

    def polars(self) -> pl.DataFrame:
        """Return the rows as a Polars data frame."""
        import polars as pl

        found = pl.from_arrow(self._table)
        assert isinstance(found, pl.DataFrame)
        return found

    def pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas data frame."""
        return self._table.to_pandas()


def sql(text: str, parameters: Mapping[str, Any] | None = None, *, lake: Lake | None = None) -> Rows:
    """Run one reading statement over the tables; `$name` stands for a parameter.

    Args:
        text: one SELECT statement in DuckDB's SQL. The tables are its views.
        parameters: values of the `$name`s.
        lake: the tables; those of this machine's home by default.

    Raises:
        LakeError: the SQL is wrong, does more than read, or a table cannot be read.
    """
    lake = lake or Lake()
    with database(lake) as connection:
        statement = only_reading(connection, text)
        try:
            return Rows(connection.sql(statement.query, params=parameters).to_arrow_table())
        except duckdb.Error as error:
            raise LakeError(f"query: {explain(error, lake)}") from None


def export(
    text: str, *, csv: Path | None = None, parquet: Path | None = None, lake: Lake | None = None
) -> int:
    """Write all rows of a statement to files and return how many there are.

    Args:
        text: see `sql`.
        csv: file with a header line; values as text, times in ISO form.
        parquet: file with the types of the tables.
        lake: see `sql`.

    Raises:
        LakeError: see `sql`; or a file cannot be written.
    """
    rows = sql(text, lake=lake)
    try:
        if csv is not None:
            rows.polars().write_csv(csv, datetime_format="%Y-%m-%dT%H:%M:%S%.3fZ")
        if parquet is not None:
            rows.polars().write_parquet(parquet)
    except (OSError, pl_errors.PolarsError) as error:
        raise LakeError(f"cannot write the rows to {csv or parquet}: {error}") from error
    return int(rows.arrow().num_rows)


def table(name: str, *, hours: float | None = None, lake: Lake | None = None) -> Rows:
    """Return the rows of a table, all or those of its newest hours.

    Args:
        name: the table, for example `level1`.
        hours: how far to look back from the newest row, by the exchange's time.
        lake: see `sql`.

    Raises:
        LakeError: there is no such table, it has no time to look back from, or it cannot be read.
    """
    quoted = '"' + name.replace('"', '""') + '"'
    if hours is None:
        return sql(f"SELECT * FROM {quoted}", lake=lake)  # nosec B608
    if name not in MESSAGE_TYPES:
        raise LakeError(f"table {name} has no event time; read it without `hours`")
    at = f'"{spec_named(name).event_time}"'
    return sql(
        f"SELECT * FROM {quoted} WHERE {at} >= (SELECT max({at}) FROM {quoted}) - to_seconds($seconds)",  # nosec B608
        {"seconds": hours * 3600},
        lake=lake,
    )
