"""Convert ccxt's unified structures to messages."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any, Final

from coinstream.feeds.exchanges.parsing import signed
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parsers.base import from_ms, from_ns
from coinstream.feeds.parsers.market_state import Memory
from coinstream.messages import Level1, Message, Ohlcv, Price

Ticker = Mapping[str, Any]


_BAD: Final = (ValueError, OverflowError, KeyError, TypeError, AttributeError, IndexError, OSError)
"""Errors raised by structures that differ from ccxt's documentation."""


def quote_of(
    memory: Memory, ticker: Ticker, received_ns: int, market: Instrument | None = None
) -> Level1 | Reason:
    """Return the quote in a ticker, or the reason why there is none.

    Args:
        market: market whose sizes are in contracts; they are converted to base currency.
    """
    received = from_ns(received_ns)
    try:
        bid, ask = _number(ticker.get("bid")), _number(ticker.get("ask"))
        bid_size = _size(ticker.get("bidVolume"), bid, market)
        ask_size = _size(ticker.get("askVolume"), ask, market)
        at = _moment(ticker) or received
        return memory.quote(_symbol(ticker), bid, ask, bid_size, ask_size, at, received)
    except _BAD:
        return Reason.BAD_VALUE


def price_of(memory: Memory, ticker: Ticker, received_ns: int) -> Price | Reason:
    """Return the price in a ticker, or the reason why there is none. An invalid change is omitted."""
    try:
        last, volume = _number(ticker.get("last")), _number(ticker.get("baseVolume"))
        change = signed(ticker.get("percentage"))
        return memory.ticker(_symbol(ticker), last, _moment(ticker), from_ns(received_ns), volume, change)
    except _BAD:
        return Reason.BAD_VALUE


def tickers_in(update: Any) -> list[Any]:
    """Return the tickers of an update, which is a ticker, a list, or a mapping by symbol."""
    if isinstance(update, dict):
        return [update] if "symbol" in update else list(update.values())
    return list(update) if isinstance(update, list) else [update]


def top_of(book: Any) -> dict[str, Any] | None:
    """Return the best bid and ask of a book as a ticker, or None if it is not a book."""
    try:
        (bid, bid_size), (ask, ask_size) = (_best(book.get(side)) for side in ("bids", "asks"))
        return {
            **{"symbol": book.get("symbol"), "bid": bid, "bidVolume": bid_size, "ask": ask},
            **{"askVolume": ask_size, "timestamp": book.get("timestamp")},
        }
    except _BAD:
        return None


def contracts_of(markets: Any) -> dict[str, Instrument]:
    """Return ccxt's markets whose sizes are in contracts, by symbol."""
    found = {}
    for symbol, market in (markets or {}).items():
        size = signed(market.get("contractSize"))
        if market.get("contract") and size and size > 0:
            found[symbol] = Instrument(
                *(str(market.get("id")), symbol, str(market.get("base")), str(market.get("quote"))),
                kind="swap",
                settle=str(market.get("settle")),
                contract_size=size,
                inverse=bool(market.get("inverse")),
            )
    return found


def _best(side: Any) -> tuple[Any, Any]:
    return (side[0][0], side[0][1]) if side else (None, None)


def _symbol(ticker: Ticker) -> str:
    symbol = ticker["symbol"]
    if not isinstance(symbol, str) or not symbol:
        raise ValueError(f"{symbol!r} is not a symbol")
    return symbol


def _size(value: Any, price: float | None, market: Instrument | None) -> float | None:
    size = _number(value)
    return size if size is None or market is None else market.base_size(size, price or 0.0)


def candles_of(
    last: dict[str, tuple[Any, ...]],
    exchange: str,
    symbol: str,
    timeframe: str,
    rows: Sequence[Sequence[Any]],
    received_ns: int,
) -> Iterator[Message | Reason]:
    """Yield the candles of ccxt's rows, without those already in `last`."""
    length, received = _length(timeframe), from_ns(received_ns)
    for row in rows if isinstance(rows, (list, tuple)) else ():
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
    if isinstance(value, bool):
        raise ValueError(f"{value!r} is no price or size")
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
