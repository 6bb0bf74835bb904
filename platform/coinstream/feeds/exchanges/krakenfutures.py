"""Connect to Kraken Futures: perpetual contracts and futures, inverse and linear.

Source: "Futures WebSocket v1" (https://docs.kraken.com/api/docs/futures-api/websocket/, read 2026-11-26):

- `PI` and `FI` are inverse: a contract is one dollar. `PF` and `FF` are linear: sizes are in base currency.
- `book_snapshot` starts a book; each `book` frame sets one level, and `seq` grows by one per product.
- `trade_snapshot` lists the newest trade first; `seq` of trades grows by one per product.
- A trade of type `liquidation` closes a position by force; `side` is that of the taker.
- `relative_funding_rate` is the funding rate as a fraction; `funding_rate` is an amount per contract.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, Subscriptions, register_adapter
from coinstream.feeds.exchanges.connections import Limits
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
from coinstream.feeds.instruments import Instrument, derivative
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Parsed, rejected

_NAME: Final = re.compile(r"(PI|FI|PF|FF|PV|FV)_([A-Z0-9]+?)(USD|EUR|XBT)(?:_(\d{6}))?\Z")
"""Product ids say their kind, their base and quote currency and the day on which they end."""
_INVERSE: Final = frozenset({"PI", "FI"})
_UNREAD: Final = frozenset({"open_orders", "fills", "balances", "account_log", "notifications_auth"})


class KrakenFuturesParser(ExchangeParser):
    """Frames of Kraken Futures to all message types but candles."""

    def unlisted(self, name: str) -> Instrument | None:
        """Return the instrument that a product id describes."""
        return _instrument(name, active=True)

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame by its feed."""
        event, feed = value.get("event"), value.get("feed")
        if event in ("subscribed", "unsubscribed"):
            return ACKNOWLEDGED
        if event in ("info", "challenge"):
            return STATUS
        if event in ("error", "alert", "subscribed_failed", "unsubscribed_failed"):
            return rejected(Reason.REFUSED, str(value.get("message") or value)[:200])
        match feed:
            case "heartbeat":
                return HEARTBEAT
            case "ticker" | "ticker_lite":
                return parsed(self._ticker(value, received))
            case "book_snapshot":
                return parsed(self._snapshot(value, received))
            case "book":
                return parsed(self._change(value, received))
            case "trade":
                return parsed(self._trade(value, received))
            case "trade_snapshot":
                trades = sorted(value["trades"], key=lambda trade: int(trade["seq"]))
                return each(trades, lambda trade: self._trade(trade, received))
        if feed in _UNREAD:
            return rejected(Reason.OTHER_CHANNEL, str(feed))
        return rejected(Reason.UNKNOWN, f"feed {feed!r}, event {event!r}")

    def _ticker(self, told: Any, received: datetime) -> Found:
        instrument = self.instrument(told["product_id"])
        at = moment(told["time"]) if told.get("time") else None
        bid, ask = optional(told.get("bid")), optional(told.get("ask"))
        sizes = optional(told.get("bid_size")), optional(told.get("ask_size"))
        yield self.state.quote(instrument, bid, ask, *sizes, at or received, received, "ticker")
        last = optional(told.get("last"))
        if last is not None:
            # The volume of an inverse contract is a number of dollars, not of coins.
            volume = None if instrument.inverse else optional(told.get("volume"))
            change = signed(told.get("change"))
            yield self.state.ticker(instrument, last, at, received, volume, change)
        mark = optional(told.get("markPrice"))
        if mark:
            yield self._figures(told, instrument, mark, at or received, received)

    def _figures(
        self, told: Any, instrument: Instrument, mark: float, at: datetime, received: datetime
    ) -> Any:
        interest = optional(told.get("openInterest"))
        following = told.get("next_funding_rate_time")
        return self.state.derivative(
            instrument,
            at,
            received,
            mark_price=mark,
            index_price=optional(told.get("index")) or None,
            last_price=optional(told.get("last")) or None,
            funding_rate=signed(told.get("relative_funding_rate")),
            next_funding_time=moment(following) if following else None,
            open_interest=None if interest is None else instrument.base_size(interest, mark),
        )

    def _snapshot(self, told: Any, received: datetime) -> Found:
        rows = [[{**row, "size": row["qty"]} for row in told[side]] for side in ("bids", "asks")]
        bids, asks = levels(rows[0]), levels(rows[1])
        instrument, at = self.instrument(told["product_id"]), moment(told["timestamp"])
        return self.state.book_snapshot(
            *("book", instrument, bids, asks, at, received), sequence=int(told["seq"])
        )

    def _change(self, told: Any, received: datetime) -> Found:
        level = [(number(told["price"]), number(told["qty"]))]
        if told["side"] not in ("buy", "sell"):
            raise ValueError(f"side {told['side']!r}")
        bids, asks = (level, []) if told["side"] == "buy" else ([], level)
        instrument, sequence = self.instrument(told["product_id"]), int(told["seq"])
        at = moment(told["timestamp"])
        return self.state.book_change(
            *("book", instrument, bids, asks, at, received), first=sequence, last=sequence
        )

    def _trade(self, told: Any, received: datetime) -> Found:
        instrument, side = self.instrument(told["product_id"]), told.get("side")
        price, size, at = number(told["price"]), number(told["qty"]), moment(told["time"])
        if side not in ("buy", "sell"):
            raise ValueError(f"side {side!r}")
        identity = told.get("uid")
        yield from self.state.trade(
            *(instrument, price, size, at, received),
            side=side,
            trade_id=str(identity) if identity else None,
            sequence=int(told["seq"]),
            consecutive=True,
        )
        if told.get("type") == "liquidation" and self.state.wants("liquidation"):
            yield self.state.liquidation(instrument, price, size, side, at, received, identity)


@register_adapter
class KrakenFuturesAdapter(ExchangeAdapter):
    """Kraken Futures."""

    exchange = "krakenfutures"
    hosts = ("futures.kraken.com", "cryptofacilities.com")
    channels = (
        Channel("ticker", ("level1", "price", "derivativeticker"), "documentation"),
        Channel("book", ("level1", "book"), "recording"),
        Channel("trade", ("trade", "price", "liquidation"), "recording"),
    )
    limits = Limits(symbols_per_connection=100, symbols_per_request=50, requests_per_second=5.0)
    instruments_urls = ("https://futures.kraken.com/derivatives/api/v3/instruments",)
    parser_class = KrakenFuturesParser
    address = "wss://futures.kraken.com/ws/v1"
    subscriptions: ClassVar[Subscriptions] = {
        "ticker": ("level1", "price", "derivativeticker"),
        "trade": ("trade", "liquidation"),
        "book": ("book",),
    }

    def url(self) -> str:
        """Return the URL below `ws`, which may have a path."""
        return f"{self.ws}/ws/v1" if self.ws else self.address

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        return [_request("subscribe", channel, instruments) for channel in channels]

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return the requests that make the exchange resend the book of a product."""
        return _request("unsubscribe", "book", [instrument]), _request("subscribe", "book", [instrument])

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the products of a reply of `instruments`; indices and options are left out."""
        return _listed(reply["instruments"])


def _request(event: str, feed: str, batch: Sequence[Instrument]) -> bytes:
    products = [instrument.id.upper() for instrument in batch]
    return msgspec.json.encode({"event": event, "feed": feed, "product_ids": products})


def _listed(entries: Any) -> Iterator[Instrument]:
    for entry in entries:
        found = _instrument(entry["symbol"], active=bool(entry.get("tradeable", True)))
        if found is not None:
            yield found


def _instrument(name: str, *, active: bool) -> Instrument | None:
    parts = _NAME.match(name.upper())
    if parts is None:
        return None
    kind, base, quote, day = parts.groups()
    expiry = datetime.strptime(day, "%y%m%d").replace(tzinfo=UTC) if day else None
    is_inverse = kind in _INVERSE
    return derivative(
        *(name.upper(), base, quote, base if is_inverse else quote),
        expiry=expiry,
        inverse=is_inverse,
        active=active,
    )
