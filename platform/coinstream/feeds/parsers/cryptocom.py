"""Crypto.com's websocket v2 and v1. Source: the exchange's API documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Parsed, rejected
from coinstream.feeds.parsers.json_base import JsonParser, moment, number
from coinstream.feeds.parsers.market_state import collect
from coinstream.feeds.symbols import split_at
from coinstream.messages import Message


class CryptocomParser(JsonParser):
    """Tickers and books to Level1, tickers and trades to Price, candles to Ohlcv."""

    def __init__(self, exchange: str = "cryptocom") -> None:
        super().__init__(exchange)

    def _on(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        if value.get("method") in ("public/heartbeat", "public/respond-heartbeat"):
            return HEARTBEAT
        if value.get("code"):
            return rejected(Reason.REFUSED, str(value.get("message", value["code"])))
        result = value.get("result")
        if not isinstance(result, dict) or "channel" not in result:
            return (
                (ACKNOWLEDGED if frame.url is None else STATUS)
                if "method" in value
                else rejected(Reason.UNKNOWN)
            )
        name = result.get("instrument_name") or result["data"][0]["i"]
        found: list[Message | Reason] = []
        for told in result["data"]:
            found.extend(self._entry(result, symbol_of(name), told, received))
        return collect(found)

    def _entry(self, result: Any, symbol: str, told: Any, received: datetime) -> list[Message | Reason]:
        channel = result["channel"]
        if channel == "ticker":
            at = moment(told["t"])
            bid_size, ask_size = (
                None if told.get(key) is None else number(told[key]) for key in ("bs", "ks")
            )
            bid, ask = number(told["b"]), number(told["k"])
            return [
                self.memory.quote(symbol, bid, ask, bid_size, ask_size, at, received),
                self.memory.ticker(symbol, number(told["a"]), at, received, number(told.get("v"))),
            ]
        if channel.startswith("book"):
            update = told.get("update", told)
            whole = channel == "book"
            at = moment(update["t"])
            return [self.set_book(symbol, update["bids"], update["asks"], at, received, whole=whole)]
        if channel == "trade":
            return [self.memory.trade(symbol, None, number(told["p"]), moment(told["t"]))[0]]
        if channel == "candlestick":
            timeframe = result["interval"].replace("D", "d")
            values = (told["o"], told["h"], told["l"], told["c"], told["v"])
            return [self.candle(symbol, timeframe, moment(told["t"]), values, received)]
        return [Reason.UNKNOWN]


def symbol_of(name: str) -> str:
    """`BTC_USDT`; `BTCUSD-PERP` as `BTC/USD:USD`."""
    if name.endswith("-PERP"):
        return f"{name.removesuffix('-PERP').removesuffix('USD')}/USD:USD"
    symbol = split_at(name, "_")
    if symbol is None:
        raise ValueError(f"{name!r} is no instrument")
    return symbol
