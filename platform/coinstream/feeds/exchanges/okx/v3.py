"""Parse the websocket v3 of OKEx and OKCoin, in use until 2022.

Source: "OKEx API v3" and "OKCoin API v3" (https://www.okcoin.com/docs/en/):

- Frames are JSON, compressed with raw deflate on the wire.
- A table is `<kind>/<channel>`; sizes of derivatives are contracts, `volume_token_24h` and the seventh entry
  of a candle are base currency.
- `depth` and `depth_l2_tbt` send `partial` and then `update`s with a checksum; `depth5` is always complete.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from coinstream.feeds.exchanges.okx.v5 import OkxV5Parser
from coinstream.feeds.exchanges.parsing import (
    Found,
    each,
    levels,
    moment,
    number,
    optional,
    percent,
    side_of,
    signed,
)
from coinstream.feeds.exchanges.values import inflated
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import ACKNOWLEDGED, Frame, Parsed, rejected

_CANDLES: Final = {60: "1m", 180: "3m", 300: "5m", 900: "15m", 1800: "30m", 3600: "1h", 7200: "2h"}
_LONG_CANDLES: Final = {14_400: "4h", 21_600: "6h", 43_200: "12h", 86_400: "1d", 604_800: "1w"}
_UNREAD: Final = frozenset({"price_range", "estimated_price", "all_ticker", "instruments", "optimized_depth"})
_SHORTS_CLOSED: Final = ("4",)
"""Types of a liquidation that close a short position, which is a purchase; 3 closes a long one."""


class OkxParser(OkxV5Parser):
    """Read v5 and v3: both may be in the recordings of one exchange."""

    def read(self, frame: Frame) -> Parsed:
        """Decompress a frame of v3."""
        payload = inflated(frame.payload)
        return super().read(frame if payload is frame.payload else frame._replace(payload=payload))

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame of v3 by its table."""
        if "table" not in value:
            if "event" in value and value["event"] == "error":
                return rejected(Reason.REFUSED, str(value.get("message") or value.get("msg") or value))
            return super().on_json(value, frame, received)
        market, _, channel = value["table"].partition("/")
        rows = value["data"]
        if not rows:
            return ACKNOWLEDGED
        if market == "index":
            return each(rows, lambda row: self._index_table(channel, row, received))
        if channel.startswith("depth"):
            whole = channel == "depth5" or value.get("action") == "partial"
            return each(rows, lambda row: self._depth(channel, row, received, whole=whole))
        if channel.startswith("candle"):
            return each(rows, lambda row: self._old_candle(channel, row, received))
        read = {
            "ticker": self._old_ticker,
            "trade": self._old_trade,
            "funding_rate": self._old_funding,
            "mark_price": self._old_mark,
            "summary": self._summary,
            "liquidation": self._old_liquidation,
        }.get(channel)
        if read is not None:
            return each(rows, lambda row: read(row, received))
        if channel in _UNREAD:
            return rejected(Reason.OTHER_CHANNEL)
        return rejected(Reason.UNKNOWN, f"table {value['table']!r}")

    def _old_ticker(self, row: Any, received: datetime) -> Found:
        instrument, at, last = self.instrument(row["instrument_id"]), moment(row["timestamp"]), row["last"]
        bid_size, ask_size = row.get("best_bid_size"), row.get("best_ask_size")
        yield self.state.quote(
            instrument,
            *(number(row["best_bid"]), number(row["best_ask"])),
            *(None if bid_size is None else number(bid_size), None if ask_size is None else number(ask_size)),
            at,
            received,
            "ticker",
        )
        price = number(last)
        change = percent(price, optional(row.get("open_24h")))
        spot_volume = row.get("base_volume_24h")
        volume = optional(spot_volume if instrument.kind == "spot" else row.get("volume_token_24h"))
        yield self.state.ticker(instrument, price, at, received, volume, change)
        if instrument.kind != "spot":
            contracts = optional(row.get("open_interest"))
            interest = None if contracts is None else instrument.base_size(contracts, price)
            yield self._figures(instrument, at, received, last_price=price or None, open_interest=interest)

    def _depth(self, channel: str, row: Any, received: datetime, *, whole: bool) -> Found:
        instrument, at = self.instrument(row["instrument_id"]), moment(row["timestamp"])
        bids, asks = levels(row["bids"]), levels(row["asks"])
        if whole:
            self.state.order_book(channel, instrument).unsync()
            found: Found = self.state.book_snapshot(channel, instrument, bids, asks, at, received)
        else:
            found = self.state.book_change(channel, instrument, bids, asks, at, received)
        texts = all(isinstance(level[0], str) for level in (*row["bids"], *row["asks"]))
        if texts:
            found = self.verified(channel, instrument, row, found, whole=whole)
        yield from found

    def _old_trade(self, row: Any, received: datetime) -> Found:
        identity = str(row["trade_id"])
        yield from self.state.trade(
            self.instrument(row["instrument_id"]),
            number(row["price"]),
            number(row["size"] if "size" in row else row["qty"]),
            moment(row["timestamp"]),
            received,
            side=side_of(row["side"]),
            trade_id=identity,
        )

    def _old_candle(self, channel: str, row: Any, received: datetime) -> Found:
        instrument, values = self.instrument(row["instrument_id"]), row["candle"]
        seconds = int(channel.removeprefix("candle").removesuffix("s"))
        timeframe = _CANDLES.get(seconds) or _LONG_CANDLES.get(seconds)
        if timeframe is None:
            yield Reason.OTHER_CHANNEL
            return
        prices = number(values[1]), number(values[2]), number(values[3]), number(values[4])
        volume = number(values[5] if instrument.kind == "spot" else values[6])
        yield self.state.candle(instrument, timeframe, moment(values[0]), prices, volume, received)

    def _old_funding(self, row: Any, received: datetime) -> Found:
        yield self._figures(
            self.instrument(row["instrument_id"]),
            received,
            received,
            funding_rate=signed(row["funding_rate"]),
            next_funding_time=moment(row["funding_time"]),
        )

    def _old_mark(self, row: Any, received: datetime) -> Found:
        instrument, at = self.instrument(row["instrument_id"]), moment(row["timestamp"])
        yield self._figures(instrument, at, received, mark_price=number(row["mark_price"]))

    def _summary(self, row: Any, received: datetime) -> Found:
        instrument, at = self.instrument(row["instrument_id"]), moment(row["timestamp"])
        mark, last = signed(row["mark_price"]), signed(row["last"])
        yield self._figures(
            instrument,
            at,
            received,
            mark_price=mark if mark and mark > 0 else None,
            last_price=last or None,
            open_interest=self._interest(instrument, row),
        )

    def _interest(self, instrument: Instrument, row: Any) -> float | None:
        contracts = optional(row.get("open_interest"))
        return None if contracts is None else instrument.base_size(contracts, 0.0)

    def _index_table(self, channel: str, row: Any, received: datetime) -> Found:
        if channel != "ticker":
            yield Reason.OTHER_CHANNEL
            return
        index = {"instId": row["instrument_id"], "idxPx": row["last"], "ts": row["timestamp"]}
        yield from self._index_ticker(index, received)

    def _old_liquidation(self, row: Any, received: datetime) -> Found:
        yield self.state.liquidation(
            self.instrument(row["instrument_id"]),
            number(row["price"]),
            number(row["size"]),
            "buy" if str(row["type"]) in _SHORTS_CLOSED else "sell",
            moment(row["created_at"]),
            received,
        )
