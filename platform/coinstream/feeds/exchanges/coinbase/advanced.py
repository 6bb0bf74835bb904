"""Parse the websocket of Coinbase Advanced Trade.

Source: "Advanced Trade: WebSocket channels"
(https://docs.cdp.coinbase.com/coinbase-app/advanced-trade-apis/websocket/websocket-channels), checked against
frames of 2025-12-31 (https://github.com/ccxt/ccxt/issues/27606, read 2026-11-26):

- `sequence_num` counts every frame of a connection, so a jump concerns all its books.
- `l2_data` sends a snapshot and then changes, with the sides `bid` and `offer`.
- Trades come newest first, with ids that grow by one per product. The side of a trade is the maker's.
- Candles last five minutes.
- Products in USDC are sent under the name of the same product in USD.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from coinstream.feeds.exchanges.coinbase.exchange import (
    CoinbaseExchangeParser,
    complain,
    taker_of,
    valid_levels,
)
from coinstream.feeds.exchanges.parsing import Found, ascending, each, moment, number, optional, signed
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected

CONNECTION: Final = ""
"""Symbol of a gap that concerns a whole connection."""


class CoinbaseParser(CoinbaseExchangeParser):
    """Read Advanced Trade and the Exchange."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._number: int | None = None

    def renew(self) -> None:
        """Clear the books and the number of the last frame."""
        super().renew()
        self._number = None

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame of Advanced Trade by its channel."""
        if not (isinstance(value, dict) and value.get("channel") and "events" in value):
            return super().on_json(value, frame, received)
        gap = self._hole(value.get("sequence_num"))
        found = self._events(value["channel"], value, received)
        return found.with_gaps(gap)

    def _events(self, channel: str, value: Any, received: datetime) -> Parsed:
        if channel == "heartbeats":
            return HEARTBEAT
        if channel == "subscriptions":
            return ACKNOWLEDGED
        if channel == "status":
            return STATUS
        at = moment(value["timestamp"]) if value.get("timestamp") else received
        if channel == "l2_data":
            return each(value["events"], lambda event: self._levels(event, at, received))
        read = {
            "ticker": ("tickers", self._advanced_ticker),
            "ticker_batch": ("tickers", self._advanced_ticker),
            "candles": ("candles", self._candle),
            "market_trades": ("trades", self._trade),
        }.get(channel)
        if read is None:
            return rejected(Reason.UNKNOWN, f"channel {channel!r}")
        rows = [row for event in value["events"] for row in event.get(read[0], ())]
        if channel == "market_trades":
            rows = list(ascending(rows, lambda row: (row["product_id"], int(row["trade_id"]))))
        return each(rows, lambda row: read[1](row, at, received)) if rows else STATUS

    def _hole(self, number_: int | None) -> Gap | None:
        last, self._number = self._number, number_
        if number_ is None or last is None or number_ <= last + 1:
            return None
        self.state.renew()
        return Gap(CONNECTION, last + 1, number_ - 1)

    def _advanced_ticker(self, row: Any, at: datetime, received: datetime) -> Found:
        instrument = self.instrument(row["product_id"])
        bid, ask = optional(row.get("best_bid")), optional(row.get("best_ask"))
        sizes = optional(row.get("best_bid_quantity")), optional(row.get("best_ask_quantity"))
        yield self.state.quote(instrument, bid, ask, *sizes, at, received, "ticker")
        price, volume = number(row["price"]), optional(row.get("volume_24_h"))
        change = signed(row.get("price_percent_chg_24_h"))
        yield self.state.ticker(instrument, price, at, received, volume, change)

    def _levels(self, event: Any, at: datetime, received: datetime) -> Found:
        instrument, rows = self.instrument(event["product_id"]), event["updates"]
        sides = {
            side: valid_levels(
                (row["price_level"], row["new_quantity"]) for row in rows if row["side"] in wire
            )
            for side, wire in (("bids", ("bid",)), ("asks", ("offer", "ask")))
        }
        (bids, faults), (asks, more) = sides["bids"], sides["asks"]
        give = self.state.book_snapshot if event["type"] == "snapshot" else self.state.book_change
        yield from give("l2_data", instrument, bids, asks, at, received)
        complain(faults + more)

    def _trade(self, row: Any, at: datetime, received: datetime) -> Found:
        yield from self.state.trade(
            self.instrument(row["product_id"]),
            number(row["price"]),
            number(row["size"]),
            moment(row["time"]),
            received,
            side=taker_of(row["side"]),
            sequence=int(row["trade_id"]),
            consecutive=True,
        )

    def _candle(self, row: Any, at: datetime, received: datetime) -> Found:
        prices = number(row["open"]), number(row["high"]), number(row["low"]), number(row["close"])
        instrument, opened = self.instrument(row["product_id"]), moment(row["start"])
        yield self.state.candle(instrument, "5m", opened, prices, number(row["volume"]), received)
