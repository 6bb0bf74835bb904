"""FTX's websocket, for recordings of its time. Source: the exchange's former API documentation."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Parsed, rejected
from coinstream.feeds.parsers.json_base import JsonParser, found, moment, number
from coinstream.feeds.parsers.market_state import collect


class FtxParser(JsonParser):
    """Tickers and books to Level1, tickers and trades to Price."""

    def __init__(self, exchange: str = "ftx") -> None:
        super().__init__(exchange)

    def _on(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        kind, channel = value.get("type"), value.get("channel")
        if kind == "pong":
            return HEARTBEAT
        if kind in ("subscribed", "unsubscribed"):
            return ACKNOWLEDGED
        if kind == "info" or (kind is None and frame.url is not None):
            return STATUS
        if kind == "error":
            return rejected(Reason.REFUSED, str(value.get("msg")))
        if channel not in ("ticker", "orderbook", "trades"):
            return rejected(Reason.UNKNOWN, f"channel {channel!r}")
        symbol, data = symbol_of(value["market"]), value["data"]
        if channel == "trades":
            return collect(
                self.memory.trade(symbol, trade["id"], number(trade["price"]), moment(trade["time"]))[0]
                for trade in data
            )
        at = moment(data["time"])
        if channel == "orderbook":
            whole = data["action"] == "partial"
            return found(self.set_book(symbol, data["bids"], data["asks"], at, received, whole=whole))
        bid, ask, bid_size, ask_size = (number(data[name]) for name in ("bid", "ask", "bidSize", "askSize"))
        return found(
            self.memory.quote(symbol, bid, ask, bid_size, ask_size, at, received),
            self.memory.ticker(symbol, number(data["last"]), at, received),
        )


def symbol_of(name: str) -> str:
    """`BTC/USD`; `BTC-PERP` as `BTC/USD:USD`, `BTC-0625` as `BTC/USD:USD-0625`."""
    if "/" in name:
        return name
    base, _, detail = name.partition("-")
    return f"{base}/USD:USD" if detail in ("PERP", "") else f"{base}/USD:USD-{detail}"
