"""Parse the websocket of Coinbase International.

Source: "International Exchange: WebSocket feed" (https://docs.cdp.coinbase.com/international-exchange/websocket-feed,
excerpt read 2026-11-26): subscriptions are signed with a key. `sequence` rises per product and channel.
Changes of `LEVEL2` are `["BUY", price, quantity]`; sizes are base currency; `aggressor_side` is the taker's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from coinstream.feeds.exchanges.coinbase.exchange import instrument_named
from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    each,
    levels,
    moment,
    number,
    optional,
    parsed,
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import ACKNOWLEDGED, STATUS, Frame, Parsed, rejected

_LENGTHS: Final = {
    **{"ONE_MINUTE": "1m", "FIVE_MINUTE": "5m", "FIVE_MINUTES": "5m", "THIRTY_MINUTE": "30m"},
    **{"THIRTY_MINUTES": "30m", "ONE_HOUR": "1h", "TWO_HOUR": "2h", "TWO_HOURS": "2h", "SIX_HOUR": "6h"},
    **{"SIX_HOURS": "6h", "ONE_DAY": "1d"},
}
_SIDES: Final = {"BUY": "buy", "SELL": "sell"}


class CoinbaseInternationalParser(ExchangeParser):
    """Read books, matches, funding, risk and candles."""

    def unlisted(self, name: str) -> Instrument | None:
        """Return the product that a name describes."""
        return instrument_named(name)

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame by its channel."""
        if isinstance(value, list) or ("channel" not in value and frame.url is not None):
            return STATUS if frame.url is not None else rejected(Reason.UNKNOWN, "a list")
        channel, kind = value.get("channel", ""), value.get("type")
        if channel == "SUBSCRIPTIONS":
            return ACKNOWLEDGED
        if kind in ("REJECT", "ERROR", "error"):
            return rejected(Reason.REFUSED, str(value.get("message") or value.get("reason") or value))
        if channel == "INSTRUMENTS":
            return STATUS
        read = {
            "LEVEL1": self._quote,
            "LEVEL2": self._book,
            "MATCH": self._match,
            "FUNDING": self._funding,
            "RISK": self._risk,
        }.get(channel)
        if read is not None:
            return parsed(read(self.instrument(value["product_id"]), value, received))
        if channel.startswith("CANDLES"):
            instrument = self.instrument(value["product_id"])
            length = _LENGTHS[channel.removeprefix("CANDLES_")]
            return each(value["candles"], lambda row: self._candle(instrument, length, row, received))
        return rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def _quote(self, instrument: Instrument, value: Any, received: datetime) -> Found:
        bid, ask = optional(value.get("bid_price")), optional(value.get("ask_price"))
        sizes = optional(value.get("bid_qty")), optional(value.get("ask_qty"))
        yield self.state.quote(instrument, bid, ask, *sizes, moment(value["time"]), received, "LEVEL1")

    def _book(self, instrument: Instrument, value: Any, received: datetime) -> Found:
        at, sequence = moment(value["time"]), value.get("sequence", -1)
        if value["type"] == "SNAPSHOT":
            self.state.order_book("LEVEL2", instrument).unsync()
            bids, asks = levels(value["bids"]), levels(value["asks"])
            yield from self.state.book_snapshot(
                "LEVEL2", instrument, bids, asks, at, received, sequence=sequence
            )
            return
        changes = value["changes"]
        bids = levels(row[1:] for row in changes if row[0] == "BUY")
        asks = levels(row[1:] for row in changes if row[0] == "SELL")
        yield from self.state.book_change(
            "LEVEL2", instrument, bids, asks, at, received, last=sequence if sequence >= 0 else None
        )

    def _match(self, instrument: Instrument, value: Any, received: datetime) -> Found:
        side: Any = _SIDES.get(value.get("aggressor_side", ""))
        yield from self.state.trade(
            instrument,
            number(value["trade_price"]),
            number(value["trade_qty"]),
            moment(value["time"]),
            received,
            side=side,
            trade_id=value["match_id"],
        )

    def _funding(self, instrument: Instrument, value: Any, received: datetime) -> Found:
        rate = signed(value.get("funding_rate"))
        yield self.state.derivative(instrument, moment(value["time"]), received, funding_rate=rate)

    def _risk(self, instrument: Instrument, value: Any, received: datetime) -> Found:
        if instrument.kind == "spot":
            yield Reason.STATUS
            return
        yield self.state.derivative(
            instrument,
            moment(value["time"]),
            received,
            mark_price=optional(value.get("mark_price")),
            index_price=optional(value.get("index_price")),
            open_interest=optional(value.get("open_interest")),
        )

    def _candle(self, instrument: Instrument, length: str, row: Any, received: datetime) -> Found:
        prices = number(row["open"]), number(row["high"]), number(row["low"]), number(row["close"])
        opened = moment(row.get("time") or row["start"])
        yield self.state.candle(instrument, length, opened, prices, number(row["volume"]), received)
