"""Aggregate quotes to candles, and hold which hours are aggregated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

from coinstream.lake.schemas import SCALE, TIME
from coinstream.lake.slices import SharedTable

Hours = dict[str, set[datetime]]
"""Hours by exchange."""


@dataclass
class CandleState:
    """Progress of the candles of one source.

    Attributes:
        seen: landing time of the newest processed row.
        open: hours with candles that are not final, by exchange.
        marks: watermark (newest event time) of each exchange.
    """

    seen: datetime | None = None
    open: Hours = field(default_factory=dict)
    marks: dict[str, datetime] = field(default_factory=dict)

    @classmethod
    def of(cls, stored: dict[str, Any], suffix: str, latest: datetime) -> CandleState:
        """Read the state from the table's properties, with watermarks of at most `latest`."""
        if not stored:
            return cls()
        times = {
            name.removesuffix(f"-{suffix}"): datetime.fromisoformat(at)
            for name, at in stored.get("marks", {}).items()
        }
        marks = {name: min(at, latest) for name, at in times.items()}
        hours = stored.get("open", {})
        if isinstance(hours, list):  # of an earlier release, which did not tell exchanges apart
            hours = dict.fromkeys(marks, hours)
        opened = {name: {datetime.fromisoformat(at) for at in each} for name, each in hours.items()}
        return cls(datetime.fromisoformat(stored["seen"]), opened, marks)

    def as_stored(self) -> dict[str, Any]:
        """Return the state for the table's properties."""
        return {
            "seen": self.seen.isoformat() if self.seen else None,
            "open": {name: sorted(at.isoformat() for at in hours) for name, hours in self.open.items()},
            "marks": {name: at.isoformat() for name, at in self.marks.items()},
        }


TIMEFRAMES: Final = ("1m", "5m", "1h")
HOUR: Final = timedelta(hours=1)
_TICK_BYTES: Final = 400
"""Memory per row while candles are computed, in bytes."""

_RADIX: Final = 65_536
"""Codes below are sorted by radix."""


@dataclass(frozen=True)
class CandleSource:
    """Source table of candles.

    Attributes:
        table: name of the table.
        suffix: suffix of the exchange's name, which distinguishes these candles from others.
        event_time: column with the event time.
        inputs: columns from which value and volume are computed.
        value: price of a row.
        has_volume: whether the rows are trades.
    """

    table: str
    suffix: str
    event_time: str
    inputs: tuple[str, ...]
    value: pl.Expr
    has_volume: bool = False

    @property
    def columns(self) -> list[str]:
        """Return the columns to read."""
        times = (self.event_time, "last_updated")
        return list(dict.fromkeys(["symbol", *self.inputs, *times, "partition", "offset"]))


def _float(column: str) -> pl.Expr:
    return pl.col(column).cast(pl.Float64)


SOURCES: Final = (
    CandleSource(
        "level1",
        "quotes",
        "timestamp",
        ("best_bid", "best_ask"),
        (_float("best_bid") + _float("best_ask")) / 2,
    ),
    CandleSource("price", "prices", "last_updated", ("usd_price",), _float("usd_price")),
    CandleSource(
        "trade",
        "trades",
        "timestamp",
        ("trade_price", "size", "side", "trade_id"),
        _float("trade_price"),
        has_volume=True,
    ),
)


@dataclass(frozen=True)
class CandleDay:
    """Hours of one day of one exchange whose candles are computed."""

    source: CandleSource
    exchange: str
    hours: Sequence[datetime]


def compute_day(table: SharedTable, day: CandleDay) -> pl.DataFrame:
    """Compute the candles of one partition of a table at once, or in fewer hours if memory requires it."""
    dataset = ds.dataset(rows) if isinstance(rows := table.rows(), pa.Table) else rows
    hours = sorted(day.hours)
    count = dataset.count_rows(filter=_within(day.source, day.exchange, hours))
    most = max(table.settings.memory_bytes // _TICK_BYTES, 1)
    step = max(len(hours) * most // max(count, 1), 1)
    parts = (
        read_ticks(dataset, day.source, day.exchange, hours[start : start + step])
        for start in range(0, len(hours), step)
    )
    return pl.concat(compute_candles(ticks, day.source, day.exchange) for ticks in parts)


def _within(source: CandleSource, exchange: str, hours: Sequence[datetime]) -> ds.Expression:
    event = ds.field(source.event_time)
    since, until = pa.scalar(hours[0], TIME), pa.scalar(hours[-1] + HOUR, TIME)
    return (ds.field("exchange_id") == exchange) & (event >= since) & (event < until)


def read_ticks(
    dataset: ds.Dataset, source: CandleSource, exchange: str, hours: Sequence[datetime]
) -> pl.DataFrame:
    """Read the rows of one exchange in the given hours, which are sorted."""
    table = dataset.to_table(columns=source.columns, filter=_within(source, exchange, hours))
    for name in source.value.meta.root_names():
        table = table.set_column(table.column_names.index(name), name, nearest_floats(table[name]))
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    columns = {
        # Codes are grouped faster than texts.
        "symbol": pl.col("symbol").cast(pl.Categorical),
        "at": pl.col(source.event_time),
        "value": source.value,
        "last_updated": pl.col("last_updated"),
        "partition": pl.col("partition"),
        "offset": pl.col("offset"),
    }
    if source.has_volume:
        columns |= {
            "size": pl.col("size"),
            "buy": pl.when(pl.col("side") == "buy").then(pl.col("size")),
            "trade_id": pl.col("trade_id"),
        }
    ticks = frame.select(**columns)
    if len(hours) * HOUR < hours[-1] + HOUR - hours[0]:
        ticks = ticks.filter(pl.col("at").dt.truncate("1h").is_in(hours))
    return ticks


_UNIT: Final = np.uint64(10 ** (SCALE - 8))
_UNITS_OF_WORD, _REST_OF_WORD = (np.uint64(part) for part in divmod(2**64, int(_UNIT)))
_LARGEST_HIGH: Final = 2**20
"""With a smaller upper half, no sum below exceeds 64 bits, and every unit is an exact float."""


def nearest_floats(decimals: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return decimals of the tables' scale as the nearest floats.

    A number of at most eight decimals is a whole number of units divided by 10**8. Both are exact as floats,
    so their quotient is the nearest float. Polars converts the other numbers, at a higher cost.
    """
    return pa.chunked_array([_nearest_floats(chunk) for chunk in decimals.chunks], pa.float64())


def _nearest_floats(decimals: pa.Array) -> pa.Array:
    if decimals.null_count or not len(decimals):
        return _by_polars(decimals)
    words = np.frombuffer(decimals.buffers()[1], np.dtype("<u8")).reshape(-1, 2)
    low, high = words[decimals.offset : decimals.offset + len(decimals)].T
    units = low // _UNIT
    rest = low - units * _UNIT + high * _REST_OF_WORD
    more = rest // _UNIT
    floats = (units + more + high * _UNITS_OF_WORD) / 1e8
    others = np.flatnonzero((high >= _LARGEST_HIGH) | (rest != more * _UNIT))
    if len(others):
        floats[others] = _by_polars(decimals.take(pa.array(others))).to_numpy()
    return pa.array(floats)


def _by_polars(decimals: pa.Array) -> pa.Array:
    return pl.Series(decimals).cast(pl.Float64).to_arrow()


def compute_candles(ticks: pl.DataFrame, source: CandleSource, exchange: str) -> pl.DataFrame:
    """Compute the candles of all timeframes.

    Longer candles are aggregated from shorter ones. A duplicate trade with the same id and time, for example
    after a restart of a feed, counts once.
    """
    ordered = _in_time(ticks).lazy()
    if source.has_volume:
        again = pl.struct("symbol", "trade_id", "at").is_first_distinct()
        ordered = ordered.filter(pl.col("trade_id").is_null() | again)
        sums = {
            "volume": pl.col("size").sum(),
            "notional": (pl.col("value") * _float("size")).sum(),
            "buy": pl.col("buy").sum(),
        }
    else:
        sums = {name: pl.lit(0.0) for name in ("volume", "notional", "buy")}
    shortest = (
        ordered.group_by("symbol", pl.col("at").dt.truncate(TIMEFRAMES[0]).alias("open_time"))
        .agg(
            open_price=pl.col("value").first(),
            high_price=pl.col("value").max(),
            low_price=pl.col("value").min(),
            close_price=pl.col("value").last(),
            ticks=pl.len().cast(pl.Int64),
            last_updated=pl.col("last_updated").max(),
            **sums,
        )
        .with_columns(pl.col("symbol").cast(pl.String))
        .collect()
    )
    frames = [shortest]
    for every in TIMEFRAMES[1:]:
        frames.append(_longer(frames[-1], every))
    labelled = [
        frame.with_columns(timeframe=pl.lit(every), close_time=pl.col("open_time").dt.offset_by(every))
        for every, frame in zip(TIMEFRAMES, frames, strict=True)
    ]
    volume = _float("volume")
    return pl.concat(labelled).with_columns(
        exchange_id=pl.lit(f"{exchange}-{source.suffix}"),
        volume=volume,
        trades=pl.col("ticks") if source.has_volume else pl.lit(0, pl.Int64),
        vwap=pl.when(volume > 0).then(pl.col("notional") / volume),
        taker_buy_volume=_float("buy"),
    )


def _in_time(ticks: pl.DataFrame) -> pl.DataFrame:
    """Return ticks so that those of each symbol are in the order of their times, then of their offsets."""
    columns = ["at", "partition", "offset"]
    if not _is_in_time(ticks["symbol"], [ticks[name] for name in columns]):
        ticks = ticks.sort(columns)
    return ticks.drop("partition", "offset")


def _is_in_time(symbol: pl.Series, columns: Sequence[pl.Series]) -> bool:
    """Return whether rows of each symbol are in the order of columns, as a landing usually leaves them."""
    codes = symbol.to_physical().to_numpy()
    if not len(codes) or int(codes.max()) >= _RADIX:
        return not len(codes)
    order = np.argsort(codes.astype(np.uint16), kind="stable")
    equal = codes[order][1:] == codes[order][:-1]
    rising = ~equal
    for column in columns:
        values = column.to_physical().to_numpy()[order]
        rising |= equal & (values[1:] > values[:-1])
        equal &= values[1:] == values[:-1]
    return bool((rising | equal).all())


def _longer(shorter: pl.DataFrame, every: str) -> pl.DataFrame:
    return (
        shorter.sort("open_time")
        .group_by("symbol", pl.col("open_time").dt.truncate(every))
        .agg(
            pl.col("open_price").first(),
            pl.col("high_price").max(),
            pl.col("low_price").min(),
            pl.col("close_price").last(),
            pl.col("ticks").sum(),
            pl.col("last_updated").max(),
            pl.col("volume").sum(),
            pl.col("notional").sum(),
            pl.col("buy").sum(),
        )
    )
