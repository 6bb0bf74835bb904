"""Define Binance's frames as msgspec structs with the exchange's field names, and read unlisted names."""

# ruff: noqa: N815, E741

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from coinstream.feeds.instrument_lists import split_uniquely
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot
from coinstream.feeds.parser import Finite, Number


class EventHead(msgspec.Struct, gc=False):
    """Fields that identify the kind of a frame. Only combined streams have `data`."""

    stream: str = ""
    data: msgspec.Raw = msgspec.Raw()
    e: str = ""
    s: str = ""
    b: msgspec.Raw = msgspec.Raw()
    a: msgspec.Raw = msgspec.Raw()
    lastUpdateId: int | None = None
    symbol: str = ""
    result: Any = None
    id: Any = None
    error: Any = None
    code: int | None = None
    msg: str = ""


class BookTicker(msgspec.Struct, gc=False):
    """The best bid and ask; `T` and `e` on futures only."""

    u: int
    s: str
    b: Number
    B: Number
    a: Number
    A: Number
    T: int | None = None


class TradeEvent(msgspec.Struct, gc=False):
    """A trade (`t`) or an aggregate trade (`a`). `m`: the buyer is the maker."""

    e: str
    s: str
    p: Number
    q: Number
    T: int
    t: int | None = None
    a: int | None = None
    m: bool | None = None
    S: Any = None


class KlineBar(msgspec.Struct, gc=False):
    """One candle. `v` and `q` are base and quote volume, on COIN-M contracts and base volume."""

    t: int
    T: int
    i: str
    o: Number
    h: Number
    l: Number
    c: Number
    v: Number
    q: Number = 0.0


class Kline(msgspec.Struct, gc=False):
    """An update of a candle."""

    E: int
    s: str
    k: KlineBar


class Depth(msgspec.Struct, gc=False):
    """A change of a book."""

    s: str
    U: int
    u: int
    b: list[tuple[Number, Number]]
    a: list[tuple[Number, Number]]
    E: int | None = None
    T: int | None = None
    pu: int | None = None


class DepthSnapshot(msgspec.Struct, gc=False):
    """A book from REST, or the top levels of a partial depth stream."""

    lastUpdateId: int
    bids: list[tuple[Number, Number]]
    asks: list[tuple[Number, Number]]
    E: int | None = None
    T: int | None = None


class Ticker(msgspec.Struct, gc=False):
    """The last 24 hours. `v` is the base volume, on COIN-M contracts; `q` is then the base volume."""

    E: int
    s: str
    c: Number
    v: Number = 0.0
    q: Number = 0.0
    P: Finite | None = None
    o: Number | None = None


class MarkPrice(msgspec.Struct, gc=False):
    """The mark price `p`, the index `i`, the funding rate `r` and the time of the next funding `T`."""

    E: int
    s: str
    p: Number
    i: Number | None = None
    r: Finite | None = None
    T: int | None = None


class OptionMark(msgspec.Struct, gc=False):
    """The mark price `mp` of an option and the index `i`."""

    E: int
    s: str
    mp: Number
    i: Number | None = None


class ForcedOrder(msgspec.Struct, gc=False):
    """An order that closes a position by force; `ap` is its average price, `z` what was filled."""

    s: str
    S: str
    p: Number
    T: int
    q: Number
    ap: Number = 0.0
    z: Number = 0.0


class ForceOrder(msgspec.Struct, gc=False):
    """The event that carries a forced order."""

    o: ForcedOrder


head: Final = msgspec.json.Decoder(EventHead)
rows: Final = msgspec.json.Decoder(list[msgspec.Raw])
book_ticker: Final = msgspec.json.Decoder(BookTicker, strict=False)
trade: Final = msgspec.json.Decoder(TradeEvent, strict=False)
kline: Final = msgspec.json.Decoder(Kline, strict=False)
depth: Final = msgspec.json.Decoder(Depth, strict=False)
snapshot: Final = msgspec.json.Decoder(DepthSnapshot, strict=False)
ticker: Final = msgspec.json.Decoder(Ticker, strict=False)
mark_price: Final = msgspec.json.Decoder(MarkPrice, strict=False)
option_mark: Final = msgspec.json.Decoder(OptionMark, strict=False)
force_order: Final = msgspec.json.Decoder(ForceOrder, strict=False)


def kind_of_stream(stream: str) -> str:
    """Return the event of a stream's frames that do not name it."""
    kind = stream.partition("@")[2].partition("@")[0]
    if stream.startswith("!"):
        kind = stream[1:].partition("@")[0]
    if kind.startswith("kline_"):
        return "kline"
    renamed = {"miniTicker": "24hrMiniTicker", "ticker": "24hrTicker", "optionTrade": "trade"}
    return "depthUpdate" if kind.startswith("depth") else renamed.get(kind, kind)


def symbol_of(url: str | None, stream: str) -> str:
    """Return the instrument name of a depth reply or a partial depth stream, or an empty string."""
    if url is not None:
        return url.partition("symbol=")[2].partition("&")[0]
    return stream.partition("@")[0]


_OPTION_PARTS: Final = 4


def instrument_named(name: str, instruments: InstrumentList, settle: str) -> Instrument | None:
    """Return an option or a dated future by its name, or a joined name with one possible split.

    Args:
        name: name in frames.
        instruments: instrument list of the segment.
        settle: how the segment settles; empty for spot.
    """
    parts = name.upper().split("-")
    if len(parts) == _OPTION_PARTS and parts[3] in ("C", "P"):
        expiry = datetime.strptime(parts[1], "%y%m%d").replace(tzinfo=UTC)
        option = "C" if parts[3] == "C" else "P"
        return derivative(name, parts[0], "USDT", "USDT", expiry=expiry, strike=parts[2], option=option)  # type: ignore[arg-type]
    pair, _, date = name.upper().partition("_")
    if date.isdigit() and settle:
        return _dated(name, pair, date, instruments)
    if not pair.isalnum() or date or settle == "base":
        return None
    split = split_uniquely(pair, instruments)
    if split is None:
        return None
    return derivative(name, *split, split[1]) if settle else spot(name, *split)


def _dated(name: str, pair: str, date: str, instruments: InstrumentList) -> Instrument | None:
    like = instruments.get(pair) or instruments.get(f"{pair}_PERP")
    if like is None:
        return None
    return derivative(
        *(name, like.base, like.quote, like.settle),
        expiry=datetime.strptime(date, "%y%m%d").replace(tzinfo=UTC),
        contract_size=like.contract_size,
        inverse=like.inverse,
    )
