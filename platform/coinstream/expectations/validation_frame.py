"""The frame that Great Expectations looks at: a row a message, a column a question.

Decimals become floats only after everything that floats cannot prove (how many digits stood on the
wire, whether a field was there) has been answered on the decimals and texts themselves.
"""

from __future__ import annotations

import re
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.expectations.book_levels import Side
from coinstream.expectations.series import Numbers, Series, SeriesMemory
from coinstream.lake.batch import Batch
from coinstream.lake.schemas import TableSpec
from coinstream.messages import PRICE_DECIMALS
from coinstream.precision import decimals_of
from coinstream.settings import LakeSettings

if TYPE_CHECKING:
    import pandas as pd

FIRST_MS: Final = 1_230_768_000_000.0
"""2009-01-01, the days of the first block."""
LAST_MS: Final = 4_102_444_800_000.0
"""2100-01-01."""
EXCHANGE_FORM: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
SYMBOL_FORM: Final = re.compile(r"[^\s/:]{1,32}/[^\s/:]{1,32}(?::[^\s/:]{1,64})?\Z")

_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
SIDE_FORM: Final = re.compile(r"(?:buy|sell)\Z")

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
    """Makes the frames of the batches of one type, in their order."""

    def __init__(self, spec: TableSpec, settings: LakeSettings) -> None:
        self._spec = spec
        self._series = Series(spec, settings)

    @property
    def memory(self) -> SeriesMemory:
        """Return what is remembered of earlier rows."""
        return self._series.memory

    @memory.setter
    def memory(self, memory: SeriesMemory) -> None:
        self._series.memory = memory

    def build(self, batch: Batch, ingested: datetime) -> pd.DataFrame:
        """Return the frame of a batch: one row per message, one column per question."""
        import pandas as pd

        spec, rows = self._spec, batch.rows
        numbers = {column.name: _floats(rows[column.name]) for column in spec.numbers}
        columns: dict[str, Any] = {
            "fault": _category(batch.fault),
            "missing": _category(_missing(batch)),
            "utc_times": np.asarray(batch.utc_times),
            "exchange_form": _form(rows["exchange_id"], EXCHANGE_FORM),
            **numbers,
        }
        if "symbol" in rows.column_names:
            columns["symbol_form"] = _form(rows["symbol"], SYMBOL_FORM)
        if spec.prices:
            beyond = [_decimals_beyond(rows[column.name]) for column in spec.prices]
            columns["decimals_beyond"] = _most(beyond)
            columns["lowest_price"] = _least([numbers[column.name] for column in spec.prices])
        sizes = [numbers[name] for name in _SIZES if name in numbers]
        if sizes:
            columns["smallest_size"] = _least(sizes)
        if "side" in rows.column_names:
            columns["side_form"] = _form(rows["side"], SIDE_FORM)
        if "bids" in rows.column_names:
            columns |= _book_columns(rows)
            numbers |= {name: columns[name] for name in ("best_bid", "best_ask")}
        quantities = [numbers[name] for name in _QUANTITIES if name in numbers]
        if quantities:
            columns["smallest_quantity"] = _least(quantities)
        columns["outside_ms"] = _outside_ms([rows[column.name] for column in spec.times])
        texts = [*spec.key, *(column.name for column in spec.times)]
        looked = pl.from_arrow(rows.select(list(dict.fromkeys(texts))))
        assert isinstance(looked, pl.DataFrame)
        columns |= self._series.look(looked, _value(numbers, rows), ingested)
        return pd.DataFrame(columns)


def _value(numbers: dict[str, Numbers], rows: pa.Table) -> Numbers:
    """Return the number of a message whose jumps are looked for."""
    if "best_bid" in numbers:
        middle: Numbers = (numbers["best_bid"] + numbers["best_ask"]) / 2
        return middle
    for name in ("close_price", "usd_price", "trade_price", "mark_price", "total_market_cap"):
        if name in numbers:
            return numbers[name]
    return next(iter(numbers.values()), np.zeros(len(rows)))


def _outside_ms(times: list[pa.ChunkedArray]) -> Numbers:
    """Return how far the farthest time of a message lies outside of the years that markets have."""
    farthest: Numbers = np.zeros(len(times[0]))
    for values in times:
        moment = values.cast(pa.int64()).to_numpy().astype(np.float64) / 1000
        farthest = np.fmax(farthest, np.fmax(FIRST_MS - moment, moment - LAST_MS))
    return farthest


def _floats(values: pa.ChunkedArray) -> Numbers:
    floats: Numbers = values.cast(pa.float64()).to_numpy()
    return floats


def _least(columns: list[Numbers]) -> Numbers:
    least = columns[0]
    for column in columns[1:]:
        least = np.fmin(least, column)
    return least


def _most(columns: list[Numbers]) -> Numbers:
    most = columns[0]
    for column in columns[1:]:
        most = np.fmax(most, column)
    return most


def _category(texts: pa.ChunkedArray | pa.Array) -> Any:
    import pandas as pd

    if texts.null_count == len(texts):
        return pd.Categorical.from_codes(np.full(len(texts), -1, np.int8), categories=["-"])
    return texts.dictionary_encode().to_pandas()


def _missing(batch: Batch) -> pa.Array:
    """Return the first required field that a readable message lacks; a malformed time counts as present."""
    missing = pa.nulls(len(batch), pa.string())
    readable = pc.is_null(batch.fault)
    for column in batch.spec.columns:
        values = batch.rows[column.name]
        if not column.required or not values.null_count:
            continue
        absent = pc.and_(pc.is_null(values), readable)
        if column in batch.spec.times:
            absent = pc.and_(absent, batch.utc_times)
        missing = pc.if_else(absent, column.wire, missing)
    return missing


def _form(texts: pa.ChunkedArray, form: re.Pattern[str]) -> npt.NDArray[np.bool_]:
    """Whether each text has the form; a text that is absent is another rule's concern."""
    coded = texts.combine_chunks().dictionary_encode()
    coded = coded.chunk(0) if isinstance(coded, pa.ChunkedArray) and coded.num_chunks else coded
    fits = np.array([bool(form.match(text)) for text in coded.dictionary.to_pylist()] + [True])
    places = pc.fill_null(coded.indices, len(fits) - 1).to_numpy(zero_copy_only=False)
    fitting: npt.NDArray[np.bool_] = fits[places]
    return fitting


def _decimals_beyond(prices: pa.ChunkedArray | pa.Array) -> Numbers:
    """Return how many decimals too many each price has, counted on its wire digits."""
    beyond = np.zeros(len(prices))
    fits = pc.fill_null(pc.equal(pc.round(prices, PRICE_DECIMALS), prices), True)
    if not pc.all(fits).as_py():
        at = np.flatnonzero(~np.asarray(fits))
        found = prices.take(pa.array(at)).to_pylist()
        beyond[at] = [max(_decimals(price) - decimals_of(price), 0) for price in found]
    return beyond


def _book_columns(rows: pa.Table) -> dict[str, Any]:
    """Return the questions about the levels of order books."""
    bids, asks = Side.of(rows["bids"]), Side.of(rows["asks"])
    depth = _floats(rows["depth"])
    # fmax passes over absent values: only the longest count of a book matters.
    beyond = np.zeros(len(depth))
    for side in (bids, asks):
        np.fmax.at(beyond, side.row, _decimals_beyond(side.price))
    return {
        "best_bid": bids.best(),
        "best_ask": asks.best(),
        "lowest_price": np.fmin(bids.lowest(bids.prices), asks.lowest(asks.prices)),
        "smallest_size": np.fmin(bids.lowest(bids.sizes), asks.lowest(asks.sizes)),
        "decimals_beyond": beyond,
        "levels_sorted": bids.is_sorted(rising=False) & asks.is_sorted(rising=True),
        "levels_beyond": np.maximum(bids.depth(), asks.depth()) - depth,
    }


def _decimals(value: Decimal) -> int:
    exponent = value.normalize(_EXACT).as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
