"""Candles of one minute, five minutes and one hour, from the quotes and prices in the tables.

A candle is computed from all its rows each time one of them is new, so messages may come late and in any
order: the candle is then produced again, with the same key and open time, and the newest one counts. It
is produced once its exchange's events have passed its end by `LATENESS`.

Their exchange is called `binance-quotes` (middle of bid and ask) or `binance-prices`, so that they never
mix with candles that an exchange publishes itself. Quotes carry no trades: the volume is 0.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from coinstream.lake.commit import CommitResult, retry_on_conflict
from coinstream.lake.landed_offsets import LandedOffsets
from coinstream.lake.query import as_dataset
from coinstream.lake.schemas import TIME
from coinstream.lake.store import Lake
from coinstream.messages import Ohlcv

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from coinstream.client import RedpandaClient

TABLE: Final = "candles"
TIMEFRAMES: Final = {"1m": "1m", "5m": "5m", "1h": "1h"}
LATENESS: Final = timedelta(seconds=5)
"""How long after its end, in the exchange's time, a candle waits for stragglers before it is produced."""
OVERLAP: Final = timedelta(minutes=10)
"""Rows are looked at again for this long after they were landed: racing runs may commit out of order."""
STATE: Final = "coinstream.candles"

_HOUR: Final = timedelta(hours=1)
_KEY: Final = ["exchange_id", "symbol", "timeframe", "open_time"]
_VALUES: Final = ["open_price", "high_price", "low_price", "close_price"]
SCHEMA: Final = pa.schema(
    [
        pa.field("exchange_id", pa.string(), nullable=False),
        pa.field("symbol", pa.string(), nullable=False),
        pa.field("timeframe", pa.string(), nullable=False),
        pa.field("open_time", TIME, nullable=False),
        pa.field("close_time", TIME, nullable=False),
        *(pa.field(name, pa.float64(), nullable=False) for name in _VALUES),
        pa.field("ticks", pa.int64(), nullable=False),
        pa.field("last_updated", TIME, nullable=False),
        pa.field("final", pa.bool_(), nullable=False),
    ]
)


@dataclass
class CandleReport:
    """What a run did: rows that were new, candles computed, produced, of these revised, and still open."""

    rows: int = 0
    windows: int = 0
    produced: int = 0
    revised: int = 0
    open: int = 0


@dataclass(frozen=True)
class _Source:
    table: str
    suffix: str
    event_time: str
    value: pl.Expr

    @property
    def columns(self) -> list[str]:
        prices = ["best_bid", "best_ask"] if self.table == "level1" else ["usd_price"]
        times = dict.fromkeys([self.event_time, "last_updated", "ingested_at"])
        return ["exchange_id", "symbol", *prices, *times, "partition", "offset"]


SOURCES: Final = (
    _Source(
        "level1",
        "quotes",
        "timestamp",
        (pl.col("best_bid").cast(pl.Float64) + pl.col("best_ask").cast(pl.Float64)) / 2,
    ),
    _Source("price", "prices", "last_updated", pl.col("usd_price").cast(pl.Float64)),
)


def build_candles(lake: Lake, client: RedpandaClient | None = None) -> CandleReport:
    """Bring the candles up to date with the tables, and produce those that are final.

    Without a client they are only put into the table. Candles are produced before the table remembers
    them: a run that is killed produces them again rather than never.

    Raises:
        LakeError: the catalog or the store fails.
        ProduceError: a candle was not acknowledged.
    """
    report = CandleReport()
    for source in SOURCES:
        table = lake.find(source.table)
        if table is not None and table.current_snapshot() is not None:
            _build(lake, table, source, client, report)
    return report


def compute(ticks: pl.DataFrame) -> pl.DataFrame:
    """The candles of ticks, which have exchange_id, symbol, at, value, last_updated and their order."""
    ordered = ticks.sort("at", "partition", "offset")
    frames = [
        ordered.group_by("exchange_id", "symbol", pl.col("at").dt.truncate(every).alias("open_time"))
        .agg(
            open_price=pl.col("value").first(),
            high_price=pl.col("value").max(),
            low_price=pl.col("value").min(),
            close_price=pl.col("value").last(),
            ticks=pl.len().cast(pl.Int64),
            last_updated=pl.col("last_updated").max(),
        )
        .with_columns(timeframe=pl.lit(name), close_time=pl.col("open_time").dt.offset_by(every))
        for name, every in TIMEFRAMES.items()
    ]
    return pl.concat(frames)


def _build(
    lake: Lake, table: Table, source: _Source, client: RedpandaClient | None, report: CandleReport
) -> None:
    candles = lake.other(TABLE, SCHEMA)
    state = _state(candles).get(source.table, {})
    rows = as_dataset(table)
    seen = datetime.fromisoformat(state["seen"]) if state else None
    fresh = ds.field("ingested_at") >= pa.scalar(seen - OVERLAP, TIME) if seen is not None else None
    hours: set[datetime] = {datetime.fromisoformat(text) for text in state.get("open", ())}
    marks = {name: datetime.fromisoformat(text) for name, text in state.get("marks", {}).items()}
    newest = seen
    for part in _parts(rows, source, fresh):
        report.rows += part.height if seen is None else part.filter(pl.col("ingested_at") > seen).height
        hours |= set(part["at"].dt.truncate("1h").unique().to_list())
        for exchange, at in part.group_by("exchange_id").agg(pl.col("at").max()).iter_rows():
            marks[exchange] = max(marks.get(exchange, at), at)
        last: Any = part["ingested_at"].max()
        newest = last if newest is None else max(newest, last)
    if newest is None:
        return
    still_open = []
    for hour in sorted(hours):
        within = (ds.field(source.event_time) >= pa.scalar(hour, TIME)) & (
            ds.field(source.event_time) < pa.scalar(hour + _HOUR, TIME)
        )
        parts = list(_parts(rows, source, within))
        if parts and _build_hour(lake, hour, pl.concat(parts), source, marks, client, report):
            still_open.append(hour)
    fresh_state = {
        "seen": newest.isoformat(),
        "open": [hour.isoformat() for hour in still_open],
        "marks": {name: at.isoformat() for name, at in marks.items()},
    }
    _remember(lake, source.table, fresh_state)


def _parts(rows: Any, source: _Source, wanted: ds.Expression | None) -> Iterator[pl.DataFrame]:
    """The wanted rows as ticks, a file's worth at a time."""
    scanner = ds.dataset(rows) if isinstance(rows, pa.Table) else rows
    for batch in scanner.to_batches(columns=source.columns, filter=wanted):
        if not batch.num_rows:
            continue
        frame = pl.from_arrow(batch)
        assert isinstance(frame, pl.DataFrame)
        yield frame.select(
            exchange_id=pl.col("exchange_id").cast(pl.String) + f"-{source.suffix}",
            symbol=pl.col("symbol").cast(pl.String),
            at=source.event_time,
            value=source.value,
            last_updated="last_updated",
            ingested_at="ingested_at",
            partition="partition",
            offset="offset",
        )


def _build_hour(
    lake: Lake,
    hour: datetime,
    ticks: pl.DataFrame,
    source: _Source,
    marks: dict[str, datetime],
    client: RedpandaClient | None,
    report: CandleReport,
) -> bool:
    """Compute, produce and keep the candles of an hour; whether some are still open."""
    marked = pl.DataFrame(
        {"exchange_id": list(marks), "mark": list(marks.values())},
        schema={"exchange_id": pl.String, "mark": pl.Datetime("us", "UTC")},
    )
    fresh = (
        compute(ticks)
        .join(marked, on="exchange_id", how="left")
        .with_columns(final=pl.col("close_time") + LATENESS <= pl.col("mark"))
        .select(SCHEMA.names)
    )
    report.windows += fresh.height
    report.open += fresh.filter(~pl.col("final")).height
    known = _known(lake, hour, source)
    due = _changed(fresh.filter("final"), known)
    report.revised += due.join(known.filter("final"), on=_KEY, how="semi").height
    if client is not None and due.height:
        report.produced += client.publish(map(_message, due.iter_rows(named=True)))
        client.flush()
    if _changed(fresh, known).height:
        _keep(lake, hour, source, fresh)
    return bool(fresh.filter(~pl.col("final")).height)


def _changed(fresh: pl.DataFrame, known: pl.DataFrame) -> pl.DataFrame:
    same = known.select(*_KEY, *_VALUES, "ticks", "final")
    return fresh.join(same, on=[*_KEY, *_VALUES, "ticks", "final"], how="anti").sort(_KEY)


def _known(lake: Lake, hour: datetime, source: _Source) -> pl.DataFrame:
    found = lake.other(TABLE, SCHEMA).scan(row_filter=_within(hour)).to_arrow()
    frame = pl.from_arrow(found.cast(SCHEMA))
    assert isinstance(frame, pl.DataFrame)
    return frame.filter(pl.col("exchange_id").str.ends_with(f"-{source.suffix}"))


def _keep(lake: Lake, hour: datetime, source: _Source, fresh: pl.DataFrame) -> None:
    rows = pa.Table.from_arrays(
        [fresh.to_arrow()[name].cast(SCHEMA.field(name).type) for name in SCHEMA.names], schema=SCHEMA
    )

    def attempt() -> CommitResult:
        table = lake.other(TABLE, SCHEMA)
        other = table.scan(row_filter=_within(hour)).to_arrow().cast(SCHEMA)
        mine = pl.Series(other["exchange_id"]).str.ends_with(f"-{source.suffix}")
        merged = pa.concat_tables([other.filter((~mine).to_arrow()), rows])
        if other.num_rows == mine.sum() == 0:
            table.append(merged)
        else:
            table.overwrite(merged, overwrite_filter=_within(hour))
        return CommitResult(rows.num_rows, 0, LandedOffsets())

    retry_on_conflict(lake, "keep candles", attempt)


def _within(hour: datetime) -> str:
    return f"open_time >= '{hour.isoformat()}' and open_time < '{(hour + _HOUR).isoformat()}'"


def _state(table: Table) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(table.properties.get(STATE, "{}"))
    return found


def _remember(lake: Lake, name: str, state: dict[str, Any]) -> None:
    def attempt() -> CommitResult:
        table = lake.other(TABLE, SCHEMA)
        with table.transaction() as change:
            change.set_properties({STATE: json.dumps({**_state(table), name: state})})
        return CommitResult(0, 0, LandedOffsets())

    retry_on_conflict(lake, "remember candles", attempt)


def _message(row: dict[str, Any]) -> Ohlcv:
    fields = {name: row[name] for name in (*_KEY, "close_time", *_VALUES, "last_updated")}
    return Ohlcv(**fields, volume=0.0)
