"""Build candles of one minute, five minutes and one hour from landed quotes, prices and trades.

A candle is computed from all its rows whenever one of them is new, so messages may arrive late and in any
order. The candle is then produced again with the same key and open time, and the newest one is valid. A
candle is produced when its exchange's watermark has passed its end by `LATENESS`.

The exchange of a candle is named `binance-quotes` (mid price), `binance-prices` or `binance-trades`, which
distinguishes it from candles published by exchanges. Only candles of trades have a volume.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from coinstream.lake.candle_windows import (
    HOUR,
    SOURCES,
    CandleDay,
    CandleSource,
    CandleState,
    Hours,
    compute_day,
)
from coinstream.lake.commit import CommitResult, retry_on_conflict
from coinstream.lake.engines import EmbeddedEngine, Engine
from coinstream.lake.landed_offsets import LandedOffsets
from coinstream.lake.schemas import CANDLE_SCHEMA, TIME
from coinstream.lake.slices import SharedTable
from coinstream.lake.store import Lake
from coinstream.lake.validation import NoValidation
from coinstream.messages import Ohlcv

if TYPE_CHECKING:
    from coinstream.client import RedpandaClient

TABLE: Final = "candles"
LATENESS: Final = timedelta(seconds=5)
"""Allowed lateness: event time after the end of a candle before it is produced."""
OVERLAP: Final = timedelta(minutes=10)
"""Time after landing for which rows are processed again, because concurrent runs may commit out of order."""
STATE: Final = "coinstream.candles"

_KEY: Final = ["exchange_id", "symbol", "timeframe", "open_time"]
_VALUES: Final = ["open_price", "high_price", "low_price", "close_price"]
_COMPARED: Final = [*_KEY, *_VALUES, "ticks", "final", "volume", "taker_buy_volume", "vwap"]


@dataclass
class CandleReport:
    """Result of a run: new rows, candles computed, produced, revised, and still open."""

    rows: int = 0
    windows: int = 0
    produced: int = 0
    revised: int = 0
    open: int = 0


def build_candles(
    lake: Lake, client: RedpandaClient | None = None, engine: Engine | None = None
) -> CandleReport:
    """Update the candles from the tables, and produce final ones.

    Candles are produced before they are committed to the table, so a killed run produces them again.

    Args:
        lake: tables.
        client: producer of the candles; None only writes them to the table.
        engine: engine that computes each day of an exchange; None computes in this process.

    Raises:
        LakeError: the catalog or the store failed.
        ProduceError: a candle was not acknowledged.
    """
    report = CandleReport()
    chosen = engine or EmbeddedEngine(lambda *_: NoValidation())
    for source in SOURCES:
        table = lake.find(source.table)
        if table is not None and table.current_snapshot() is not None:
            _build(lake, SharedTable(table, lake.settings), source, client, chosen, report)
    return report


def _build(
    lake: Lake,
    table: SharedTable,
    source: CandleSource,
    client: RedpandaClient | None,
    engine: Engine,
    report: CandleReport,
) -> None:
    tolerance = timedelta(milliseconds=lake.settings.clock_tolerance_ms)
    stored = _stored(lake).get(source.table, {})
    state = CandleState.of(stored, source.suffix, datetime.now(UTC) + tolerance)
    touched = _look_at_news(table.rows(), source, state, tolerance, report)
    if state.seen is None:
        return
    days = _days(source, touched)
    computed = [
        _with_final(frame, state.marks.get(day.exchange))
        for day, frame in zip(days, engine.map(compute_day, table, days), strict=True)
    ]
    fresh = pl.concat(computed) if computed else pl.DataFrame(schema=_polars_schema())
    known = _known(lake, source, touched)
    report.windows += fresh.height
    report.open += fresh.filter(~pl.col("final")).height
    changed = _changed(fresh, known)
    due = changed.filter("final")
    report.revised += due.join(known.filter("final"), on=_KEY, how="semi").height
    if client is not None and due.height:
        report.produced += client.publish(map(_message, due.iter_rows(named=True)))
        client.flush()
    unfinished = fresh.filter(~pl.col("final")).select(
        "exchange_id", pl.col("open_time").dt.truncate("1h").alias("hour")
    )
    state.open = {}
    for exchange, hour in unfinished.unique().iter_rows():
        state.open.setdefault(exchange.removesuffix(f"-{source.suffix}"), set()).add(hour)
    _keep(lake, source, touched, fresh if changed.height else None, state)


def _look_at_news(
    rows: ds.Dataset | pa.Table,
    source: CandleSource,
    state: CandleState,
    tolerance: timedelta,
    report: CandleReport,
) -> Hours:
    """Return the hours to compute, and advance the state to the newest row.

    A watermark is limited by the receipt time of its row: otherwise a quote with a time of tomorrow would
    make every open candle of its exchange final.
    """
    seen = state.seen
    touched = {exchange: set(hours) for exchange, hours in state.open.items()}
    wanted = ds.field("ingested_at") >= pa.scalar(seen - OVERLAP, TIME) if seen is not None else None
    columns = list(dict.fromkeys(["exchange_id", source.event_time, "last_updated", "ingested_at"]))
    scanner = ds.dataset(rows) if isinstance(rows, pa.Table) else rows
    for batch in scanner.to_batches(columns=columns, filter=wanted):
        frame = pl.from_arrow(batch)
        if not isinstance(frame, pl.DataFrame) or frame.is_empty():
            continue
        at = pl.col(source.event_time)
        received = pl.min_horizontal("last_updated", "ingested_at") + tolerance
        found = (
            frame.with_columns(pl.col("exchange_id").cast(pl.String))
            .group_by("exchange_id", at.dt.truncate("1h").alias("hour"))
            .agg(mark=pl.min_horizontal(at, received).max())
        )
        for exchange, hour, mark in found.iter_rows():
            touched.setdefault(exchange, set()).add(hour)
            state.marks[exchange] = max(state.marks.get(exchange, mark), mark)
        landed = frame["ingested_at"]
        report.rows += frame.height if seen is None else int((landed > seen).sum())
        newest: Any = landed.max()
        state.seen = newest if state.seen is None else max(state.seen, newest)
    return touched


def _days(source: CandleSource, touched: Hours) -> list[CandleDay]:
    """Return the touched hours by exchange and day, as the tables are partitioned."""
    days: dict[tuple[str, date], list[datetime]] = {}
    for exchange, hours in touched.items():
        for hour in hours:
            days.setdefault((exchange, hour.date()), []).append(hour)
    return [CandleDay(source, exchange, sorted(hours)) for (exchange, _), hours in sorted(days.items())]


def _with_final(candles: pl.DataFrame, mark: datetime | None) -> pl.DataFrame:
    passed = pl.col("close_time") + LATENESS <= pl.lit(mark, pl.Datetime("us", "UTC"))
    return candles.with_columns(final=passed.fill_null(False)).select(CANDLE_SCHEMA.names)


def _changed(fresh: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    if known.is_empty():
        return fresh.sort(_KEY)
    same = known.select(_COMPARED)
    return fresh.join(same, on=_COMPARED, how="anti", nulls_equal=True).sort(_KEY)


def _known(lake: Lake, source: CandleSource, touched: Hours) -> pl.DataFrame:
    """Return the candles of the source that the table holds of the touched hours."""
    if not touched:
        return pl.DataFrame(schema=_polars_schema())
    table = lake.other(TABLE, CANDLE_SCHEMA)
    found = pl.from_arrow(_in_schema(table.scan(row_filter=_within(touched)).to_arrow()))
    assert isinstance(found, pl.DataFrame)
    return found.filter(pl.col("exchange_id").str.ends_with(f"-{source.suffix}"))


def _keep(
    lake: Lake, source: CandleSource, touched: Hours, fresh: pl.DataFrame | None, state: CandleState
) -> None:
    """Replace the candles of the touched hours and store the state in one commit."""

    def attempt() -> CommitResult:
        table = lake.other(TABLE, CANDLE_SCHEMA)
        stored = {**_read_state(table.properties), source.table: state.as_stored()}
        rows = 0
        with table.transaction() as change:
            if fresh is not None:
                others = _others(
                    _in_schema(table.scan(row_filter=_within(touched)).to_arrow()), source, touched
                )
                merged = pa.concat_tables([others, _in_schema(fresh.to_arrow())])
                change.overwrite(merged, overwrite_filter=_within(touched))
                rows = merged.num_rows
            change.set_properties({STATE: json.dumps(stored)})
        return CommitResult(rows, 0, LandedOffsets())

    retry_on_conflict(lake, "keep candles", attempt)


def _others(found: pa.Table, source: CandleSource, touched: Hours) -> pa.Table:
    """Return the candles in the range of the touched hours that are not computed again."""
    pairs = [(f"{exchange}-{source.suffix}", hour) for exchange, hours in touched.items() for hour in hours]
    computed = pl.DataFrame(
        pairs, schema={"exchange_id": pl.String, "hour": pl.Datetime("us", "UTC")}, orient="row"
    )
    frame = pl.from_arrow(found)
    assert isinstance(frame, pl.DataFrame)
    others = frame.with_columns(hour=pl.col("open_time").dt.truncate("1h")).join(
        computed, on=["exchange_id", "hour"], how="anti"
    )
    return _in_schema(others.drop("hour").to_arrow())


def _within(touched: Hours) -> str:
    """Return a filter for the touched hours of all exchanges, as few ranges."""
    hours = sorted(set().union(*touched.values()))
    ranges: list[list[datetime]] = []
    for hour in hours:
        if ranges and ranges[-1][1] == hour:
            ranges[-1][1] = hour + HOUR
        else:
            ranges.append([hour, hour + HOUR])
    parts = (
        f"(open_time >= '{start.isoformat()}' and open_time < '{stop.isoformat()}')" for start, stop in ranges
    )
    return " or ".join(parts)


def _in_schema(found: pa.Table) -> pa.Table:
    columns = [found[name].cast(CANDLE_SCHEMA.field(name).type) for name in CANDLE_SCHEMA.names]
    return pa.Table.from_arrays(columns, schema=CANDLE_SCHEMA)


def _polars_schema() -> pl.Schema:
    empty = pl.from_arrow(CANDLE_SCHEMA.empty_table())
    assert isinstance(empty, pl.DataFrame)
    return empty.schema


def _stored(lake: Lake) -> dict[str, Any]:
    return _read_state(lake.other(TABLE, CANDLE_SCHEMA).properties)


def _read_state(properties: dict[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(properties.get(STATE, "{}"))
    return found


def _message(row: dict[str, Any]) -> Ohlcv:
    fields = {name: row[name] for name in (*_KEY, "close_time", *_VALUES, "last_updated")}
    return Ohlcv(**fields, volume=row["volume"])
