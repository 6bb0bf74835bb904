"""Huobi's (HTX's) websocket. Source: the exchange's API documentation.

`bbo` has the top with sizes, `depth.step*` a whole book each time; changes (`mbp.*`) need a
snapshot by request.
"""

from __future__ import annotations

import gzip
from datetime import datetime
from typing import Any, Final

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import ACKNOWLEDGED, DEPTH, HEARTBEAT, STATUS, Frame, Parsed, rejected
from coinstream.feeds.parsers.json_base import JsonParser, found, moment, number
from coinstream.feeds.parsers.market_state import collect, percent
from coinstream.feeds.symbols import split_at, split_joined

_GZIP: Final = b"\x1f\x8b"
_PERIODS: Final = {
    **{"1min": "1m", "5min": "5m", "15min": "15m", "30min": "30m", "60min": "1h", "4hour": "4h"},
    **{"1day": "1d", "1week": "1w", "1mon": "1M"},
}


class HuobiParser(JsonParser):
    """Top and books to Level1, trades and details to Price, candles to Ohlcv."""

    def __init__(self, exchange: str = "htx") -> None:
        super().__init__(exchange)

    def _read(self, frame: Frame) -> Parsed:
        if frame.payload[:2] == _GZIP:
            frame = frame._replace(payload=gzip.decompress(frame.payload))
        return super()._read(frame)

    def _on(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        if "ping" in value or "pong" in value or value.get("op") in ("ping", "pong"):
            return HEARTBEAT
        if value.get("status") == "error":
            return rejected(Reason.REFUSED, str(value.get("err-msg")))
        if "ch" not in value or "tick" not in value:
            known = "subbed" in value or "status" in value or "op" in value
            return (ACKNOWLEDGED if frame.url is None else STATUS) if known else rejected(Reason.UNKNOWN)
        _, name, kind, *detail = value["ch"].split(".")
        symbol, tick, at = _symbol(name), value["tick"], moment(value["ts"])
        if kind == "bbo":
            if isinstance(tick["bid"], list):
                return found(self.set_book(symbol, [tick["bid"]], [tick["ask"]], at, received, whole=True))
            top = number(tick["bid"]), number(tick["ask"]), number(tick["bidSize"]), number(tick["askSize"])
            return found(self.memory.quote(symbol, *top, moment(tick["quoteTime"]), received))
        if kind == "depth" and detail != ["size_20", "high_freq"]:
            return found(self.set_book(symbol, tick["bids"], tick["asks"], at, received, whole=True))
        if kind in ("mbp", "depth"):
            return DEPTH
        if kind == "trade":
            return collect(
                self.memory.trade(symbol, trade.get("tradeId"), number(trade["price"]), moment(trade["ts"]))[
                    0
                ]
                for trade in tick["data"]
            )
        if kind in ("detail", "ticker"):
            close = number(tick["close"])
            change = percent(close, number(tick["open"]))
            return found(self.memory.ticker(symbol, close, at, received, number(tick["amount"]), change))
        if kind == "kline":
            values = (tick["open"], tick["high"], tick["low"], tick["close"], tick["amount"])
            return found(self.candle(symbol, _PERIODS[detail[0]], moment(tick["id"]), values, received))
        return rejected(Reason.UNKNOWN, f"channel {value['ch']!r}")


def _symbol(name: str) -> str:
    """`btcusdt`; of swaps `BTC-USD` (settled in its base) and `BTC-USDT`."""
    found = split_at(name, "-")
    if found is not None:
        base, _, quote = found.partition("/")
        return f"{found}:{base if quote == 'USD' else quote}"
    joined = split_joined(name)
    if joined is None:
        raise ValueError(f"{name!r} is no symbol")
    return joined
