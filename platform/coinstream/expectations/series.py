"""Compare each message with its neighbors: steps in time, gaps, jumps and clock skew.

The newest row of every series is kept between batches, so that the first message of a batch is compared with
the last one of the previous batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from coinstream.expectations.columns import Bounds, Column, Numbers, bounds_of
from coinstream.lake.schemas import TableSpec
from coinstream.settings import LakeSettings

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

MAX_SERIES: Final = 100_000
"""Maximum number of series whose newest row is kept."""
_FEWEST: Final = 10
"""Minimum steps of a series in a batch to estimate its usual step."""
_LEAST_DEVIATION: Final = 5e-4
"""Minimum usual step of a series (5 basis points), so that a tick of a quiet book is not a jump."""
_TO_DEVIATION: Final = 1.4826
"""Factor from a median absolute deviation to the standard deviation of a normal distribution."""
_SKEW_SAMPLES: Final = 1_000
_REMEMBERED: Final = ("event", "value", "end")


@dataclass(frozen=True)
class SeriesMemory:
    """State between batches. It is replaced, never modified.

    Attributes:
        last: newest trusted row of each series.
        skews: newest clock differences of each exchange.
    """

    last: pl.DataFrame | None = None
    skews: Mapping[str, Numbers] = field(default_factory=dict)


@dataclass(frozen=True)
class KeyTexts:
    """A text column as codes.

    Attributes:
        codes: a code for each row.
        texts: the text of each code. The last one is empty and stands for absent texts.
    """

    codes: Ints
    texts: list[str]

    @classmethod
    def of(cls, column: pa.ChunkedArray) -> KeyTexts:
        """Encode a column."""
        coded = pa.chunked_array(column).combine_chunks().dictionary_encode()
        if isinstance(coded, pa.ChunkedArray):
            coded = pa.concat_arrays(coded.chunks) if coded.num_chunks else pa.array([], coded.type)
        texts = [*coded.dictionary.to_pylist(), ""]
        indices = coded.indices.fill_null(len(texts) - 1) if coded.null_count else coded.indices
        return cls(indices.to_numpy().astype(np.int64), texts)


class Series:
    """Comparison of the batches of one type in order."""

    def __init__(self, spec: TableSpec, settings: LakeSettings) -> None:
        self._spec = spec
        self._settings = settings
        self.memory = SeriesMemory()

    def look(
        self, keys: Mapping[str, KeyTexts], times: Mapping[str, Numbers], value: Numbers, ingested: datetime
    ) -> dict[str, Column]:
        """Compare each row with its neighbors in the series.

        Args:
            keys: columns that identify a series.
            times: times of the messages in milliseconds, by column.
            value: value that is checked for jumps.
            ingested: time of landing.

        Returns:
            The columns `step_ms`, `deviations` and `ahead_ms`. Candles have `length_ms` and `gap_ms` too.
        """
        event = times[self._spec.event_time]
        end = times.get("close_time", event)
        ahead = self._ahead(keys["exchange_id"], times, ingested)
        trusted = ~(ahead > self._settings.clock_tolerance_ms)
        steps = self._steps([keys[name] for name in self._spec.key], event, value, end, trusted)
        found = {
            "ahead_ms": Column(lambda: ahead),
            "step_ms": Column(lambda: steps.in_rows(steps.step), lambda: bounds_of(steps.step)),
            "deviations": Column(lambda: steps.in_rows(steps.deviations), lambda: steps.deviation_bounds),
        }
        if "close_time" in times:
            found["length_ms"] = Column(lambda: end - event)
            found["gap_ms"] = Column(lambda: steps.in_rows(steps.gap), lambda: bounds_of(steps.gap))
        return found

    def _steps(
        self, keys: list[KeyTexts], event: Numbers, value: Numbers, end: Numbers, trusted: Flags
    ) -> Steps:
        number = np.zeros(len(event), np.int64)
        for key in keys:
            number = number * len(key.texts) + key.codes
        coded = pa.array(number).dictionary_encode()
        names = _key_texts(keys, coded.dictionary.to_numpy()).rename(
            dict(zip((f"column_{at}" for at in range(len(keys))), self._spec.key, strict=True))
        )
        steps = Steps(coded.indices.to_numpy(), event, value, end, trusted, self._before(names))
        self._remember(names, steps.newest(), event, value, end)
        return steps

    def _before(self, names: pl.DataFrame) -> dict[str, Numbers]:
        """Return what is remembered of each series; NaN of an unknown one."""
        last = self.memory.last
        if last is None:
            return {name: np.full(names.height, np.nan) for name in _REMEMBERED}
        found = names.join(last, on=self._spec.key, how="left", maintain_order="left")
        return {name: found[name].fill_null(float("nan")).to_numpy() for name in _REMEMBERED}

    def _remember(
        self, names: pl.DataFrame, newest: Ints, event: Numbers, value: Numbers, end: Numbers
    ) -> None:
        known = newest >= 0
        at = newest[known]
        rows = names.filter(pl.Series(known)).with_columns(
            event=pl.Series(event[at]), value=pl.Series(value[at]), end=pl.Series(end[at])
        )
        last = self.memory.last
        if last is not None:
            rows = pl.concat([last, rows]).unique(self._spec.key, keep="last", maintain_order=True)
        self.memory = replace(self.memory, last=rows.tail(MAX_SERIES))

    def _ahead(self, exchange: KeyTexts, times: Mapping[str, Numbers], ingested: datetime) -> Numbers:
        """Return how far the times of each row are ahead of their limits.

        The limit of all times is the time of landing. The limit of the exchange's time is `lastUpdated` plus
        the measured skew of the exchange's clock.
        """
        updated = times["last_updated"]
        ahead: Numbers = updated - ingested.timestamp() * 1000
        if "timestamp" in times:
            beyond = times["timestamp"] - updated
            beyond -= self._skews(exchange, beyond)[exchange.codes]
            ahead = np.fmax(ahead, beyond)
        return ahead

    def _skews(self, exchange: KeyTexts, ahead: Numbers) -> Numbers:
        """Return the usual clock skew of each exchange, and store the newest samples."""
        skew, skews = np.zeros(len(exchange.texts)), dict(self.memory.skews)
        in_order = ahead[_stable_order(exchange.codes)]
        stops = np.cumsum(np.bincount(exchange.codes, minlength=len(exchange.texts)))
        for code, (stop, name) in enumerate(zip(stops, exchange.texts, strict=True)):
            mine = in_order[stops[code - 1] if code else 0 : stop]
            if not len(mine):
                continue
            seen = np.concatenate([skews.get(name, np.zeros(0)), mine])
            seen = seen[np.isfinite(seen)]
            skews[name] = seen[-_SKEW_SAMPLES:].copy()
            if len(seen):
                skew[code] = np.clip(np.median(seen), 0, self._settings.clock_skew_max_ms)
        self.memory = replace(self.memory, skews=skews)
        return skew


class Steps:
    """Rows of a batch by series, each compared with the previous row of its series.

    Rows with times ahead of the clock are not used for comparison: otherwise the next correct row would seem
    late.

    Attributes:
        step: time since the previous row in milliseconds.
        gap: time since the end of the previous row.
        off: absolute change of the value's logarithm.
    """

    def __init__(
        self,
        series: npt.NDArray[np.int32],
        event: Numbers,
        value: Numbers,
        end: Numbers,
        trusted: Flags,
        before: Mapping[str, Numbers],
    ) -> None:
        self._order = _stable_order(series)
        self._series = series[self._order]
        self._trusted = trusted[self._order]
        self._counts = np.bincount(series, minlength=len(before["event"]))
        self._start = np.repeat(np.cumsum(self._counts) - self._counts, self._counts)
        place = np.arange(len(series))
        newest = place if trusted.all() else np.maximum.accumulate(np.where(self._trusted, place, -1))
        self._newest = newest
        self._place_before = np.concatenate([[-1], newest[:-1]])
        self._remembered = np.flatnonzero(self._place_before < self._start)
        times = event[self._order]
        ends = times if end is event else end[self._order]
        logarithms = _log(value)[self._order]
        self.step = times - self._previous(times, before["event"])
        self.gap = self.step if end is event else times - self._previous(ends, before["end"])
        self.off: Numbers = np.abs(logarithms - self._previous(logarithms, _log(before["value"])))

    @property
    def deviation_bounds(self) -> Bounds:
        """Return bounds of the deviations. A series moves at least by the least deviation."""
        widest = bounds_of(self.off)
        return widest if widest.is_empty else Bounds(0.0, widest.greatest / _LEAST_DEVIATION)

    @cached_property
    def deviations(self) -> Numbers:
        """Return the steps of the value against the usual step of their series.

        Steps go up and down alike, so they deviate from no step at all.
        """
        # Rows are in the order of their series, so that groups are slices.
        stepped = pl.DataFrame(
            {"series": pl.Series(self._series).set_sorted(), "off": pl.Series(self.off, nan_to_null=True)}
        )
        found = stepped.group_by("series").agg(usual=pl.col("off").median(), count=pl.col("off").count())
        known = found.filter(pl.col("count") >= _FEWEST)
        usual = np.full(len(self._counts), np.nan)
        usual[known["series"]] = np.maximum(known["usual"] * _TO_DEVIATION, _LEAST_DEVIATION)
        deviations: Numbers = self.off / usual[self._series]
        return deviations

    def in_rows(self, values: Numbers) -> Numbers:
        """Return values in the order of the rows."""
        rows = np.empty_like(values)
        rows[self._order] = values
        return rows

    def newest(self) -> Ints:
        """Return the row of each series that the next batch is compared with; -1 where it has none."""
        stops = np.cumsum(self._counts)
        place = self._newest[stops - 1]
        known = place >= stops - self._counts
        rows = np.full(len(place), -1, np.int64)
        rows[known] = self._order[place[known]]
        return rows

    def _previous(self, values: Numbers, before: Numbers) -> Numbers:
        previous: Numbers = values[self._place_before]
        previous[self._remembered] = before[self._series[self._remembered]]
        return previous


def _key_texts(keys: list[KeyTexts], numbers: Ints) -> pl.DataFrame:
    """Return the texts of the keys that combined numbers stand for."""
    columns = []
    for at, key in reversed(list(enumerate(keys))):
        numbers, codes = np.divmod(numbers, len(key.texts))
        columns.append(pl.Series(f"column_{at}", [key.texts[code] for code in codes], pl.String))
    return pl.DataFrame(columns[::-1])


def _stable_order(codes: npt.NDArray[np.integer]) -> Ints:
    """Return the order of rows by code; small codes are sorted by radix."""
    small = codes.astype(np.uint16) if not len(codes) or int(codes.max()) < 65_536 else codes
    return np.argsort(small, kind="stable")


def _log(value: Numbers) -> Numbers:
    positive = np.where(value > 0, value, np.nan)
    logarithm: Numbers = np.log(positive)
    return logarithm
