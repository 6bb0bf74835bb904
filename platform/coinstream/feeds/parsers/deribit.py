"""Deribit's websocket. Source: the exchange's API documentation.

A book's `change` follows the frame whose `change_id` is its `prev_change_id`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parsers.base import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected
from coinstream.feeds.parsers.json_base import JsonParser, found, moment, number, signed
from coinstream.feeds.parsers.market_state import Level, collect


class DeribitParser(JsonParser):
    """Tickers, quotes and books to Level1, tickers and trades to Price."""

    def __init__(self, exchange: str = "deribit") -> None:
        super().__init__(exchange)

    def _on(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        if value.get("error"):
            return rejected(Reason.REFUSED, str(value["error"]))
        if value.get("method") == "heartbeat":
            return HEARTBEAT
        if "result" in value:
            return ACKNOWLEDGED if frame.url is None else STATUS
        if value.get("method") != "subscription":
            return rejected(Reason.UNKNOWN, f"method {value.get('method')!r}")
        channel, data = value["params"]["channel"], value["params"]["data"]
        kind = channel.partition(".")[0]
        if kind in ("ticker", "quote", "incremental_ticker"):
            return self._ticker(data, received)
        if kind == "book":
            return self._book(data, received)
        if kind == "trades":
            return collect(
                self.memory.trade(
                    symbol_of(trade["instrument_name"]),
                    trade["trade_seq"],
                    number(trade["price"]),
                    moment(trade["timestamp"]),
                )[0]
                for trade in data
            )
        known = kind.startswith(("deribit_", "perpetual", "estimated", "markprice", "platform", "instrument"))
        return STATUS if known else rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def _ticker(self, data: Any, received: datetime) -> Parsed:
        symbol, at = symbol_of(data["instrument_name"]), moment(data["timestamp"])
        quote = self.memory.quote(
            symbol,
            *(number(data.get("best_bid_price")), number(data.get("best_ask_price"))),
            *(number(data.get("best_bid_amount")), number(data.get("best_ask_amount"))),
            at,
            received,
        )
        if data.get("last_price") is None:
            return found(quote)
        stats = data.get("stats") or {}
        return found(
            quote,
            self.memory.ticker(
                symbol,
                *(number(data["last_price"]), at, received),
                number(stats["volume"]) if stats.get("volume") is not None else None,
                signed(stats.get("price_change")),
            ),
        )

    def _book(self, data: Any, received: datetime) -> Parsed:
        symbol, at = symbol_of(data["instrument_name"]), moment(data["timestamp"])
        bids, asks = _levels(data["bids"]), _levels(data["asks"])
        book = self.memory.book(symbol)
        if data.get("type", "snapshot") == "snapshot":
            book.replace(bids, asks, data["change_id"])
            book.number = data["change_id"]
            return found(self.memory.top(symbol, at, received))
        if not book.is_synced:
            return rejected(Reason.BOOK_UNSYNCED)
        if data["prev_change_id"] != book.number:
            gap = Gap(symbol, book.number + 1, data["prev_change_id"])
            self.forget(symbol)
            return Parsed((), (Reason.BOOK_UNSYNCED,), "", gap)
        book.number = data["change_id"]
        book.apply(bids, asks)
        return found(self.memory.top(symbol, at, received))


def _levels(told: Any) -> list[Level]:
    """`["new", price, size]`, `["delete", price, 0]`, or in grouped books `[price, size]`."""
    return [Level(number(level[-2]), number(level[-1])) for level in told]


def symbol_of(name: str) -> str:
    """`BTC-PERPETUAL` as `BTC/USD:BTC`, `BTC_USDC-PERPETUAL` as `BTC/USDC:USDC`, others with what follows."""
    market, _, detail = name.partition("-")
    base, _, quote = market.partition("_")
    if not base:
        raise ValueError(f"{name!r} is no instrument")
    if not detail:
        return f"{base}/{quote or 'USD'}"
    settled = f"{base}/{quote}:{quote}" if quote else f"{base}/USD:{base}"
    return settled if detail == "PERPETUAL" else f"{settled}-{detail}"
