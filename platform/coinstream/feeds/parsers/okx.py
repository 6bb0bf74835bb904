"""OKX's websocket v5, and the v3 that it and OKCoin spoke before. Source: the exchange's documentation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected
from coinstream.feeds.parsers.json_base import JsonParser, moment, number
from coinstream.feeds.parsers.market_state import collect, percent
from coinstream.messages import Message

_WHOLE: Final = frozenset({"books5", "bbo-tbt"})
_UNITS: Final = {"m": "m", "H": "h", "D": "d", "W": "w", "M": "M"}
_OLD_UNITS: Final = {60: "1m", 180: "3m", 300: "5m", 900: "15m", 1800: "30m", 3600: "1h", 86_400: "1d"}


class OkxParser(JsonParser):
    """Tickers and books to Level1, tickers and trades to Price, candles to Ohlcv."""

    def __init__(self, exchange: str = "okx") -> None:
        super().__init__(exchange)
        self._numbers: dict[str, int] = {}

    def _read(self, frame: Frame) -> Parsed:
        return HEARTBEAT if frame.payload.strip() in (b"pong", b"ping") else super()._read(frame)

    def _on(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        if "event" in value:
            refused = value["event"] == "error"
            return rejected(Reason.REFUSED, str(value.get("msg", value))) if refused else ACKNOWLEDGED
        if "table" in value:
            return collect(self._old(value, received))
        if "arg" not in value:
            return STATUS if frame.url is not None else rejected(Reason.UNKNOWN, "neither event nor data")
        channel, name = value["arg"]["channel"], value["arg"].get("instId", "")
        if channel == "tickers":
            return collect(
                item
                for told in value["data"]
                for item in self._ticker(symbol_of(told["instId"]), told, received)
            )
        if channel.startswith(("books", "bbo-tbt")):
            return self._book(channel, name, value, received)
        if channel.startswith("trades"):
            return collect(self._trade(told, "px", "ts") for told in value["data"])
        if channel.startswith("candle"):
            return collect(self._candle(channel, name, row, received) for row in value["data"])
        return rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def _ticker(self, symbol: str, told: Any, received: datetime) -> Iterator[Message | Reason]:
        at, last = moment(told["ts"]), number(told["last"])
        yield self.memory.quote(
            symbol,
            *(number(told["bidPx"]), number(told["askPx"]), number(told["bidSz"]), number(told["askSz"])),
            at,
            received,
        )
        change = percent(last, number(told.get("open24h")))
        yield self.memory.ticker(symbol, last, at, received, number(told.get("vol24h")), change)

    def _book(self, channel: str, name: str, value: Any, received: datetime) -> Parsed:
        symbol, gap = symbol_of(name), None
        items = []
        for told in value["data"]:
            whole = channel in _WHOLE or value.get("action") == "snapshot"
            last, sequence = self._numbers.get(name), told.get("seqId")
            before = told.get("prevSeqId", -1)
            if not whole and last is not None and before not in (-1, last):
                gap = Gap(symbol, last + 1, before)
                self.forget(symbol)
            if sequence is not None:
                self._numbers[name] = sequence
            at = moment(told["ts"])
            items.append(self.set_book(symbol, told["bids"], told["asks"], at, received, whole=whole))
        return collect(items, gap)

    def _trade(self, told: Any, price: str, at: str) -> Message | Reason:
        name = told.get("instId") or told["instrument_id"]
        identity = str(told.get("tradeId") or told.get("trade_id") or "")
        sequence = int(identity) if identity.isdigit() else None
        return self.memory.trade(symbol_of(name), sequence, number(told[price]), moment(told[at]))[0]

    def _candle(self, channel: str, name: str, row: Any, received: datetime) -> Message | Reason:
        text = channel.removeprefix("candle").removesuffix("utc")
        timeframe = text[:-1] + _UNITS[text[-1]]
        return self.candle(symbol_of(name), timeframe, moment(row[0]), row[1:6], received)

    def _old(self, value: Any, received: datetime) -> Iterator[Message | Reason]:
        kind = value["table"].partition("/")[2]
        for told in value["data"]:
            symbol = symbol_of(told["instrument_id"])
            if kind == "ticker":
                at, last = moment(told["timestamp"]), number(told["last"])
                bid_size, ask_size = told.get("best_bid_size"), told.get("best_ask_size")
                yield self.memory.quote(
                    symbol,
                    *(number(told["best_bid"]), number(told["best_ask"])),
                    None if bid_size is None else number(bid_size),
                    None if ask_size is None else number(ask_size),
                    at,
                    received,
                )
                change = percent(last, number(told.get("open_24h")))
                volume = number(told.get("base_volume_24h") or told.get("volume_24h"))
                yield self.memory.ticker(symbol, last, at, received, volume, change)
            elif kind == "trade":
                yield self._trade(told, "price", "timestamp")
            elif kind.startswith("depth"):
                whole = kind == "depth5" or value.get("action") == "partial"
                at = moment(told["timestamp"])
                yield self.set_book(symbol, told["bids"], told["asks"], at, received, whole=whole)
            elif kind.startswith("candle"):
                timeframe = _OLD_UNITS[int(kind.removeprefix("candle").removesuffix("s"))]
                row = told["candle"]
                yield self.candle(symbol, timeframe, moment(row[0]), row[1:6], received)
            else:
                yield Reason.STATUS


def symbol_of(name: str) -> str:
    """`BTC-USDT`; `BTC-USDT-SWAP` as `BTC/USDT:USDT`, `BTC-USD-240628` as `BTC/USD:BTC-240628`."""
    parts = name.upper().split("-")
    if len(parts) < 2 or not all(parts):
        raise ValueError(f"{name!r} is no instrument")
    symbol = f"{parts[0]}/{parts[1]}"
    if len(parts) == 2:
        return symbol
    settled = f"{symbol}:{parts[0] if parts[1] == 'USD' else parts[1]}"
    return settled if parts[2] == "SWAP" else "-".join((settled, *parts[2:]))
