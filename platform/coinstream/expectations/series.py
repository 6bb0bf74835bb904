"""What only shows against a message's neighbours: steps in time, gaps, jumps and clock skew.

The newest rows of every series are remembered from one batch to the next, so that a batch's first message is
compared with the last of the batch before.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl

from coinstream.lake.schemas import TableSpec

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


class Series:
    """Looks at batches of one type in their order."""

    def __init__(self, spec: TableSpec, skew_max_ms: int) -> None:
        self._spec = spec
        self._skew_max_ms = skew_max_ms
        self._last: pl.DataFrame | None = None
        self._skews: dict[str, Numbers] = {}

    def look(self, rows: pl.DataFrame, value: Numbers, ingested: datetime) -> dict[str, Numbers]:
        """Of each row `step_ms`, `deviations`, `ahead_ms`, `event_ms`; of candles two more lengths."""
        event = _ms(rows, self._spec.event_time)
        wanted = {"event": event, "value": value, "end": event}
        found = {"event_ms": event}
        if "close_time" in rows.columns:
            wanted["end"] = _ms(rows, "close_time")
            found["length_ms"] = wanted["end"] - event
        now = rows.select(self._spec.key).with_columns(
            **{name: pl.Series(values, nan_to_null=True) for name, values in wanted.items()}
        )
        found |= self._steps(now)
        if "close_time" not in rows.columns:
            found.pop("gap_ms")
        found["ahead_ms"] = self._ahead(rows, event, ingested)
        return found

    def _steps(self, now: pl.DataFrame) -> dict[str, Numbers]:
        before = 0 if self._last is None else self._last.height
        frame = now if self._last is None else pl.concat([self._last, now])
        key = list(self._spec.key)
        moved = frame.with_columns(
            step=pl.col("event").diff().over(key),
            gap=(pl.col("event") - pl.col("end").shift().over(key)),
            # Steps go up and down alike, so they deviate from no step at all.
            off=pl.when(pl.col("value") > 0).then(pl.col("value").log()).diff().over(key).abs(),
        )
        usual = (pl.col("off").median().over(key) * _TO_DEVIATION).clip(lower_bound=_LEAST_DEVIATION)
        known = pl.col("off").count().over(key) >= _FEWEST
        moved = moved.with_columns(deviations=pl.when(known).then(pl.col("off") / usual))
        self._last = frame.unique(key, keep="last", maintain_order=True).tail(MAX_SERIES)
        names = {"step_ms": "step", "gap_ms": "gap", "deviations": "deviations"}
        return {name: _numbers(moved[column].slice(before)) for name, column in names.items()}

    def _ahead(self, rows: pl.DataFrame, event: Numbers, ingested: datetime) -> Numbers:
        """How far the exchange's time lies ahead of ours, less the skew that its clock is seen to have."""
        if self._spec.event_time == "timestamp":
            ahead = event - _ms(rows, "last_updated")
        else:
            ahead = _ms(rows, "last_updated") - ingested.timestamp() * 1000
        exchange = rows["exchange_id"].fill_null("").cast(pl.Categorical)
        codes = exchange.to_physical().to_numpy()
        for code in np.unique(codes):
            mine = codes == code
            name = str(exchange[int(np.argmax(mine))])
            seen = np.concatenate([self._skews.get(name, np.zeros(0)), ahead[mine]])
            seen = seen[np.isfinite(seen)]
            self._skews[name] = seen[-_SKEW_SAMPLES:]
            skew = float(np.clip(np.median(seen), 0, self._skew_max_ms)) if len(seen) else 0.0
            ahead[mine] -= skew
        return ahead


def _ms(rows: pl.DataFrame, column: str) -> Numbers:
    return _numbers(rows[column].dt.epoch("us") / 1000)


def _numbers(series: pl.Series) -> Numbers:
    values: Numbers = series.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    return np.array(values)
