"""Compute spread and latency of each exchange, and series for charts, with SQL over the tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from coinstream.lake.charts import Points
from coinstream.lake.engines import EmbeddedEngine, Engine
from coinstream.lake.query import query, views
from coinstream.lake.shared_table import SharedTable
from coinstream.lake.store import Lake
from coinstream.lake.validation import NoValidation

# Only constants of this module are put into the text of a statement; what a caller gives is a parameter.
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
            """,  # nosec B608
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
        """,  # nosec B608
        {"seconds": hours * 3600},
        limit=(_MOST_POINTS + 1) * _MOST_SERIES,
    )
    series: dict[str, list[tuple[float, float]]] = {}
    for key, at, middle in found.rows:
        series.setdefault(str(key), []).append((float(at), float(middle)))
    return dict(series)
