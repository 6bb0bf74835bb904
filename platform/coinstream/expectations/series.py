"""Compare each message with its neighbours: steps in time, gaps, jumps and clock skew.

The newest rows of every series are remembered from one batch to the next, so that a batch's first message is
compared with the last of the batch before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from coinstream.lake.schemas import TableSpec
from coinstream.settings import LakeSettings

Numbers = npt.NDArray[np.float64]

MAX_SERIES: Final = 100_000
"""Series whose newest row is remembered."""
_FEWEST: Final = 10
"""Steps a series must show in a batch before its usual step is known."""
_LEAST_DEVIATION: Final = 5e-4
"""A series that hardly moves is taken to move by 5 basis points: the tick of a quiet book is no jump."""
_TO_DEVIATION: Final = 1.4826
"""From a median absolute deviation to the standard deviation of a normal distribution."""
_SKEW_SAMPLES: Final = 1_000


@dataclass(frozen=True)
class SeriesMemory:
    """What is remembered from one batch to the next. It is replaced, never changed.

    Attributes:
        last: the newest trusted row of each series.
        skews: the newest differences between the clock of each exchange and ours.
    """

    last: pl.DataFrame | None = None
    skews: Mapping[str, Numbers] = field(default_factory=dict)


class Series:
    """Look at batches of one type in their order."""

    def __init__(self, spec: TableSpec, settings: LakeSettings) -> None:
        self._spec = spec
        self._settings = settings
        self.memory = SeriesMemory()

    def look(self, rows: pl.DataFrame, value: Numbers, ingested: datetime) -> dict[str, Numbers]:
        """Return `step_ms`, `deviations` and `ahead_ms` of each row; of candles two lengths more."""
        event = _ms(rows, self._spec.event_time)
        wanted = {"event": event, "value": value, "end": event}
        found = {"ahead_ms": self._ahead(rows, ingested)}
        if "close_time" in rows.columns:
            wanted["end"] = _ms(rows, "close_time")
            found["length_ms"] = wanted["end"] - event
        now = rows.select(self._spec.key).with_columns(
            **{name: pl.Series(values, nan_to_null=True) for name, values in wanted.items()},
            trusted=pl.Series(~(found["ahead_ms"] > self._settings.clock_tolerance_ms)),
        )
        found |= self._steps(now)
        if "close_time" not in rows.columns:
            found.pop("gap_ms")
        return found

    def _steps(self, now: pl.DataFrame) -> dict[str, Numbers]:
        last = self.memory.last
        before = 0 if last is None else last.height
        frame = now if last is None else pl.concat([last, now])
        columns = ("event", "value", "end", "trusted")
        numbered = frame.select(_series_number(frame, self._spec.key), *columns).lazy()
        usable = bool(frame["trusted"].all())
        logarithm = pl.when(pl.col("value") > 0).then(pl.col("value").log())
        stepped = numbered.with_columns(
            step=pl.col("event") - _previous(pl.col("event"), all_trusted=usable),
            gap=pl.col("event") - _previous(pl.col("end"), all_trusted=usable),
            # Steps go up and down alike, so they deviate from no step at all.
            off=(logarithm - _previous(logarithm, all_trusted=usable)).abs(),
        )
        usual = (
            stepped.group_by("series")
            .agg(usual=pl.col("off").median() * _TO_DEVIATION, count=pl.col("off").count())
            .select("series", usual=pl.when(pl.col("count") >= _FEWEST).then(pl.col("usual")))
            .with_columns(pl.col("usual").clip(lower_bound=_LEAST_DEVIATION))
        )
        moved = (
            stepped.join(usual, on="series", how="left", maintain_order="left")
            .select("step", "gap", deviations=pl.col("off") / pl.col("usual"))
            .collect()
        )
        known = frame if usable else frame.filter("trusted")
        newest = known.unique(self._spec.key, keep="last", maintain_order=True).tail(MAX_SERIES)
        self.memory = replace(self.memory, last=newest)
        names = {"step_ms": "step", "gap_ms": "gap", "deviations": "deviations"}
        return {name: _numbers(moved[column].slice(before)) for name, column in names.items()}

    def _ahead(self, rows: pl.DataFrame, ingested: datetime) -> Numbers:
        """Return how far the times of each row lie ahead of the clocks that bound them.

        No time may lie ahead of the landing. The exchange's time may moreover not lie ahead of
        `lastUpdated` by more than the skew that the exchange's clock is seen to have.
        """
        updated = _ms(rows, "last_updated")
        ahead = updated - ingested.timestamp() * 1000
        if "timestamp" in rows.columns:
            ahead = np.fmax(ahead, self._beyond_skew(rows, _ms(rows, "timestamp") - updated))
        return ahead

    def _beyond_skew(self, rows: pl.DataFrame, ahead: Numbers) -> Numbers:
        exchange = rows["exchange_id"].fill_null("").cast(pl.Categorical)
        codes = exchange.to_physical().to_numpy()
        beyond, skews = ahead.copy(), dict(self.memory.skews)
        for code in np.unique(codes):
            mine = codes == code
            name = str(exchange[int(np.argmax(mine))])
            seen = np.concatenate([skews.get(name, np.zeros(0)), ahead[mine]])
            seen = seen[np.isfinite(seen)]
            skews[name] = seen[-_SKEW_SAMPLES:]
            skew = float(np.clip(np.median(seen), 0, self._settings.clock_skew_max_ms)) if len(seen) else 0.0
            beyond[mine] -= skew
        self.memory = replace(self.memory, skews=skews)
        return beyond


def _previous(value: pl.Expr, *, all_trusted: bool) -> pl.Expr:
    """Return the value of the row before in the same series, passing over rows ahead of the clock.

    A quote stamped an hour ahead would otherwise make the next genuine one look an hour late.
    """
    if all_trusted:
        return value.shift().over("series")
    return pl.when("trusted").then(value).forward_fill().shift().over("series")


def _series_number(frame: pl.DataFrame, key: Sequence[str]) -> pl.Series:
    """Return a number per row that identifies its series; numbers compare faster than texts."""
    number = pl.zeros(frame.height, pl.UInt64, eager=True)
    for name in key:
        codes = frame[name].fill_null("").cast(pl.Categorical).to_physical().cast(pl.UInt64)
        number = number * (int(codes.to_numpy().max(initial=0)) + 1) + codes
    return number.alias("series")


def _ms(rows: pl.DataFrame, column: str) -> Numbers:
    return _numbers(rows[column].dt.epoch("us") / 1000)


def _numbers(series: pl.Series) -> Numbers:
    values: Numbers = series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.array(values)
