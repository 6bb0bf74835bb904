"""Query the tables with DuckDB, read-only and without access to other files.

from coinstream.lake.query import sql, table

sql("SELECT symbol, count(*) AS quotes FROM level1 GROUP BY 1").polars()
table("level1", hours=1).pandas()
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb
import msgspec
import polars.exceptions as pl_errors
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from coinstream.errors import LakeError
from coinstream.files import whole_file
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake, wrap_errors
from coinstream.lake.warehouse import as_dataset
from coinstream.messages import MESSAGE_TYPES
from coinstream.text import did_you_mean

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


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
        """Return the rows as a Polars data frame.

        Raises:
            LakeError: two columns have one name, or Polars has no type for a column.
        """
        import polars as pl

        intervals = [field.name for field in self._table.schema if pa.types.is_interval(field.type)]
        if intervals:
            name = intervals[0]
            raise LakeError(f"column {name} is an interval, which files cannot hold; select epoch({name})")
        try:
            found = pl.from_arrow(self._table)
        except pl_errors.DuplicateError as error:
            raise LakeError(f"two columns have one name ({error}); rename one with AS") from None
        except pl_errors.PolarsError as error:
            raise LakeError(f"the rows are no Polars data frame: {error}") from error
        assert isinstance(found, pl.DataFrame)
        return found

    def csv(self) -> str:
        """Return the rows as CSV with a header: times in ISO 8601, lists and objects as JSON.

        Raises:
            LakeError: see `polars`.
        """
        columns = [_csv_column(column) for column in self._table.columns]
        return Rows(pa.table(columns, names=self._table.column_names)).polars().write_csv()

    def pandas(self) -> pd.DataFrame:
        """Return the rows as a pandas data frame."""
        return self._table.to_pandas()


def _csv_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column as CSV can hold it: times, lists, objects and bytes as text."""
    kind = column.type
    if pa.types.is_timestamp(kind):
        return _iso(column)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return _text(column, lambda value: value.decode(errors="backslashreplace"))
    return _text(column, _json) if pa.types.is_nested(kind) else column


def _text(column: pa.ChunkedArray, form: Callable[[Any], str]) -> pa.ChunkedArray:
    texts = [None if value is None else form(value) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _json(value: Any) -> str:
    return msgspec.json.Encoder(enc_hook=str, decimal_format="number").encode(value).decode()


def _iso(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return times in ISO 8601 with milliseconds, or with microseconds if one of them has some."""
    zone = "Z" if column.type.tz is not None else ""
    times = column.cast(pa.timestamp("us", column.type.tz), safe=False)
    if column.type.tz is not None:
        times = times.cast(pa.timestamp("us", "UTC"))
    digits = pc.any(pc.not_equal(pc.microsecond(times), 0)).as_py()
    times = times.cast(pa.timestamp("us" if digits else "ms", times.type.tz))
    return pc.strftime(times, format=f"%Y-%m-%dT%H:%M:%S{zone}")


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

    A file is replaced as a whole: after an error, an existing one is unchanged.

    Args:
        text: see `sql`.
        csv: file with a header line; see `Rows.csv`.
        parquet: file with the types of the tables.
        lake: see `sql`.

    Raises:
        LakeError: see `sql`; or a file cannot be written.
    """
    rows = sql(text, lake=lake)
    if csv is not None:
        _write(csv, lambda file: file.write_text(rows.csv(), encoding="utf-8", newline=""))
    if parquet is not None:
        _write(parquet, rows.polars().write_parquet)
    return int(rows.arrow().num_rows)


def _write(path: Path, write: Callable[[Path], object]) -> None:
    try:
        with whole_file(path) as file:
            write(file)
    except (OSError, pl_errors.PolarsError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise LakeError(f"cannot write the rows to {path}: {reason}") from error


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
        return sql(f"SELECT * FROM {quoted}", lake=lake)  # noqa: S608
    if name not in MESSAGE_TYPES:
        raise LakeError(f"table {name} has no event time; read it without `hours`")
    at = f'"{spec_named(name).event_time}"'
    return sql(
        f"SELECT * FROM {quoted} WHERE {at} >= (SELECT max({at}) FROM {quoted}) - to_seconds($seconds)",  # noqa: S608
        {"seconds": hours * 3600},
        lake=lake,
    )
