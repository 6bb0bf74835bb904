"""Build the columns of the validation frame of a message type.

The number of digits on the wire and the presence of fields are determined from decimals and texts, because
floats are not exact. Bounds come from Arrow's kernels, so that most decimals of a valid batch are not
converted to floats.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.expectations.columns import (
    Bounds,
    Column,
    Numbers,
    Side,
    ValidationFrame,
    Values,
    bounds_of,
    has_at_most,
    to_floats,
)
from coinstream.expectations.series import KeyTexts, Series, SeriesMemory
from coinstream.lake.schemas import NUMBER, TableSpec
from coinstream.lake.validation import Batch
from coinstream.messages import PRICE_DECIMALS
from coinstream.serialization.precision import decimals_of
from coinstream.settings import LakeSettings

FIRST_MS: Final = 1_230_768_000_000.0
"""2009-01-01, the days of the first block."""
LAST_MS: Final = 4_102_444_800_000.0
"""2100-01-01."""
EXCHANGE_FORM: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
SYMBOL_FORM: Final = re.compile(r"[^\s/:]{1,32}/[^\s/:]{1,32}(?::[^\s/:]{1,64})?\Z")
SIDE_FORM: Final = re.compile(r"(?:buy|sell)\Z")
_FORMS: Final = {"exchange_id": EXCHANGE_FORM, "symbol": SYMBOL_FORM, "side": SIDE_FORM}
_FORM_NAMES: Final = {"exchange_id": "exchange_form", "symbol": "symbol_form", "side": "side_form"}

_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_QUANTITIES: Final = (
    "volume_24h",
    "market_cap",
    "volume",
    "total_market_cap",
    "total_volume",
    "open_interest",
)
_SIZES: Final = ("bid_size", "ask_size", "size")


class ValidationFrameBuilder:
    """Builder of validation frames for the batches of one type, in order."""

    def __init__(self, spec: TableSpec, settings: LakeSettings) -> None:
        self._spec = spec
        self._strict = settings.strict_prices
        self._series = Series(spec, settings)

    @property
    def memory(self) -> SeriesMemory:
        """Return the state from earlier rows."""
        return self._series.memory

    @memory.setter
    def memory(self, memory: SeriesMemory) -> None:
        self._series.memory = memory

    def build(self, batch: Batch, ingested: datetime) -> ValidationFrame:
        """Return the frame of a batch."""
        spec, rows = self._spec, batch.rows
        columns: dict[str, Column] = {
            "fault": _text_column(batch.fault),
            "missing": _text_column(_missing(batch)),
            "utc_times": _flag_column(batch.utc_times),
        }
        for number in spec.numbers:
            columns[number.name] = _number_column(rows[number.name])
        texts = {name: KeyTexts.of(rows[name]) for name in {*spec.key, *_FORMS} if name in rows.column_names}
        for name, form in _FORMS.items():
            if name in texts:
                columns[_FORM_NAMES[name]] = _form_column(texts[name], form)
        columns |= self._prices(rows, columns)
        for name, members in (("smallest_size", _SIZES), ("smallest_quantity", _QUANTITIES)):
            found = [columns[member] for member in members if member in columns]
            if found:
                columns[name] = _least(found)
        if "bids" in rows.column_names:
            columns |= _book_columns(rows, strict=self._strict)
        times = {column.name: _milliseconds(rows[column.name]) for column in spec.times}
        columns["outside_ms"] = _outside_column(list(times.values()))
        columns |= self._series.look(texts, times, _value(columns, spec, len(rows)), ingested)
        return ValidationFrame(len(rows), columns)

    def _prices(self, rows: pa.Table, columns: dict[str, Column]) -> dict[str, Column]:
        prices = [column.name for column in self._spec.prices]
        if not prices:
            return {}

        def beyond() -> Numbers:
            found = [_decimals_beyond(rows[name], strict=self._strict) for name in prices]
            most: Numbers = np.fmax.reduce(found)
            return most

        def bounds() -> Bounds:
            fits = all(has_at_most(rows[name], PRICE_DECIMALS).all() for name in prices)
            return Bounds(0.0, 0.0) if fits else bounds_of(column.values)

        column = Column(beyond, bounds)
        return {"decimals_beyond": column, "lowest_price": _least([columns[name] for name in prices])}


def _value(columns: dict[str, Column], spec: TableSpec, count: int) -> Numbers:
    """Return the value of each message that is checked for jumps."""
    if "best_bid" in columns:
        middle: Numbers = (columns["best_bid"].values + columns["best_ask"].values) / 2
        return middle
    names = ("close_price", "usd_price", "trade_price", "mark_price", "total_market_cap")
    for name in (*names, *(column.name for column in spec.numbers)):
        if name in columns:
            return columns[name].values
    return np.zeros(count)


def _number_column(decimals: pa.ChunkedArray) -> Column:
    def bounds() -> Bounds:
        found = pc.min_max(decimals)
        return bounds_of(to_floats(pa.array([found["min"].as_py(), found["max"].as_py()], NUMBER)))

    return Column(partial(to_floats, decimals), bounds)


def _text_column(texts: pa.ChunkedArray | pa.Array) -> Column:
    absent, count = texts.null_count, len(texts)
    presence = Bounds(float(absent == 0), float(absent < count)) if count else Bounds()
    return Column(lambda: np.array(texts.to_pylist(), np.object_), presence=lambda: presence)


def _flag_column(flags: pa.ChunkedArray) -> Column:
    def bounds() -> Bounds:
        return Bounds(1.0, 1.0) if pc.all(flags, skip_nulls=False).as_py() else Bounds(0.0, 1.0)

    return Column(lambda: np.asarray(flags), bounds)


def _form_column(texts: KeyTexts, form: re.Pattern[str]) -> Column:
    """Return whether each text has a form; a text that is absent is another rule's concern."""
    fits = np.array([bool(form.match(text)) for text in texts.texts[:-1]] + [True])
    return Column(lambda: fits[texts.codes], lambda: bounds_of(fits))


def _least(columns: list[Column]) -> Column:
    """Return the column of the least number of each row."""

    def values() -> Values:
        least: Values = np.fmin.reduce([column.values for column in columns])
        return least

    def bounds() -> Bounds:
        each = [column.bounds for column in columns]
        return Bounds(min(one.least for one in each), max(one.greatest for one in each))

    return Column(values, bounds)


def _outside_column(times: list[Numbers]) -> Column:
    """Return how far the times of each message are outside of 2009 to 2100."""

    def values() -> Numbers:
        farthest: Numbers = np.zeros(len(times[0]))
        for moment in times:
            farthest = np.fmax(farthest, np.fmax(FIRST_MS - moment, moment - LAST_MS))
        return farthest

    def bounds() -> Bounds:
        each: Iterable[Bounds] = map(bounds_of, times)
        beyond = [max(FIRST_MS - one.least, one.greatest - LAST_MS) for one in each if not one.is_empty]
        return Bounds(0.0, max([0.0, *beyond]))

    return Column(values, bounds)


def _milliseconds(times: pa.ChunkedArray) -> Numbers:
    """Return times in milliseconds since 1970; NaN where there is none."""
    micros = times.cast(pa.int64())
    milliseconds: Numbers = micros.to_numpy().astype(np.float64, copy=False) / 1000
    return milliseconds


def _missing(batch: Batch) -> pa.Array:
    """Return the first required field that a readable message lacks; a malformed time counts as present."""
    missing = pa.nulls(len(batch), pa.string())
    readable = None
    for column in batch.spec.columns:
        values = batch.rows[column.name]
        if not column.required or not values.null_count:
            continue
        readable = pc.is_null(batch.fault) if readable is None else readable
        absent = pc.and_(pc.is_null(values), readable)
        if column in batch.spec.times:
            absent = pc.and_(absent, batch.utc_times)
        missing = pc.if_else(absent, column.wire, missing)
    return missing


def _decimals_beyond(prices: pa.ChunkedArray | pa.Array, *, strict: bool) -> Numbers:
    """Return how many decimals too many each price has, counted on its wire digits."""
    beyond = np.zeros(len(prices))
    at = np.flatnonzero(~has_at_most(prices, PRICE_DECIMALS))
    if len(at):
        found = prices.take(pa.array(at)).to_pylist()
        allowed = [PRICE_DECIMALS if strict else decimals_of(price) for price in found]
        beyond[at] = [max(_decimals(price) - most, 0) for price, most in zip(found, allowed, strict=True)]
    return beyond


def _book_columns(rows: pa.Table, *, strict: bool) -> dict[str, Column]:
    """Return the columns of order book levels."""
    bids, asks = Side.of(rows["bids"]), Side.of(rows["asks"])

    def decimals_beyond() -> Numbers:
        # fmax passes over absent values: only the longest count of a book matters.
        beyond = np.zeros(bids.books)
        for side in (bids, asks):
            np.fmax.at(beyond, side.row, _decimals_beyond(side.price, strict=strict))
        return beyond

    depth = rows["depth"].cast(pa.float64()).to_numpy()
    return {
        "best_bid": Column(bids.best),
        "best_ask": Column(asks.best),
        "lowest_price": Column(lambda: np.fmin(bids.lowest(bids.prices), asks.lowest(asks.prices))),
        "smallest_size": Column(lambda: np.fmin(bids.lowest(bids.sizes), asks.lowest(asks.sizes))),
        "decimals_beyond": Column(decimals_beyond),
        "levels_sorted": Column(lambda: bids.is_sorted(rising=False) & asks.is_sorted(rising=True)),
        "levels_beyond": Column(lambda: np.maximum(bids.depth(), asks.depth()) - depth),
    }


def _decimals(value: Decimal) -> int:
    exponent = value.normalize(_EXACT).as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
