"""HitBTC's websocket v2 and v3, which Bequant and FMFW speak too. Source: the exchange's API documentation.

v2's ticker has no sizes; a book is a snapshot and updates whose `sequence` rises by one per symbol.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import ACKNOWLEDGED, STATUS, Frame, Gap, Parsed, rejected
from coinstream.feeds.parsers.json_base import JsonParser, levels, moment, number
from coinstream.feeds.parsers.market_state import Change, collect, percent
from coinstream.feeds.symbols import split_joined
from coinstream.messages import Message

_PERIODS: Final = {
    **{"M1": "1m", "M3": "3m", "M5": "5m", "M15": "15m", "M30": "30m", "H1": "1h", "H4": "4h"},
    **{"D1": "1d", "D7": "1w", "1M": "1M"},
}


class HitbtcParser(JsonParser):
    """Books to Level1, tickers to Level1 (v3) and Price, trades to Price, candles to Ohlcv."""

    def __init__(self, exchange: str = "hitbtc") -> None:
        super().__init__(exchange)
        self._gap: Gap | None = None

    def _on(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        if isinstance(value, list) and frame.url is not None:
            return STATUS
        if value.get("error"):
            return rejected(Reason.REFUSED, str(value["error"]))
        self._gap = None
        if "ch" in value and "result" not in value:
            items = list(self._v3(value, received))
            return collect(items, self._gap)
        method = value.get("method", "")
        if "result" in value or not method:
            known = "result" in value or frame.url is not None
            return ACKNOWLEDGED if known else rejected(Reason.UNKNOWN, "neither method nor result")
        told = value["params"]
        symbol = _symbol(told["symbol"])
        if method == "ticker":
            return collect(self._ticker2(symbol, told, received))
        if method in ("snapshotOrderbook", "updateOrderbook"):
            at = moment(told["timestamp"]) if "timestamp" in told else received
            whole = method.startswith("snapshot")
            item = self._book(symbol, told["bid"], told["ask"], int(told["sequence"]), at, received, whole)
            return collect((item,), self._gap)
        if method in ("snapshotTrades", "updateTrades"):
            return collect(
                self.memory.trade(symbol, trade["id"], number(trade["price"]), moment(trade["timestamp"]))[0]
                for trade in sorted(told["data"], key=lambda trade: -trade["id"])
            )
        if method in ("snapshotCandles", "updateCandles"):
            return collect(self._candle2(symbol, told["period"], row, received) for row in told["data"])
        return rejected(Reason.UNKNOWN, f"method {method!r}")

    def _ticker2(self, symbol: str, told: Any, received: datetime) -> Iterator[Message | Reason]:
        at, last = moment(told["timestamp"]), number(told.get("last"))
        yield Reason.NO_SIZES
        change = percent(last, number(told.get("open")))
        yield self.memory.ticker(symbol, last, at, received, number(told.get("volume")), change)

    def _book(
        self, symbol: str, bids: Any, asks: Any, sequence: int, at: datetime, received: datetime, whole: bool
    ) -> Message | Reason:
        book = self.memory.book(symbol)
        if whole:
            book.replace(levels(bids), levels(asks), sequence)
            return self.memory.top(symbol, at, received)
        result = book.change(Change(sequence, sequence, levels(bids), levels(asks)))
        if isinstance(result, Gap):
            self._gap = result._replace(symbol=symbol)
            return Reason.BOOK_UNSYNCED
        return result if result is not None else self.memory.top(symbol, at, received)

    def _candle2(self, symbol: str, period: str, row: Any, received: datetime) -> Message | Reason:
        values = (row["open"], row["max"], row["min"], row["close"], row["volume"])
        return self.candle(symbol, _PERIODS[period], moment(row["timestamp"]), values, received)

    def _v3(self, value: Any, received: datetime) -> Iterator[Message | Reason]:
        channel = value["ch"]
        whole = "update" not in value
        told = value.get("snapshot") or value.get("update") or value.get("data") or {}
        for name, data in told.items():
            symbol = _symbol(name)
            if channel.startswith(("ticker", "orderbook/top")):
                sizes = number(data["b"]), number(data["a"]), number(data["B"]), number(data["A"])
                yield self.memory.quote(symbol, *sizes, moment(data["t"]), received)
                if "c" in data:
                    last = number(data["c"])
                    change = percent(last, number(data.get("o")))
                    at, volume = moment(data["t"]), number(data.get("v"))
                    yield self.memory.ticker(symbol, last, at, received, volume, change)
            elif channel.startswith("orderbook"):
                at = moment(data["t"])
                whole_book = whole or channel.startswith("orderbook/D")
                yield self._book(symbol, data["b"], data["a"], int(data["s"]), at, received, whole_book)
            elif channel.startswith("trades"):
                for trade in sorted(data, key=lambda trade: -trade["i"]):
                    yield self.memory.trade(symbol, trade["i"], number(trade["p"]), moment(trade["t"]))[0]
            elif channel.startswith("candles/"):
                for row in data:
                    values = (row["o"], row["h"], row["l"], row["c"], row["v"])
                    period = _PERIODS[channel.partition("/")[2]]
                    yield self.candle(symbol, period, moment(row["t"]), values, received)
            else:
                yield Reason.UNKNOWN


def _symbol(name: str) -> str:
    symbol = split_joined(name)
    if symbol is None:
        raise ValueError(f"{name!r} is no symbol")
    return symbol
