"""The base of parsers of exchanges that are read from recordings only: plain JSON values, no fixed shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import Frame, Parsed, fault, from_ms, from_ns, rejected
from coinstream.feeds.parsers.market_state import BookParser, Level, collect
from coinstream.messages import Message, Ohlcv

Found = Iterable[Message | Reason]
_json: Final = msgspec.json.Decoder(Any)
_LONGEST: Final = 1e30


class JsonParser(BookParser):
    """Decodes a frame and hands it on; what has not the shape of the protocol is a bad value."""

    def _read(self, frame: Frame) -> Parsed:
        try:
            return self._on(_json.decode(frame.payload), frame, from_ns(frame.received_ns))
        except msgspec.DecodeError as error:
            return fault(error)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            return rejected(Reason.BAD_VALUE, f"not as the protocol has it: {type(error).__name__} {error}")

    def _on(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        raise NotImplementedError

    def set_book(
        self, symbol: str, bids: Any, asks: Any, at: datetime, received: datetime, *, whole: bool
    ) -> Message | Reason:
        """Begin a symbol's book, or change it; its quote."""
        book = self.memory.book(symbol)
        if whole:
            book.replace(levels(bids), levels(asks))
        elif not book.is_synced:
            return Reason.BOOK_UNSYNCED
        else:
            book.apply(levels(bids), levels(asks))
        return self.memory.top(symbol, at, received)

    def candle(
        self, symbol: str, timeframe: str, opened: datetime, values: Sequence[Any], received: datetime
    ) -> Ohlcv:
        """A candle of open, high, low, close, volume."""
        begin, high, low, close, volume = map(number, values)
        length = length_of(timeframe)
        return Ohlcv(
            self.exchange,
            symbol,
            timeframe,
            opened,
            opened + length,
            begin,
            high,
            low,
            close,
            volume,
            received,
        )


def number(value: Any) -> float:
    """A price or size; empty text is zero.

    Raises:
        ValueError: no number that a market can have.
    """
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no number")
    told = 0.0 if value in ("", None) else float(value)
    if not (math.isfinite(told) and 0 <= told < _LONGEST):
        raise ValueError(f"{value!r} is no price or size")
    return told


def levels(told: Iterable[Any]) -> list[Level]:
    """Levels of `[price, size, …]` or `{"price": …, "size": …}`."""
    return [
        Level(number(level["price"]), number(level["size"]))
        if isinstance(level, dict)
        else Level(number(level[0]), number(level[1]))
        for level in told
    ]


def moment(told: Any) -> datetime:
    """A time in ISO form, or in s, ms, us or ns since 1970 as its size tells."""
    if isinstance(told, str) and not told.replace(".", "", 1).isdigit():
        found = msgspec.convert(told, datetime)
        return found if found.tzinfo else found.replace(tzinfo=UTC)
    since = float(told)
    for limit, to_ms in ((1e11, 1000.0), (1e14, 1.0), (1e17, 1e-3)):
        if since < limit:
            return from_ms(since * to_ms)
    return from_ms(since / 1e6)


def signed(value: Any) -> float | None:
    """A change of either sign, if it is one."""
    try:
        told = float(value)
    except (TypeError, ValueError):
        return None
    return told if math.isfinite(told) else None


def length_of(timeframe: str) -> timedelta:
    """How long a candle is; a month counts 30 days."""
    unit = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "M": 2_592_000}[timeframe[-1]]
    return timedelta(seconds=int(timeframe[:-1]) * unit)


def found(*items: Message | Reason) -> Parsed:
    """The result of a frame that gave these."""
    return collect(items)
