"""Define Kraken's frames as msgspec structs with the exchange's field names, and the checksum of a book."""

from __future__ import annotations

import zlib
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from coinstream.feeds.exchanges.order_book import TextBook
from coinstream.feeds.parser import Finite, Number

TextLevel = tuple[str, str]
"""Price and size as the exchange writes them."""
_CHECKED: Final = 10
"""Levels per side that the checksum covers."""


class ChannelHead(msgspec.Struct, gc=False):
    """Fields that identify the kind of an object."""

    event: str = ""
    channel: str = ""
    type: str = ""
    method: str = ""
    data: msgspec.Raw = msgspec.Raw()
    success: bool | None = None
    error: Any = None
    errorMessage: str = ""  # noqa: N815 (the exchange's name)
    status: str = ""
    result: msgspec.Raw = msgspec.Raw()


class Subscription(msgspec.Struct, gc=False):
    """The result of a subscription to a book."""

    channel: str = ""
    symbol: str = ""
    depth: int = 0


class Ticker1(msgspec.Struct, gc=False):
    """Ticker of v1: ask, bid, close, volume, open. Pairs hold today and the last 24 hours."""

    a: tuple[Number, Number, Number]
    b: tuple[Number, Number, Number]
    c: tuple[Number, Number]
    v: tuple[Number, Number]
    o: tuple[Number, Number] | None = None


class PriceLevel(msgspec.Struct, array_like=True, gc=False):
    """A level of a book of v1, as text."""

    price: str
    size: str


class Book1(msgspec.Struct, gc=False):
    """A snapshot (`as`, `bs`) or a change (`a`, `b`) of a book of v1, with its checksum `c`."""

    as_: list[PriceLevel] | None = msgspec.field(default=None, name="as")
    bs: list[PriceLevel] | None = None
    a: list[PriceLevel] = []
    b: list[PriceLevel] = []
    c: str | None = None


class Trade1(msgspec.Struct, array_like=True, gc=False):
    """A trade of v1."""

    price: Number
    size: Number
    time: Number
    side: str = ""


class Candle1(msgspec.Struct, array_like=True, gc=False):
    """A candle of v1."""

    time: Number
    end: Number
    open: Number
    high: Number
    low: Number
    close: Number
    vwap: Number
    volume: Number


class Spread1(msgspec.Struct, array_like=True, gc=False):
    """The best bid and ask of v1."""

    bid: Number
    ask: Number
    time: Number
    bid_size: Number | None = None
    ask_size: Number | None = None


class Ticker2(msgspec.Struct, gc=False):
    """Ticker of v2; an update may leave out what did not change."""

    symbol: str
    bid: Number | None = None
    bid_qty: Number | None = None
    ask: Number | None = None
    ask_qty: Number | None = None
    last: Number | None = None
    volume: Number | None = None
    change_pct: Finite | None = None
    timestamp: datetime | None = None


class TickerFrame(msgspec.Struct, gc=False):
    """A whole frame of the ticker channel of v2 with one ticker."""

    channel: Literal["ticker"]
    data: tuple[Ticker2]


class Level2(msgspec.Struct, gc=False):
    """A level of a book of v2; its text is what the checksum covers."""

    price: msgspec.Raw
    qty: msgspec.Raw


class Book2(msgspec.Struct, gc=False):
    """A snapshot or a change of a book of v2."""

    symbol: str
    bids: list[Level2] = []
    asks: list[Level2] = []
    checksum: int | None = None
    timestamp: datetime | None = None


class Trade2(msgspec.Struct, gc=False):
    """A trade of v2."""

    symbol: str
    price: Number
    timestamp: datetime
    qty: Number = 0.0
    side: str = ""
    trade_id: int | None = None


class Candle2(msgspec.Struct, gc=False):
    """A candle of v2."""

    symbol: str
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    interval_begin: datetime
    interval: int
    timestamp: datetime | None = None


class RestLevel(msgspec.Struct, array_like=True, gc=False):
    """A level of a book over REST."""

    price: Number
    size: Number


class RestBook(msgspec.Struct, gc=False):
    """A book over REST."""

    bids: list[RestLevel] = []
    asks: list[RestLevel] = []


head: Final = msgspec.json.Decoder(ChannelHead)
array: Final = msgspec.json.Decoder(list[msgspec.Raw])
text: Final = msgspec.json.Decoder(str)
subscription: Final = msgspec.json.Decoder(Subscription)
ticker1: Final = msgspec.json.Decoder(Ticker1, strict=False)
book1: Final = msgspec.json.Decoder(Book1)
trade1: Final = msgspec.json.Decoder(Trade1, strict=False)
candle1: Final = msgspec.json.Decoder(Candle1, strict=False)
spread1: Final = msgspec.json.Decoder(Spread1, strict=False)
ticker_frame: Final = msgspec.json.Decoder(TickerFrame, strict=False)
ticker2: Final = msgspec.json.Decoder(Ticker2, strict=False)
book2: Final = msgspec.json.Decoder(Book2, strict=False)
trade2: Final = msgspec.json.Decoder(Trade2, strict=False)
candle2: Final = msgspec.json.Decoder(Candle2, strict=False)
books: Final = msgspec.json.Decoder(dict[str, RestBook], strict=False)
_TIMEFRAMES: Final = {1440: "1d", 10080: "1w", 21600: "15d"}


def text_of(raw: msgspec.Raw) -> str:
    """Return a number as the exchange writes it, without quotes."""
    return bytes(raw).decode().strip('"')


def timeframe_of(minutes: int) -> str:
    """Return the name of a candle's length."""
    if minutes in _TIMEFRAMES:
        return _TIMEFRAMES[minutes]
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def book_checksum(book: TextBook) -> int:
    """Return the CRC-32 of the best ten asks and bids, without points and leading zeros."""
    bids, asks = book.best(_CHECKED)
    digits = [text.replace(".", "").lstrip("0") for level in (*asks, *bids) for text in level]
    return zlib.crc32("".join(digits).encode())
