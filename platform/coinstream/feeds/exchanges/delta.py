"""Connect to Delta Exchange: websocket of futures, options and spot markets.

Source: "Delta Exchange API", <https://docs.delta.exchange/> (Websocket Feed, Products), as of 2026-05;
checked against a session of 2021-11-29, and frames of 2019 to 2023.

- Sizes are numbers of contracts. A contract is worth `contract_value` of its base currency, an inverse one
  of its quote currency. Times are in microseconds.
- `l2_orderbook` sends the complete book of a fixed depth. `l2_updates` sends a snapshot, then changes with
  consecutive numbers.
- Trades have no id; `buyer_role` is the role of the buyer. Rates are in per cent.
- Mark prices and candles of indices have names with a prefix (`MARK:BTCUSDT`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, Subscriptions, register_adapter
from coinstream.feeds.exchanges.connections import Heartbeat, Limits
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
    percent,
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Parsed, rejected

WS: Final = "wss://socket.delta.exchange"
REST: Final = "https://api.delta.exchange"
_MARK: Final = "MARK:"
_NEWS: Final = frozenset({"product_updates", "announcements", "spot_price", "spot_30mtwap_price"})
_OPTIONS: Final = {"call_options": "C", "put_options": "P"}


class DeltaParser(ExchangeParser):
    """Parser of Delta's frames: books, trades, tickers, candles, contract figures."""

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return STATUS
        kind = value["type"]
        if kind in ("heartbeat", "pong"):
            return HEARTBEAT
        if kind in ("subscriptions", "unsubscriptions"):
            errors = [channel for channel in value.get("channels", ()) if "error" in channel]
            return rejected(Reason.REFUSED, str(errors)[:200]) if errors else ACKNOWLEDGED
        if kind == "error":
            return rejected(Reason.REFUSED, str(value)[:200])
        if kind in _NEWS:
            return STATUS
        if kind.startswith("candlestick_"):
            return STATUS if ":" in value["symbol"] else parsed(self._candle(value, received))
        if kind == "all_trades_snapshot":
            instrument = self.instrument(value["symbol"])
            rows = ascending(value["trades"][::-1], lambda row: row["timestamp"])
            return each(rows, lambda row: self._trade(instrument, row, received))
        read: Callable[[Any, datetime], Found] | None = {
            "l1_orderbook": self._best,
            "l2_orderbook": self._whole,
            "l2_updates": self._update,
            "all_trades": self._one_trade,
            "recent_trade": self._one_trade,
            "mark_price": self._mark,
            "funding_rate": self._funding,
            "ticker": self._old_ticker,
            "v2/ticker": self._ticker,
        }.get(kind)
        return rejected(Reason.UNKNOWN, f"type {kind!r}") if read is None else parsed(read(value, received))

    def _best(self, value: Any, received: datetime) -> Found:
        yield self.state.quote(
            self.instrument(value["symbol"]),
            optional(value["best_bid"]),
            optional(value["best_ask"]),
            optional(value["bid_qty"]),
            optional(value["ask_qty"]),
            moment(value["timestamp"]),
            received,
            "l1_orderbook",
        )

    def _whole(self, value: Any, received: datetime) -> Found:
        bids, asks = (
            [(number(row["limit_price"]), number(row["size"])) for row in value[side] or ()]
            for side in ("buy", "sell")
        )
        instrument, at = self.instrument(value["symbol"]), moment(value["timestamp"])
        return self.state.book_snapshot("l2_orderbook", instrument, bids, asks, at, received)

    def _update(self, value: Any, received: datetime) -> Found:
        instrument, count = self.instrument(value["symbol"]), int(value["sequence_no"])
        if value["action"] == "error":
            self.state.order_book("l2_updates", instrument).unsync()
            return (Reason.BOOK_UNSYNCED,)
        sides = levels(value["bids"]), levels(value["asks"])
        at = moment(value["timestamp"])
        if value["action"] == "snapshot":
            return self.state.book_snapshot("l2_updates", instrument, *sides, at, received, sequence=count)
        return self.state.book_change("l2_updates", instrument, *sides, at, received, first=count, last=count)

    def _one_trade(self, value: Any, received: datetime) -> Found:
        return self._trade(self.instrument(value["symbol"]), value, received)

    def _trade(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        return self.state.trade(
            instrument,
            number(row["price"]),
            number(row["size"]),
            moment(row["timestamp"]),
            received,
            side="buy" if row["buyer_role"] == "taker" else "sell",
        )

    def _candle(self, value: Any, received: datetime) -> Found:
        instrument = self.instrument(value["symbol"])
        begin, high, low, close = (number(value[name]) for name in ("open", "high", "low", "close"))
        volume = instrument.base_size(number(value["volume"]), close) or 0.0
        timeframe = value.get("resolution") or value["type"].removeprefix("candlestick_")
        opened = moment(value["candle_start_time"])
        yield self.state.candle(instrument, timeframe, opened, (begin, high, low, close), volume, received)

    def _mark(self, value: Any, received: datetime) -> Found:
        instrument = self.instrument(value["symbol"].removeprefix(_MARK))
        at = moment(value["timestamp"])
        yield self.state.derivative(instrument, at, received, mark_price=number(value["price"]))

    def _funding(self, value: Any, received: datetime) -> Found:
        ends = value.get("next_funding_realization")
        yield self.state.derivative(
            self.instrument(value["symbol"]),
            moment(value["timestamp"]),
            received,
            funding_rate=_fraction(value.get("funding_rate", value.get("funding_rate_8h"))),
            next_funding_time=moment(ends) if ends else None,
        )

    def _old_ticker(self, value: Any, received: datetime) -> Found:
        instrument, last = self.instrument(value["symbol"]), number(value["close"])
        volume = instrument.base_size(number(value["volume"]), last)
        change = percent(last, optional(value.get("open")))
        at = moment(value["timestamp"])
        yield self.state.ticker(instrument, last, at, received, volume, change)

    def _ticker(self, value: Any, received: datetime) -> Found:
        if ":" in value["symbol"]:
            yield Reason.STATUS
            return
        instrument, at = self.instrument(value["symbol"]), moment(value["timestamp"])
        last = optional(value.get("close"))
        change = percent(last, optional(value.get("open")))
        yield self.state.ticker(instrument, last, at, received, optional(value.get("volume")), change)
        if instrument.kind == "spot":
            return
        mark, contracts = optional(value.get("mark_price")), optional(value.get("oi_contracts"))
        yield self.state.derivative(
            instrument,
            at,
            received,
            mark_price=mark,
            index_price=optional(value.get("spot_price")),
            last_price=last,
            funding_rate=_fraction(value.get("funding_rate")),
            open_interest=None if contracts is None else instrument.base_size(contracts, mark or 0.0),
        )


def _fraction(rate: Any) -> float | None:
    found = signed(rate)
    return None if found is None else found / 100


@register_adapter
class DeltaAdapter(ExchangeAdapter):
    """Adapter of Delta Exchange: futures, options and spot markets."""

    exchange = "delta"
    hosts: ClassVar[tuple[str, ...]] = ("delta.exchange",)
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("l2_orderbook", ("level1", "book"), "recording"),
        Channel("l2_updates", ("level1", "book"), "recording"),
        Channel("l1_orderbook", ("level1",), "recording"),
        Channel("all_trades", ("trade", "price"), "recording"),
        Channel("candlestick_1m", ("ohlcv",), "recording"),
        Channel("v2/ticker", ("price", "derivativeticker"), "documentation"),
        Channel("mark_price", ("derivativeticker",), "recording"),
        Channel("funding_rate", ("derivativeticker",), "recording"),
    )
    limits = Limits(symbols_per_connection=100, symbols_per_request=100, requests_per_second=5.0)
    instruments_urls: ClassVar[tuple[str, ...]] = (f"{REST}/v2/products",)
    heartbeat = Heartbeat(b'{"type":"ping"}', 30.0)
    parser_class = DeltaParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {
        "candlestick_1m": ("ohlcv",),
        "all_trades": ("trade",),
        "l2_orderbook": ("level1", "book"),
        "v2/ticker": (
            "price",
            "derivativeticker",
        ),
        "funding_rate": ("derivativeticker",),
    }

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        symbols = [instrument.id for instrument in instruments]
        wanted = [{"name": name, "symbols": symbols} for name in channels]
        return [msgspec.json.encode({"type": "subscribe", "payload": {"channels": wanted}})]

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the products of `v2/products`."""
        for row in reply["result"]:
            yield _instrument(row)


def _instrument(row: Any) -> Instrument:
    name, kind, active = row["symbol"], row["contract_type"], row.get("state") == "live"
    base, quote = row["underlying_asset"]["symbol"], row["quoting_asset"]["symbol"]
    if kind == "spot":
        return spot(name, base, quote, active=active)
    settle, value = row["settling_asset"]["symbol"], float(row["contract_value"])
    ends = row.get("settlement_time")
    inverse = row["notional_type"] == "inverse"
    found = derivative(
        name,
        base,
        quote,
        settle,
        expiry=moment(ends) if ends else None,
        strike=_plain(row.get("strike_price")),
        option=_OPTIONS.get(kind, ""),  # type: ignore[arg-type]
        contract_size=value,
        inverse=inverse,
        active=active,
    )
    if kind in ("perpetual_futures", "futures", *_OPTIONS):
        return found
    # Spreads, rates and combinations do not quote a price of their base currency.
    symbol = f"{found.base}/{found.quote}:{found.settle}-{name}"
    return msgspec.structs.replace(found, symbol=symbol, kind="other", price_currency=kind.upper())


def _plain(strike: Any) -> str:
    text = str(strike or "")
    return text.rstrip("0").rstrip(".") if "." in text else text
