"""Bitfinex's websocket v2: arrays by channel number. Source: the exchange's API documentation.

Books are told as price, count, amount (`P0`): a count of 0 removes a level, the sign of the
amount tells the side. Raw books (`R0`) list orders, not levels. `seq` may follow at the end of each array.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import ACKNOWLEDGED, DEPTH, HEARTBEAT, STATUS, Frame, Parsed, rejected
from coinstream.feeds.parsers.json_base import LooseParser, found, moment, number, signed
from coinstream.feeds.parsers.market_state import Level, collect
from coinstream.feeds.symbols import split_joined

_CURRENCIES: Final = {"UST": "USDT", "UDC": "USDC"}
_BOOK_PARTS: Final = 3
_RAW: Final = "R0"


class _Channel(NamedTuple):
    kind: str
    symbol: str
    detail: str


class BitfinexParser(LooseParser):
    """Tickers and books to Level1, tickers and trades to Price, candles to Ohlcv."""

    def __init__(self, exchange: str = "bitfinex") -> None:
        super().__init__(exchange)
        self._channels: dict[int, _Channel] = {}

    def _on(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        if isinstance(value, dict):
            return self._event(value, frame)
        if frame.url is not None:
            return STATUS
        channel = self._channels.get(value[0])
        if channel is None:
            return rejected(Reason.INCOMPLETE, f"channel {value[0]} was not told yet")
        body = value[1]
        if body == "hb":
            return HEARTBEAT
        if body == "cs":
            return STATUS
        if channel.kind == "ticker":
            return self._ticker(channel.symbol, body, received)
        if channel.kind == "book":
            return DEPTH if channel.detail == _RAW else self._book(channel.symbol, body, received)
        if channel.kind == "trades":
            return self._trades(channel.symbol, value)
        if channel.kind == "candles":
            return self._candles(channel, body, received)
        return rejected(Reason.UNKNOWN, f"channel {channel.kind!r}")

    def _event(self, value: Any, frame: Frame) -> Parsed:
        event = value.get("event")
        if event == "subscribed":
            kind, key = value["channel"], value.get("key", "")
            name = value.get("symbol") or key.rpartition("trade:")[2].partition(":")[2].partition(":")[0]
            detail = key.split(":")[1] if key else value.get("prec", "")
            self._channels[value["chanId"]] = _Channel(kind, _symbol(name), detail)
            return ACKNOWLEDGED
        if event in ("info", "conf", "unsubscribed"):
            return ACKNOWLEDGED if event != "info" else STATUS
        if event == "pong":
            return HEARTBEAT
        if event == "error":
            return rejected(Reason.REFUSED, str(value.get("msg")))
        return STATUS if frame.url is not None else rejected(Reason.UNKNOWN, f"event {event!r}")

    def _ticker(self, symbol: str, told: Any, received: datetime) -> Parsed:
        change = signed(told[5])
        return found(
            self.memory.quote(
                symbol,
                *(number(told[0]), number(told[2]), number(told[1]), number(told[3])),
                received,
                received,
            ),
            self.memory.ticker(
                symbol,
                *(number(told[6]), None, received, number(told[7])),
                None if change is None else change * 100,
            ),
        )

    def _book(self, symbol: str, told: Any, received: datetime) -> Parsed:
        book = self.memory.book(symbol)
        rows = told if told and isinstance(told[0], list) else [told]
        whole = bool(told) and isinstance(told[0], list)
        if whole:
            book.replace((), ())
        elif not book.is_synced:
            return rejected(Reason.BOOK_UNSYNCED)
        bids: list[Level] = []
        asks: list[Level] = []
        for price, count, amount in (row[:_BOOK_PARTS] for row in rows if row):
            size = number(abs(amount)) if count else 0.0
            (bids if amount > 0 else asks).append(Level(number(price), size))
        book.apply(bids, asks)
        return found(self.memory.top(symbol, received, received))

    def _trades(self, symbol: str, value: Any) -> Parsed:
        if value[1] == "tu":
            # The same trade was told by "te" a moment before.
            return rejected(Reason.DUPLICATE)
        rows = [value[2]] if value[1] == "te" else value[1]
        newest_first = sorted(rows, key=lambda row: -row[0])
        return collect(
            self.memory.trade(symbol, row[0], number(row[3]), moment(row[1]))[0] for row in newest_first
        )

    def _candles(self, channel: _Channel, told: Any, received: datetime) -> Parsed:
        rows = told if told and isinstance(told[0], list) else [told]
        return collect(
            self.candle(
                *(channel.symbol, channel.detail.lower() if channel.detail != "1M" else "1M"),
                moment(row[0]),
                (row[1], row[3], row[4], row[2], row[5]),
                received,
            )
            for row in rows
            if row
        )


def _symbol(name: str) -> str:
    """`tBTCUSD`, `tDUSK:USD`, `tBTCF0:USTF0` (a perpetual)."""
    plain = name.removeprefix("t")
    is_perpetual = plain.endswith("F0")
    base, colon, quote = plain.replace("F0", "").partition(":")
    if not colon:
        if len(plain) == 6:
            base, quote = plain[:3], plain[3:]
        else:
            found = split_joined(plain)
            if found is None:
                raise ValueError(f"{name!r} is no symbol")
            base, _, quote = found.partition("/")
    base, quote = _CURRENCIES.get(base, base), _CURRENCIES.get(quote, quote)
    return f"{base}/{quote}:{quote}" if is_perpetual else f"{base}/{quote}"
