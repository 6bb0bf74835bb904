"""Read and write the packaged instrument lists, and split joined names that are in no list.

One file per exchange: gzip-compressed JSON lines, each the non-default fields of one instrument.
`scripts/instruments.py` builds them from the exchanges' own REST replies.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from coinstream.errors import FeedError
from coinstream.feeds.instruments import Instrument, InstrumentList, Kind

FOLDER: Final = Path(str(resources.files("coinstream.feeds") / "data" / "instruments"))
"""Folder of the packaged lists."""
_SUFFIX: Final = ".jsonl.gz"


class _Row(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    id: str
    symbol: str
    kind: Kind = "spot"
    contract_size: float = 1.0
    inverse: bool = False
    price_currency: str = ""
    base: str = ""
    quote: str = ""
    settle: str = ""


class Currencies(NamedTuple):
    """Currencies of all packaged lists: all currencies, and those used as quote currency."""

    all: frozenset[str]
    quotes: frozenset[str]


_rows: Final = msgspec.json.Decoder(_Row)


def packaged(exchange: str) -> InstrumentList:
    """Return the packaged list of an exchange, or an empty one if there is none.

    Raises:
        FeedError: the file is damaged.
    """
    return InstrumentList(_packaged(exchange))


def exchanges_with_lists() -> list[str]:
    """Return the exchanges that have a packaged list."""
    return sorted(path.name.removesuffix(_SUFFIX) for path in FOLDER.glob(f"*{_SUFFIX}"))


def encode(instruments: Iterable[Instrument]) -> bytes:
    """Return the contents of a list file; equal instruments give equal bytes."""
    rows = {instrument.id: _row(instrument) for instrument in instruments}
    lines = [msgspec.json.encode(_trimmed(rows[identity])) for identity in sorted(rows)]
    return gzip.compress(b"\n".join(lines), 9, mtime=0)


def decode(data: bytes) -> list[Instrument]:
    """Return the instruments of a list file.

    Raises:
        FeedError: the data is damaged.
    """
    try:
        return [_instrument(_rows.decode(line)) for line in gzip.decompress(data).splitlines()]
    except (OSError, EOFError, zlib.error, msgspec.DecodeError) as error:
        raise FeedError(f"instrument list: {error}") from error


@cache
def currencies() -> Currencies:
    """Return the currencies of all packaged lists."""
    instruments = [one for exchange in exchanges_with_lists() for one in _packaged(exchange)]
    quotes = frozenset(instrument.quote for instrument in instruments)
    return Currencies(frozenset(instrument.base for instrument in instruments) | quotes, quotes)


def split_uniquely(joined: str, instruments: InstrumentList) -> tuple[str, str] | None:
    """Split a joined name such as `BTCUSDT` into base and quote if only one split is possible.

    The name must end in exactly one of the quote currencies of all lists, that currency must be a
    quote of this exchange, and the base must be a known currency. `ARBUSD` is not split: it may be
    ARB/USD or AR/BUSD.

    Returns:
        Base and quote, or None if the split is ambiguous.
    """
    known, upper = currencies(), joined.upper()
    ends = [quote for quote in known.quotes if upper.endswith(quote) and len(upper) > len(quote)]
    if len(ends) != 1:
        return None
    base, quote = upper.removesuffix(ends[0]), ends[0]
    own = instruments.quotes
    return (base, quote) if base in known.all and (not own or quote in own) else None


def split_listed(joined: str, exchange: str) -> tuple[str, str] | None:
    """Split a joined name by the exchange's packaged list, else by `split_uniquely`."""
    listed = packaged(exchange)
    upper = joined.upper()
    found = {(one.base, one.quote) for one in listed if one.kind == "spot" and one.base + one.quote == upper}
    return found.pop() if len(found) == 1 else split_uniquely(joined, listed)


@lru_cache(maxsize=64)
def _packaged(exchange: str) -> tuple[Instrument, ...]:
    path = FOLDER / f"{exchange}{_SUFFIX}"
    try:
        return tuple(decode(path.read_bytes()))
    except FileNotFoundError:
        return ()
    except (OSError, FeedError) as error:
        raise FeedError(f"cannot read the packaged instruments of {exchange}: {error}") from error


def _row(instrument: Instrument) -> _Row:
    derived = _parts(instrument.symbol)
    own = (instrument.base, instrument.quote, instrument.settle)
    return _Row(
        instrument.id,
        instrument.symbol,
        instrument.kind,
        instrument.contract_size,
        instrument.inverse,
        instrument.price_currency,
        *(("", "", "") if own == derived else own),
    )


def _trimmed(row: _Row) -> list[object]:
    values = [getattr(row, name) for name in row.__struct_fields__]
    defaults = [getattr(_Row("", ""), name) for name in row.__struct_fields__]
    while len(values) > 2 and values[-1] == defaults[len(values) - 1]:
        values.pop()
    return values


def _instrument(row: _Row) -> Instrument:
    base, quote, settle = (row.base, row.quote, row.settle) if row.base else _parts(row.symbol)
    return Instrument(
        row.id,
        row.symbol,
        base,
        quote,
        row.kind,
        settle,
        row.contract_size,
        row.inverse,
        row.price_currency,
    )


def _parts(symbol: str) -> tuple[str, str, str]:
    base, _, rest = symbol.partition("/")
    quote, _, settle = rest.partition(":")
    return base, quote, settle.partition("-")[0]


def split_by_quotes(name: str, quotes: Iterable[str]) -> tuple[str, str] | None:
    """Split a joined name such as `RENDERUSDT` by the quote currencies that its exchange documents.

    Args:
        name: as the exchange writes it.
        quotes: all quote currencies of the market segment.

    Returns:
        Base and quote; None where no quote currency ends the name, or several do.
    """
    upper = name.upper()
    found = [quote for quote in quotes if upper.endswith(quote) and len(upper) > len(quote)]
    return (upper.removesuffix(found[0]), found[0]) if len(found) == 1 and upper.isalnum() else None
