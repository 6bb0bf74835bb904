"""KuCoin's websocket and REST books. Source: the exchange's API documentation.

`/market/level2` numbers its changes `sequenceStart` to `sequenceEnd` on top of the REST book whose
`sequence` they follow. The ticker carries the top with sizes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected
from coinstream.feeds.parsers.json_base import JsonParser, found, levels, moment, number
from coinstream.feeds.parsers.market_state import Change, single, unknown_symbol
from coinstream.feeds.symbols import split_at

_UNITS: Final = {"min": "m", "hour": "h", "day": "d", "week": "w"}


class KucoinParser(JsonParser):
    """Tickers and books to Level1, tickers and trades to Price, candles to Ohlcv."""

    def __init__(self, exchange: str = "kucoin") -> None:
        super().__init__(exchange)

    def _on(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        kind = value.get("type")
        if kind in ("welcome", "ack"):
            return ACKNOWLEDGED
        if kind in ("pong", "ping"):
            return HEARTBEAT
        if kind == "error":
            return rejected(Reason.REFUSED, str(value.get("data")))
        if kind == "message":
            return self._message(value["topic"], value, received)
        if frame.url is not None:
            return self._reply(value, frame, received)
        return rejected(Reason.UNKNOWN, f"type {kind!r}")

    def _message(self, topic: str, value: Any, received: datetime) -> Parsed:
        channel, _, name = topic.partition(":")
        data = value["data"]
        if name == "all":
            name = value["subject"]
        name, _, detail = name.partition("_")
        symbol = split_at(name, "-")
        if symbol is None:
            return unknown_symbol(name)
        match channel.rpartition("/")[2]:
            case "ticker":
                return self._ticker(symbol, data, received)
            case "level2":
                change = Change(
                    data["sequenceStart"],
                    data["sequenceEnd"],
                    levels(data["changes"]["bids"]),
                    levels(data["changes"]["asks"]),
                )
                result = self.memory.book(symbol).change(change)
                if isinstance(result, Gap):
                    return Parsed((), (Reason.BOOK_UNSYNCED,), "", result._replace(symbol=symbol))
                at = moment(data["time"]) if "time" in data else received
                return (
                    rejected(result) if result is not None else single(self.memory.top(symbol, at, received))
                )
            case "level1":
                at = moment(data["timestamp"])
                return found(self.set_book(symbol, [data["bids"]], [data["asks"]], at, received, whole=True))
            case "level2Depth5" | "level2Depth50":
                at = moment(data["timestamp"])
                return found(self.set_book(symbol, data["bids"], data["asks"], at, received, whole=True))
            case "match":
                price = number(data["price"])
                return single(*self.memory.trade(symbol, int(data["sequence"]), price, moment(data["time"])))
            case "candles":
                amount = detail.rstrip("abcdefghijklmnopqrstuvwxyz")
                timeframe = amount + _UNITS[detail.removeprefix(amount)]
                begin, opened, close, high, low, volume = data["candles"][:6]
                values = (opened, high, low, close, volume)
                return found(self.candle(symbol, timeframe, moment(begin), values, received))
            case "snapshot":
                return STATUS
        return rejected(Reason.UNKNOWN, f"topic {topic!r}")

    def _ticker(self, symbol: str, data: Any, received: datetime) -> Parsed:
        at = moment(data["time"]) if "time" in data else received
        return found(
            self.memory.quote(
                symbol,
                *(number(data["bestBid"]), number(data["bestAsk"])),
                *(number(data["bestBidSize"]), number(data["bestAskSize"])),
                at,
                received,
            ),
            self.memory.ticker(symbol, number(data["price"]), at, received),
        )

    def _reply(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        if value.get("code") not in (None, "200000"):
            return rejected(Reason.REFUSED, str(value.get("msg")))
        data = value.get("data")
        if not (isinstance(data, dict) and "bids" in data):
            return STATUS
        name = (frame.url or "").partition("symbol=")[2].partition("&")[0]
        symbol = split_at(name, "-")
        if symbol is None:
            return unknown_symbol(name)
        book = self.memory.book(symbol)
        if not book.replace(levels(data["bids"]), levels(data["asks"]), int(data["sequence"])):
            return rejected(Reason.SNAPSHOT_STALE)
        return single(self.memory.top(symbol, moment(data["time"]), received))
