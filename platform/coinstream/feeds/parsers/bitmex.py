"""BitMEX's websocket. Source: the exchange's API documentation.

`quote` has the top with sizes; `instrument` is a whole and then only what changed. Contracts are
derivatives: one on a joined symbol is told as perpetual.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import ACKNOWLEDGED, DEPTH, HEARTBEAT, STATUS, Frame, Parsed, rejected
from coinstream.feeds.parsers.json_base import JsonParser, length_of, moment, number, signed
from coinstream.feeds.parsers.market_state import collect
from coinstream.feeds.symbols import split_joined
from coinstream.messages import Message

_QUIET: Final = frozenset({"funding", "liquidation", "insurance", "settlement", "announcement", "connected"})


class BitmexParser(JsonParser):
    """Quotes to Level1, trades and instruments to Price, binned trades to Ohlcv."""

    def __init__(self, exchange: str = "bitmex") -> None:
        super().__init__(exchange)

    def _read(self, frame: Frame) -> Parsed:
        return HEARTBEAT if frame.payload.strip() == b"pong" else super()._read(frame)

    def _on(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        if isinstance(value, list) and frame.url is not None:
            return STATUS
        if "error" in value:
            return rejected(Reason.REFUSED, str(value["error"]))
        if "info" in value:
            return STATUS
        if "success" in value or "subscribe" in value:
            return ACKNOWLEDGED
        table = value.get("table", "")
        if table.startswith("orderBook"):
            return DEPTH
        if table in _QUIET:
            return STATUS
        if table == "quote":
            return collect(self._quote(told, received) for told in value["data"])
        if table == "trade":
            return collect(
                self.memory.trade(
                    _symbol(told["symbol"]), None, number(told["price"]), moment(told["timestamp"])
                )[0]
                for told in value["data"]
            )
        if table.startswith("tradeBin"):
            return collect(
                self._candle(table.removeprefix("tradeBin"), told, received) for told in value["data"]
            )
        if table == "instrument":
            return collect(self._instruments(value["data"], received)) if value["data"] else STATUS
        return rejected(Reason.UNKNOWN, f"table {table!r}")

    def _quote(self, told: Any, received: datetime) -> Message | Reason:
        return self.memory.quote(
            _symbol(told["symbol"]),
            *(number(told.get("bidPrice")), number(told.get("askPrice"))),
            *(number(told.get("bidSize")), number(told.get("askSize"))),
            moment(told["timestamp"]),
            received,
        )

    def _instruments(self, data: Any, received: datetime) -> Iterator[Message | Reason]:
        for told in data:
            if told.get("lastPrice") is None:
                yield Reason.STATUS
                continue
            change = signed(told.get("lastChangePcnt"))
            yield self.memory.ticker(
                _symbol(told["symbol"]),
                number(told["lastPrice"]),
                moment(told["timestamp"]) if "timestamp" in told else None,
                received,
                number(told["homeNotional24h"]) if told.get("homeNotional24h") else None,
                None if change is None else change * 100,
            )

    def _candle(self, timeframe: str, told: Any, received: datetime) -> Message | Reason:
        if told.get("open") is None:
            return Reason.NO_PRICE
        # The exchange names the end of the bin.
        opened = moment(told["timestamp"]) - length_of(timeframe)
        volume = told.get("homeNotional") or 0.0
        values = (told["open"], told["high"], told["low"], told["close"], volume)
        return self.candle(_symbol(told["symbol"]), timeframe, opened, values, received)


def _symbol(name: str) -> str:
    if "_" in name:
        base, _, quote = name.partition("_")
        return f"{base}/{quote}".replace("XBT", "BTC")
    symbol = split_joined(name)
    if symbol is None:
        # A dated future: base and month code, as XBTM24.
        base, rest = name[:3], name[3:]
        if not (base.isalpha() and rest):
            raise ValueError(f"{name!r} is no contract")
        base = "BTC" if base == "XBT" else base
        return f"{base}/USD:{base}-{rest}"
    base, _, quote = symbol.partition("/")
    return f"{symbol}:{'BTC' if quote == 'USD' else quote}"
