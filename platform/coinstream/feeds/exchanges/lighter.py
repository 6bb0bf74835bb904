"""Connect to Lighter: websocket of spot markets and perpetual contracts.

Source: "Lighter API: WebSocket Reference", <https://apidocs.lighter.xyz/docs/websocket-reference>, and
"orderBookDetails", with the examples that ccxt 4.5.64 cites (read 2026-11-26); frames of 2026-04-20.

- Markets have numbers. Perpetual contracts (`ETH`) are quoted and settled in USDC; `ETH/USDC` is spot.
- `subscribed/order_book` contains the complete book and `update/order_book` its changes. The `begin_nonce` of
  a change is the `nonce` of the previous one.
- `is_maker_ask` is true if the taker buys. The first frame of `trade` repeats earlier trades.
- `open_interest` is in USDC. `daily_price_change` is in per cent. Sizes are in base currency.
- The exchange sends `ping` and expects `pong`. A connection carries at most 100 subscriptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

import msgspec

from coinstream.feeds.exchanges.base import RENEW, Channel, ExchangeAdapter, Subscriptions, register_adapter
from coinstream.feeds.exchanges.connections import Limits
from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    ascending,
    each,
    levels,
    moment,
    number,
    optional,
    parsed,
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Parsed, rejected

WS: Final = "wss://mainnet.zklighter.elliot.ai/stream"
REST: Final = "https://mainnet.zklighter.elliot.ai/api/v1"
_COLLATERAL: Final = "USDC"
_PING: Final = b'"ping"'


class LighterParser(ExchangeParser):
    """Parser of Lighter's frames: books, best levels, trades, contract figures."""

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return STATUS
        if value.get("error"):
            return rejected(Reason.REFUSED, str(value["error"])[:200])
        kind = value["type"]
        if kind in ("ping", "pong"):
            return HEARTBEAT
        if kind in ("connected", "unsubscribed"):
            return ACKNOWLEDGED
        channel, _, market = value["channel"].partition(":")
        match channel:
            case "order_book":
                return parsed(self._book(market, value, kind.startswith("subscribed"), received))
            case "trade":
                told = [*(value.get("trades") or ()), *(value.get("liquidation_trades") or ())]
                rows = ascending(told, lambda row: row["trade_id"])
                return each(rows, lambda row: self._trade(market, row, received)) if rows else STATUS
            case "ticker":
                return parsed(self._best(market, value["ticker"], received)) if "ticker" in value else STATUS
            case "market_stats":
                told = value["market_stats"]
                stats = told if market == "all" else {market: told}
                at = moment(value["timestamp"]) if "timestamp" in value else received
                return each(stats.items(), lambda item: self._stats(item[0], item[1], at, received))
        return rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def _book(self, market: str, value: Any, begins: bool, received: datetime) -> Found:
        book, instrument = value["order_book"], self.instrument(market)
        sides = levels(book["bids"]), levels(book["asks"])
        at, last = moment(value["timestamp"]), int(book["nonce"])
        if begins:
            return self.state.book_snapshot("order_book", instrument, *sides, at, received, sequence=last)
        first = int(book["begin_nonce"]) + 1 if "begin_nonce" in book else None
        return self.state.book_change("order_book", instrument, *sides, at, received, first=first, last=last)

    def _best(self, market: str, row: Any, received: datetime) -> Found:
        bid, ask = row.get("b") or {}, row.get("a") or {}
        prices = optional(bid.get("price")), optional(ask.get("price"))
        sizes = optional(bid.get("size")), optional(ask.get("size"))
        at = moment(row["last_updated_at"])
        yield self.state.quote(self.instrument(market), *prices, *sizes, at, received, "ticker")

    def _trade(self, market: str, row: Any, received: datetime) -> Found:
        return self.state.trade(
            self.instrument(market),
            number(row["price"]),
            number(row["size"]),
            moment(row["timestamp"]),
            received,
            side="buy" if bool(row["is_maker_ask"]) else "sell",
            trade_id=row["trade_id"],
        )

    def _stats(self, market: str, row: Any, at: datetime, received: datetime) -> Found:
        instrument, last = self.instrument(market), optional(row.get("last_trade_price"))
        volume, change = optional(row.get("daily_base_token_volume")), signed(row.get("daily_price_change"))
        yield self.state.ticker(instrument, last, at, received, volume, change)
        if instrument.kind == "spot":
            return
        mark, interest = optional(row.get("mark_price")), optional(row.get("open_interest"))
        yield self.state.derivative(
            instrument,
            at,
            received,
            mark_price=mark,
            index_price=optional(row.get("index_price")),
            last_price=last,
            open_interest=interest / mark if mark and interest is not None else None,
        )


@register_adapter
class LighterAdapter(ExchangeAdapter):
    """Adapter of Lighter: spot markets and perpetual contracts."""

    exchange = "lighter"
    hosts: ClassVar[tuple[str, ...]] = ("mainnet.zklighter.elliot.ai",)
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("order_book", ("level1", "book"), "documentation"),
        Channel("ticker", ("level1",), "documentation"),
        Channel("trade", ("trade", "price"), "documentation"),
        Channel("market_stats", ("price", "derivativeticker"), "documentation"),
    )
    limits = Limits(symbols_per_connection=25, symbols_per_request=25, requests_per_second=4.0)
    instruments_urls: ClassVar[tuple[str, ...]] = (f"{REST}/orderBookDetails",)
    parser_class = LighterParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {
        "order_book": ("book",),
        "ticker": ("level1",),
        "trade": ("trade",),
        "market_stats": ("price", "derivativeticker"),
    }

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        return [
            msgspec.json.encode({"type": "subscribe", "channel": f"{name}/{instrument.id}"})
            for name in channels
            for instrument in instruments
        ]

    def answer(self, frame: Frame) -> bytes | None:
        """Return the `pong` to a `ping`."""
        return b'{"type":"pong"}' if len(frame.payload) < 100 and _PING in frame.payload else None

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return the requests that make the exchange resend the book of a symbol."""
        channel = f"order_book/{instrument.id}"
        return tuple(msgspec.json.encode({"type": kind, "channel": channel}) for kind in RENEW)

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the contracts and spot markets of `orderBookDetails`."""
        for row in reply["order_book_details"]:
            active = row["status"] == "active"
            yield derivative(str(row["market_id"]), row["symbol"], _COLLATERAL, _COLLATERAL, active=active)
        for row in reply.get("spot_order_book_details") or ():
            base, _, quote = row["symbol"].partition("/")
            yield spot(str(row["market_id"]), base, quote, active=row["status"] == "active")
