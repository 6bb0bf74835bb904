"""Summarize the tables, compute statistics of each exchange, and write both as a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow.compute as pc

from coinstream.errors import LakeError
from coinstream.files import whole_file
from coinstream.lake.charts import Points, line_chart, to_svg
from coinstream.lake.engines import EmbeddedEngine, Engine
from coinstream.lake.maintenance import partition_of_file
from coinstream.lake.query import query, views
from coinstream.lake.schemas import VIOLATION_TABLES
from coinstream.lake.slices import SharedTable
from coinstream.lake.store import Lake, wrap_errors
from coinstream.lake.validation import NoValidation
from coinstream.messages import MESSAGE_TYPES

if TYPE_CHECKING:
    from pyiceberg.table import Table


@dataclass(frozen=True)
class Summary:
    """Summary of one table. `bytes` is the size of data files; `newest_event` is from their statistics."""

    name: str
    rows: int
    files: int
    bytes: int
    snapshots: int
    partitions: int
    newest_event: datetime | None
    landed_at: datetime | None


def summaries(lake: Lake) -> list[Summary]:
    """Return the summaries of all tables.

    Raises:
        LakeError: the catalog or the store failed.
    """
    found = ((name, lake.find(name)) for name in lake.names())
    return [
        wrap_errors(partial(summary, name, table), f"look at table {name}")
        for name, table in found
        if table is not None
    ]


def summary(name: str, table: Table) -> Summary:
    """Return the summary of one table."""
    files = [task.file for task in table.scan().plan_files()]
    snapshot = table.current_snapshot()
    return Summary(
        name,
        rows=sum(file.record_count for file in files),
        files=len(files),
        bytes=sum(file.file_size_in_bytes for file in files),
        snapshots=len(table.snapshots()),
        partitions=len({partition_of_file(file) for file in files}),
        newest_event=_newest(name, table) if files else None,
        landed_at=datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC) if snapshot else None,
    )


def _newest(name: str, table: Table) -> datetime | None:
    from coinstream.lake.schemas import spec_named

    column = "ingested_at" if name in VIOLATION_TABLES else None
    if name in MESSAGE_TYPES:
        column = spec_named(name).event_time
    if column is None:
        return None
    bounds = table.inspect.files().column("readable_metrics").combine_chunks()
    return pc.max(bounds.field(column).field("upper_bound")).as_py()  # type: ignore[no-any-return]


# Only constants of this module are part of a statement; values of callers are parameters.
_SPREAD: Final = "(best_ask - best_bid)::DOUBLE / ((best_ask + best_bid)::DOUBLE / 2) * 10000"
_RECENT: Final = '"timestamp" >= (SELECT max("timestamp") FROM level1) - to_seconds($seconds)'
_MOST_POINTS: Final = 400
_MOST_SERIES: Final = 8


@dataclass(frozen=True)
class ExchangeStatistics:
    """Statistics of one exchange's quotes. The spread is in basis points of the mid price.

    `receipt` is the time from the exchange's time to the receipt, negative if its clock is ahead. `landing`
    is the time from the receipt to the table.
    """

    exchange: str
    quotes: int
    spread_bp_p50: float
    spread_bp_p99: float
    receipt_ms_p50: float
    receipt_ms_p99: float
    landing_s_p50: float
    landing_s_p99: float


def exchange_statistics(
    lake: Lake, hours: float = 24.0, engine: Engine | None = None
) -> list[ExchangeStatistics]:
    """Compute the statistics of each exchange over the newest hours of all quotes.

    Exact quantiles cannot be merged, so there is one query per exchange, which the engine may run on workers.

    Returns:
        One entry per exchange, sorted by name; none before the first landing.

    Raises:
        LakeError: the tables cannot be read.
    """
    table = lake.find("level1")
    if table is None or table.current_snapshot() is None:
        return []
    newest = query(lake, 'SELECT exchange_id, max("timestamp") FROM level1 GROUP BY 1 ORDER BY 1').rows
    if not newest:
        return []
    since = max(at for _, at in newest) - timedelta(hours=hours)
    wanted = [(str(exchange), since) for exchange, at in newest if at >= since]
    chosen = engine or EmbeddedEngine(lambda *_: NoValidation())
    return list(chosen.map(compute_statistics, SharedTable(table, lake.settings), wanted))


def compute_statistics(table: SharedTable, wanted: tuple[str, datetime]) -> ExchangeStatistics:
    """Compute the statistics of one exchange's quotes since a time."""
    exchange, since = wanted
    receipt = "date_diff('millisecond', \"timestamp\", last_updated)"
    landing = "date_diff('millisecond', last_updated, ingested_at) / 1000.0"
    quantiles = ", ".join(
        f"quantile_cont({value}, {share})" for value in (_SPREAD, receipt, landing) for share in (0.5, 0.99)
    )
    with views({"level1": table.rows()}, table.settings.memory_bytes) as connection:
        row = connection.execute(
            f"""
            SELECT count(*), {quantiles} FROM level1
            WHERE exchange_id = $exchange AND "timestamp" >= $since
            """,  # noqa: S608
            {"exchange": exchange, "since": since},
        ).fetchone()
    assert row is not None
    return ExchangeStatistics(exchange, int(row[0]), *map(float, row[1:]))


def price_series(lake: Lake, hours: float = 24.0) -> dict[str, Points]:
    """Return the mid price of the most quoted markets."""
    return _series(lake, "(best_bid + best_ask)::DOUBLE / 2", "exchange_id || ' ' || symbol", hours)


def spread_series(lake: Lake, hours: float = 24.0) -> dict[str, Points]:
    """Return the spread of the most quoted markets in basis points."""
    return _series(lake, _SPREAD, "exchange_id || ' ' || symbol", hours)


def latency_series(lake: Lake, hours: float = 24.0) -> dict[str, Points]:
    """Return the latency from the exchange's time to the receipt in milliseconds."""
    return _series(lake, "date_diff('millisecond', \"timestamp\", last_updated)", "exchange_id", hours)


def lag_series(lake: Lake, hours: float = 24.0) -> dict[str, Points]:
    """Return the latency from the receipt to the table in seconds."""
    return _series(lake, "date_diff('millisecond', last_updated, ingested_at) / 1000.0", "exchange_id", hours)


def _series(lake: Lake, value: str, name: str, hours: float) -> dict[str, Points]:
    if "level1" not in lake.names():
        return {}
    found = query(
        lake,
        f"""
        WITH rows AS (
            SELECT {name} AS name, epoch("timestamp") AS moment, {value} AS value
            FROM level1 WHERE {_RECENT}
        ),
        chosen AS (SELECT name FROM rows GROUP BY name ORDER BY count(*) DESC, name LIMIT {_MOST_SERIES}),
        span AS (
            SELECT
                greatest((max(moment) - min(moment)) / {_MOST_POINTS}, 0.001) AS width,
                min(moment) AS start
            FROM rows
        )
        SELECT name, start + floor((moment - start) / width) * width AS point, median(value)
        FROM rows, span WHERE name IN (SELECT name FROM chosen) GROUP BY ALL ORDER BY ALL
        """,  # noqa: S608
        {"seconds": hours * 3600},
        limit=(_MOST_POINTS + 1) * _MOST_SERIES,
    )
    series: dict[str, list[tuple[float, float]]] = {}
    for key, at, middle in found.rows:
        series.setdefault(str(key), []).append((float(at), float(middle)))
    return dict(series)


_STYLE: Final = (
    ":root{color-scheme:light dark}body{font-family:sans-serif;margin:2em auto;max-width:800px;padding:0 1em}"
    "figure{margin:.6em 0}.wide{overflow-x:auto}"
    "table{border-collapse:collapse;margin:1em 0}td,th{padding:.3em .8em;border-bottom:1px solid #8886;"
    "text-align:right}td:first-child,th:first-child{text-align:left}svg{width:100%;height:auto}"
)


@dataclass(frozen=True)
class Written:
    """A written report."""

    path: str
    charts: int
    tables: int


def write_report(lake: Lake, path: Path, *, hours: float = 24.0) -> Written:
    """Write the page.

    Raises:
        LakeError: the tables cannot be read, or the file cannot be written.
    """
    charts = [
        line_chart("Middle of bid and ask", "quote currency", price_series(lake, hours)),
        line_chart("Spread", "basis points", spread_series(lake, hours)),
        line_chart("Exchange to receipt", "ms", latency_series(lake, hours)),
        line_chart("Receipt to table", "s", lag_series(lake, hours)),
    ]
    found = summaries(lake)
    try:
        with whole_file(path) as file:
            file.write_text(_page(lake, [to_svg(chart) for chart in charts], found, hours), encoding="utf-8")
    except OSError as error:
        raise LakeError(f"cannot write the report to {path}: {error.strerror}") from error
    return Written(str(path), len(charts), len(found))


def _page(lake: Lake, charts: Sequence[str], found: Iterable[Any], hours: float) -> str:
    tables = _table(
        ("table", "rows", "files", "newest event"),
        [(one.name, f"{one.rows:,}", one.files, one.newest_event or "") for one in found],
    )
    exchanges = _table(
        ("exchange", "quotes", "spread bp p50", "p99", "receipt ms p50", "p99", "landing s p50", "p99"),
        [
            (
                one.exchange,
                f"{one.quotes:,}",
                *(f"{value:.3g}" for value in (one.spread_bp_p50, one.spread_bp_p99)),
                *(f"{value:.0f}" for value in (one.receipt_ms_p50, one.receipt_ms_p99)),
                *(f"{value:.1f}" for value in (one.landing_s_p50, one.landing_s_p99)),
            )
            for one in exchange_statistics(lake, hours)
        ],
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>coinstream</title>'
        f'<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style>"
        f"<h1>coinstream</h1><p>The newest {hours:g} hours of the tables, "
        f"written {datetime.now(UTC):%F %T} UTC.</p>"
        f"{''.join(f'<figure>{chart}</figure>' for chart in charts)}"
        f"<h2>Exchanges</h2>{exchanges}<h2>Tables</h2>{tables}</html>"
    )


def _table(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'
