"""ccxt's unified structures to messages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import from_ms, from_ns
from coinstream.feeds.parsers.market_state import Memory
from coinstream.messages import Level1, Message, Ohlcv, Price

Ticker = Mapping[str, Any]


def quote_of(memory: Memory, ticker: Ticker, received_ns: int) -> Level1 | Reason:
    """The quote in a ticker, or why there is none."""
    received = from_ns(received_ns)
    try:
        bid, ask = _number(ticker.get("bid")), _number(ticker.get("ask"))
        bid_size, ask_size = _number(ticker.get("bidVolume")), _number(ticker.get("askVolume"))
        at = _moment(ticker) or received
        return memory.quote(str(ticker["symbol"]), bid, ask, bid_size, ask_size, at, received)
    except (ValueError, OverflowError, KeyError):
        return Reason.BAD_VALUE


def price_of(memory: Memory, ticker: Ticker, received_ns: int) -> Price | Reason:
    """The price in a ticker, or why there is none."""
    try:
        last, volume = _number(ticker.get("last")), _number(ticker.get("baseVolume"))
        change = ticker.get("percentage")
        return memory.ticker(
            str(ticker["symbol"]),
            last,
            _moment(ticker),
            from_ns(received_ns),
            volume,
            None if change is None else float(change),
        )
    except (ValueError, OverflowError, KeyError):
        return Reason.BAD_VALUE


def candles_of(
    last: dict[str, tuple[Any, ...]],
    exchange: str,
    symbol: str,
    timeframe: str,
    rows: Sequence[Sequence[Any]],
    received_ns: int,
) -> Iterator[Message | Reason]:
    """The candles of rows of ccxt; those told before in `last` are no news."""
    length, received = _length(timeframe), from_ns(received_ns)
    for row in rows:
        try:
            begin_ms, *numbers = row[:6]
            values = [_number(value) for value in numbers]
            opened = from_ms(float(begin_ms))
        except (ValueError, OverflowError, TypeError):
            yield Reason.BAD_VALUE
            continue
        if len(values) != 5 or any(value is None for value in values[:4]):
            yield Reason.INCOMPLETE
            continue
        told = (begin_ms, *values)
        before = last.get(symbol)
        if before == told:
            yield Reason.DUPLICATE
            continue
        if before is not None and begin_ms < before[0]:
            yield Reason.OUT_OF_DATE
            continue
        last[symbol] = told
        begin, high, low, close, volume = (value or 0.0 for value in values)
        yield Ohlcv(
            exchange, symbol, timeframe, opened, opened + length, begin, high, low, close, volume, received
        )


def _number(value: Any) -> float | None:
    if value is None or value == "":
        return None
    number = float(value)
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is no price or size")
    return number


def _moment(ticker: Ticker) -> datetime | None:
    told = ticker.get("timestamp")
    return from_ms(float(told)) if told else None


@cache
def _length(timeframe: str) -> timedelta:
    import ccxt

    return timedelta(seconds=ccxt.Exchange.parse_timeframe(timeframe))
