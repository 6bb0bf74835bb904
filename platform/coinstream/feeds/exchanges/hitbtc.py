"""Connect to HitBTC, and to FMFW and Bequant on the same platform: websocket v3 and v2.

Source: "HitBTC API v3" and "v2", <https://api.hitbtc.com> and <https://api.hitbtc.com/v2>, and the same
documents of <https://api.fmfw.io> and <https://api.bequant.io>, as of 2024-11; checked against sessions of
2021-07-03 (Bequant, v2), 2021-07-15 (HitBTC, v2) and 2021-10-09 (FMFW, v3).

- A book starts with a snapshot; the `s` of its updates (v2: `sequence`) increases by one per symbol.
  `orderbook/D5` sends complete books of a fixed depth, `orderbook/top` only the best levels.
- v3 sends entries by symbol, several in a frame of a `batch` channel. v2's ticker has no sizes.
- `side` is the side of the taker. FMFW's trade ids repeat the time, so two trades may have the same id.
- The three exchanges can only be distinguished by their URLs. Bequant has second markets with `_BQX` in their
  name: if another market has the same currencies, their symbol ends in `_BQX` too.
- Currencies are named as the instrument list names them. v2 writes `USD` for Tether and `USDB` for dollars.
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
    optional_side,
    parsed,
    percent,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, STATUS, Frame, Parsed, rejected

_PERIODS: Final = {
    **{"M1": "1m", "M3": "3m", "M5": "5m", "M15": "15m", "M30": "30m", "H1": "1h", "H4": "4h"},
    **{"D1": "1d", "D7": "1w", "1M": "1M"},
}
_BOOKS_V2: Final = ("snapshotOrderbook", "updateOrderbook")
_TRADES_V2, _CANDLES_V2 = ("snapshotTrades", "updateTrades"), ("snapshotCandles", "updateCandles")
_TICKER_COLUMNS: Final = ("t", "b", "a", "B", "A", "c", "o", "v")


class HitbtcParser(ExchangeParser):
    """Parser of the platform's frames: books, tickers, trades, candles."""

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return STATUS
        if value.get("error"):
            return rejected(Reason.REFUSED, str(value["error"])[:200])
        if "ch" in value and "result" not in value:
            return self._v3(value, received)
        if "result" in value:
            return ACKNOWLEDGED
        if "method" not in value:
            return rejected(Reason.UNKNOWN, "neither method, channel nor result")
        return self._v2(value["method"], value["params"], received)

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`; v3 writes `USDT` where the lists of v2 have `USD`."""
        base = name.removesuffix("USDT")
        if base != name and self.instruments.of_symbol(f"{base}/USD") is not None:
            return spot(name, base, "USDT")
        return super().unlisted(name)

    # Version 3

    def _v3(self, value: Any, received: datetime) -> Parsed:
        channel = value["ch"]
        begins = "update" not in value
        entries = value.get("snapshot") or value.get("update") or value.get("data") or {}
        if not entries or channel.startswith("price/"):
            return STATUS
        if channel.startswith("orderbook/top"):
            return each(entries.items(), lambda entry: self._top(channel, entry[0], entry[1], received))
        if channel.startswith("orderbook/"):
            return each(
                entries.items(), lambda entry: self._book_v3(channel, entry[0], entry[1], received, begins)
            )
        if channel.startswith("ticker/"):
            return each(entries.items(), lambda entry: self._ticker_v3(entry[0], entry[1], received))
        rows = [(name, row) for name, some in entries.items() for row in _oldest_first(some)]
        if channel.startswith("trades"):
            return each(rows, lambda row: self._trade_v3(row[0], row[1], received))
        if channel.startswith("candles/"):
            period = channel.split("/")[1]
            return each(rows, lambda row: self._candle(row[0], period, row[1], "tohlcv", received))
        return rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def _top(self, channel: str, name: str, row: Any, received: datetime) -> Found:
        at, bid, ask, bid_size, ask_size, *_ = (row.get(key) for key in _TICKER_COLUMNS)
        quote = optional(bid), optional(ask), optional(bid_size), optional(ask_size)
        yield self.state.quote(self.instrument(name), *quote, moment(at), received, channel)

    def _ticker_v3(self, name: str, row: Any, received: datetime) -> Found:
        if "b" in row:
            yield from self._top("ticker", name, row, received)
        last = number(row.get("c"))
        change = percent(last, optional(row.get("o")))
        yield self.state.ticker(
            self.instrument(name), last, moment(row["t"]), received, optional(row.get("v")), change
        )

    def _book_v3(self, channel: str, name: str, row: Any, received: datetime, begins: bool) -> Found:
        instrument, sequence = self.instrument(name), int(row["s"])
        sides = levels(row["b"]), levels(row["a"])
        at = moment(row["t"])
        return self._book(channel, instrument, sides, sequence, at, received, begins)

    def _trade_v3(self, name: str, row: Any, received: datetime) -> Found:
        return self.state.trade(
            self.instrument(name),
            number(row["p"]),
            number(row["q"]),
            moment(row["t"]),
            received,
            side=optional_side(row["s"]),
            trade_id=row["i"],
            unique_id=row["i"] != row["t"],
        )

    # Version 2

    def _v2(self, method: str, body: Any, received: datetime) -> Parsed:
        if method == "ticker":
            return parsed(self._ticker_v2(body, received))
        if method in _BOOKS_V2:
            return parsed(self._book_v2(body, method.startswith("snapshot"), received))
        if method in _TRADES_V2:
            instrument = self.instrument(body["symbol"])
            rows = ascending(body["data"], lambda row: row["id"])
            return each(rows, lambda row: self._trade_v2(instrument, row, received))
        if method in _CANDLES_V2:
            rows = ascending(body["data"], lambda row: row["timestamp"])
            keys = ("timestamp", "open", "max", "min", "close", "volume")
            return each(rows, lambda row: self._candle(body["symbol"], body["period"], row, keys, received))
        return rejected(Reason.UNKNOWN, f"method {method!r}")

    def _ticker_v2(self, body: Any, received: datetime) -> Found:
        instrument, at = self.instrument(body["symbol"]), moment(body["timestamp"])
        bid, ask = optional(body.get("bid")), optional(body.get("ask"))
        yield self.state.quote(instrument, bid, ask, None, None, at, received)
        last = number(body.get("last"))
        change = percent(last, optional(body.get("open")))
        yield self.state.ticker(instrument, last, at, received, optional(body.get("volume")), change)

    def _book_v2(self, body: Any, begins: bool, received: datetime) -> Found:
        at = moment(body["timestamp"]) if "timestamp" in body else received
        sides = levels(body["bid"]), levels(body["ask"])
        instrument, sequence = self.instrument(body["symbol"]), int(body["sequence"])
        return self._book("orderbook", instrument, sides, sequence, at, received, begins)

    def _trade_v2(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        return self.state.trade(
            instrument,
            number(row["price"]),
            number(row["quantity"]),
            moment(row["timestamp"]),
            received,
            side=optional_side(row.get("side")),
            trade_id=row["id"],
        )

    def _book(
        self,
        channel: str,
        instrument: Instrument,
        sides: tuple[Any, Any],
        sequence: int,
        at: datetime,
        received: datetime,
        begins: bool,
    ) -> Found:
        if begins:
            return self.state.book_snapshot(channel, instrument, *sides, at, received, sequence=sequence)
        return self.state.book_change(
            channel, instrument, *sides, at, received, first=sequence, last=sequence
        )

    def _candle(self, name: str, period: str, row: Any, keys: Sequence[str], received: datetime) -> Found:
        opened, *figures = (row[key] for key in keys)
        begin, high, low, close, volume = map(number, figures)
        prices = (begin, high, low, close)
        instrument = self.instrument(name)
        yield self.state.candle(instrument, _PERIODS[period], moment(opened), prices, volume, received)


def _oldest_first(rows: Any) -> Sequence[Any]:
    return ascending(rows, lambda row: (row["t"], row.get("i", 0)))


@register_adapter
class HitbtcAdapter(ExchangeAdapter):
    """Adapter of HitBTC: spot markets and perpetual contracts."""

    exchange = "hitbtc"
    hosts: ClassVar[tuple[str, ...]] = ("hitbtc.com",)
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("orderbook/full", ("level1", "book"), "recording"),
        Channel("orderbook/top", ("level1",), "documentation"),
        Channel("trades", ("trade", "price"), "recording"),
        Channel("ticker/1s", ("level1", "price"), "recording"),
        Channel("candles/M1", ("ohlcv",), "recording"),
    )
    limits = Limits(symbols_per_connection=200, symbols_per_request=100, requests_per_second=10.0)
    instruments_paths: ClassVar[tuple[str, ...]] = ("/api/2/public/symbol",)
    instruments_urls: ClassVar[tuple[str, ...]] = ("https://api.hitbtc.com/api/3/public/symbol",)
    address: ClassVar[str] = "wss://api.hitbtc.com/api/3/ws/public"
    parser_class = HitbtcParser
    subscriptions: ClassVar[Subscriptions] = {
        "orderbook/full": (
            "level1",
            "book",
        ),
        "trades": ("trade",),
        "ticker/1s": ("price",),
        "candles/M1": ("ohlcv",),
    }

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        symbols = [instrument.id for instrument in instruments]
        return [
            msgspec.json.encode(
                {"method": "subscribe", "ch": name, "params": {"symbols": symbols}, "id": index}
            )
            for index, name in enumerate(channels, 1)
        ]

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return the requests that make the exchange resend the book of a symbol."""
        fields = {"ch": "orderbook/full", "params": {"symbols": [instrument.id]}, "id": 0}
        return tuple(msgspec.json.encode({"method": method, **fields}) for method in RENEW)

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the markets of `public/symbol` of v3 or v2."""
        rows = reply if isinstance(reply, dict) else {row["id"]: row for row in reply}
        symbols: set[str] = set()
        for identity in sorted(rows, key=lambda name: "_BQX" in name):
            found = _instrument(identity, rows[identity])
            if found.symbol in symbols:
                found = msgspec.structs.replace(found, symbol=f"{found.symbol}_{identity.partition('_')[2]}")
            symbols.add(found.symbol)
            yield found


@register_adapter
class FmfwAdapter(HitbtcAdapter):
    """Adapter of FMFW (formerly Bitcoin.com Exchange)."""

    exchange = "fmfw"
    hosts = ("fmfw.io",)
    instruments_urls = ("https://api.fmfw.io/api/3/public/symbol",)
    address = "wss://api.fmfw.io/api/3/ws/public"


@register_adapter
class BequantAdapter(HitbtcAdapter):
    """Adapter of Bequant."""

    exchange = "bequant"
    hosts = ("bequant.io",)
    instruments_urls = ("https://api.bequant.io/api/3/public/symbol",)
    address = "wss://api.bequant.io/api/3/ws/public"


def _instrument(identity: str, row: Any) -> Instrument:
    quote = row.get("quote_currency") or row["quoteCurrency"]
    active = row.get("status", "working") == "working"
    if row.get("type") == "futures":
        base = row.get("underlying") or row["base_currency"]
        return derivative(identity, base, quote, quote, active=active)
    return spot(identity, row.get("base_currency") or row["baseCurrency"], quote, active=active)
