"""Spread and latency of each exchange, and series for charts, by SQL over the tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from coinstream.lake.charts import Points
from coinstream.lake.query import query
from coinstream.lake.store import Lake

# Only constants of this module are put into the text of a statement; what a caller gives is a parameter.
_SPREAD: Final = "(best_ask - best_bid)::DOUBLE / ((best_ask + best_bid)::DOUBLE / 2) * 10000"
_RECENT: Final = '"timestamp" >= (SELECT max("timestamp") FROM level1) - to_seconds($seconds)'
_MOST_POINTS: Final = 400
_MOST_SERIES: Final = 8


@dataclass(frozen=True)
class ExchangeStatistics:
    """Of one exchange's quotes. Spread in basis points of the middle; latencies in milliseconds.

    `receipt` is from the exchange's time to ours (below zero when its clock runs ahead), `landing` from our
    receipt to the table.
    """

    exchange: str
    quotes: int
    spread_bp_p50: float
    spread_bp_p99: float
    receipt_ms_p50: float
    receipt_ms_p99: float
    landing_s_p50: float
    landing_s_p99: float


def exchange_statistics(lake: Lake, hours: float = 24.0) -> list[ExchangeStatistics]:
    """Statistics of every exchange over the newest hours of its quotes; empty before the first landing.

    Raises:
        LakeError: the tables cannot be read.
    """
    if "level1" not in lake.names():
        return []
    found = query(
        lake,
        f"""
        SELECT exchange_id, count(*),
            quantile_cont({_SPREAD}, 0.5), quantile_cont({_SPREAD}, 0.99),
            quantile_cont(date_diff('millisecond', "timestamp", last_updated), 0.5),
            quantile_cont(date_diff('millisecond', "timestamp", last_updated), 0.99),
            quantile_cont(date_diff('millisecond', last_updated, ingested_at) / 1000.0, 0.5),
            quantile_cont(date_diff('millisecond', last_updated, ingested_at) / 1000.0, 0.99)
        FROM level1 WHERE {_RECENT}
        GROUP BY exchange_id ORDER BY exchange_id
        """,  # nosec B608
        {"seconds": hours * 3600},
    )
    return [ExchangeStatistics(str(row[0]), int(row[1]), *map(float, row[2:])) for row in found.rows]


def price_series(lake: Lake, hours: float = 24.0) -> dict[str, Points]:
    """The middle of bid and ask of the most quoted markets."""
    return _series(lake, "(best_bid + best_ask)::DOUBLE / 2", "exchange_id || ' ' || symbol", hours)


def spread_series(lake: Lake, hours: float = 24.0) -> dict[str, Points]:
    """The spread of the most quoted markets, in basis points."""
    return _series(lake, _SPREAD, "exchange_id || ' ' || symbol", hours)


def latency_series(lake: Lake, hours: float = 24.0) -> dict[str, Points]:
    """From the exchange's time to our receipt, in milliseconds."""
    return _series(lake, "date_diff('millisecond', \"timestamp\", last_updated)", "exchange_id", hours)


def lag_series(lake: Lake, hours: float = 24.0) -> dict[str, Points]:
    """From our receipt to the table, in seconds."""
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
