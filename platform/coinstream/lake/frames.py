"""Read tables and SQL queries as Arrow, Polars or pandas.

from coinstream.lake.frames import sql, table

sql("SELECT symbol, count(*) AS quotes FROM level1 GROUP BY 1").polars()
table("level1", hours=1).pandas()
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars.exceptions as pl_errors
import pyarrow as pa

from coinstream.errors import LakeError
from coinstream.lake.query import database, explain, only_reading
from coinstream.lake.schemas import spec_named
from coinstream.lake.store import Lake
from coinstream.messages import MESSAGE_TYPES

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl


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
