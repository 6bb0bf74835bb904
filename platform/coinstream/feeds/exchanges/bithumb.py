"""Connect to Bithumb: websocket of API 2.1, which has Upbit's protocol, and the older `pubwss`; spot markets.

Source: "Bithumb API 2.1", <https://apidocs.bithumb.com/reference> (websocket: ticker, trade, orderbook), and
"Public WebSocket", <https://apidocs.bithumb.com/v1.2.0>, as of 2026-05; the older one was checked against a
session of 2021-06-01.

- Names of markets begin with the quote currency in API 2.1 (`KRW-BTC`) and with the base before (`BTC_KRW`).
- Times of trades of the older protocol are in Korea's time (UTC+9) without a zone; trades have no id.
  `buySellGb` is the side of the taker: 1 sells, 2 buys.
- `orderbookdepth` changes the book of REST; `orderbooksnapshot` sends the complete book of 30 levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, ClassVar, Final, Literal

import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, Subscriptions, register_adapter
from coinstream.feeds.exchanges.connections import Heartbeat, Limits
from coinstream.feeds.exchanges.parsing import Found, each, levels, moment, number, optional, parsed, signed
from coinstream.feeds.exchanges.rest import path_after
from coinstream.feeds.exchanges.upbit import UpbitParser
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, spot
from coinstream.feeds.parser import ACKNOWLEDGED, STATUS, Frame, Parsed, rejected

WS: Final = "wss://ws-api.bithumb.com/websocket/v1"
REST: Final = "https://api.bithumb.com"
KOREA: Final = timezone(timedelta(hours=9))
_OK: Final = "0000"
_SIDES: Final[dict[str, Literal["buy", "sell"]]] = {"1": "sell", "2": "buy"}


class BithumbParser(UpbitParser):
    """Parser of Bithumb's frames: trades, books, tickers, candles."""

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return self._reply(value, frame.url, received)
        if isinstance(value, dict) and "resmsg" in value:
            refused = rejected(Reason.REFUSED, str(value["resmsg"])[:200])
            return ACKNOWLEDGED if value.get("status") == _OK else refused
        if not (isinstance(value, dict) and "content" in value):
            return super().on_json(value, frame, received)
        kind, content = value["type"], value["content"]
        match kind:
            case "transaction":
                return each(content["list"], lambda row: self._transaction(row, received))
            case "ticker":
                return parsed(self._old_ticker(content, received))
            case "orderbookdepth":
                return self._changes(content, received)
            case "orderbooksnapshot":
                return parsed(self._snapshot(content["symbol"], content, content["datetime"], received))
        return rejected(Reason.UNKNOWN, f"type {kind!r}")

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: `KRW-BTC` or `BTC_KRW`."""
        base, _, quote = name.partition("_")
        return spot(name, base, quote) if base and quote else super().unlisted(name)

    def _transaction(self, row: Any, received: datetime) -> Found:
        return self.state.trade(
            self.instrument(row["symbol"]),
            number(row["contPrice"]),
            number(row["contQty"]),
            datetime.fromisoformat(row["contDtm"]).replace(tzinfo=KOREA).astimezone(UTC),
            received,
            side=_SIDES.get(row["buySellGb"]),
        )

    def _old_ticker(self, row: Any, received: datetime) -> Found:
        if row.get("tickType") not in ("24H", None):
            yield Reason.STATUS
            return
        told = datetime.strptime(row["date"] + row["time"], "%Y%m%d%H%M%S")
        at = told.replace(tzinfo=KOREA).astimezone(UTC)
        volume, change = optional(row.get("volume")), signed(row.get("chgRate"))
        instrument = self.instrument(row["symbol"])
        yield self.state.ticker(instrument, number(row["closePrice"]), at, received, volume, change)

    def _changes(self, content: Any, received: datetime) -> Parsed:
        changes: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for row in content["list"]:
            sides = changes.setdefault(row["symbol"], {"bid": [], "ask": []})
            sides[row["orderType"]].append((number(row["price"]), number(row["quantity"])))
        at = int(content["datetime"])
        return each(changes.items(), lambda entry: self._change(entry[0], entry[1], at, received))

    def _change(self, name: str, sides: Any, at: int, received: datetime) -> Found:
        return self.state.book_change(
            "orderbookdepth",
            self.instrument(name),
            sides["bid"],
            sides["ask"],
            moment(at),
            received,
            last=at,
        )

    def _snapshot(self, name: str, body: Any, at: Any, received: datetime) -> Found:
        instrument, sides = self.instrument(name), (levels(body["bids"]), levels(body["asks"]))
        return self.state.book_snapshot("orderbooksnapshot", instrument, *sides, moment(at), received)

    def _reply(self, value: Any, url: str, received: datetime) -> Parsed:
        name = path_after(url, "/public/orderbook/")
        if not (name and isinstance(value, dict)):
            return STATUS
        if value.get("status") != _OK:
            return rejected(Reason.REFUSED, str(value)[:200])
        data = value["data"]
        bids, asks = (
            [(number(row["price"]), number(row["quantity"])) for row in data[side]]
            for side in ("bids", "asks")
        )
        at = int(data["timestamp"]) * 1000
        return parsed(
            self.state.book_snapshot(
                "orderbookdepth", self.instrument(name), bids, asks, moment(at), received, sequence=at
            )
        )


@register_adapter
class BithumbAdapter(ExchangeAdapter):
    """Adapter of Bithumb: spot markets."""

    exchange = "bithumb"
    hosts: ClassVar[tuple[str, ...]] = ("bithumb.com",)
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("trade", ("trade", "price"), "documentation"),
        Channel("orderbook", ("level1", "book"), "documentation"),
        Channel("ticker", ("price",), "documentation"),
        Channel("transaction (pubwss)", ("trade", "price"), "recording"),
        Channel("orderbookdepth (pubwss)", ("level1", "book"), "documentation"),
    )
    limits = Limits(symbols_per_connection=200, symbols_per_request=200, requests_per_second=5.0)
    instruments_paths: ClassVar[tuple[str, ...]] = ("/public/ticker/ALL_",)
    instruments_urls: ClassVar[tuple[str, ...]] = (f"{REST}/v1/market/all",)
    heartbeat = Heartbeat(b"PING", 60.0)
    parser_class = BithumbParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {
        "trade": ("trade",),
        "orderbook": ("level1", "book"),
        "ticker": ("price",),
    }

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        codes = [f"{instrument.quote}-{instrument.base}" for instrument in instruments]
        request: list[dict[str, Any]] = [{"ticket": f"coinstream {codes[0]}"}]
        request += [{"type": name, "codes": codes} for name in channels]
        return [msgspec.json.encode([*request, {"format": "DEFAULT"}])]

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the markets of `v1/market/all`, or of the older `public/ticker/ALL_KRW`."""
        quote = path_after(url, "/public/ticker/").partition("_")[2]
        return _tickers(quote, reply) if quote else _markets(reply)


def _markets(rows: Any) -> Iterator[Instrument]:
    for row in rows:
        quote, _, base = row["market"].partition("-")
        yield spot(row["market"], base, quote)


def _tickers(quote: str, reply: Any) -> Iterator[Instrument]:
    for base, row in reply["data"].items():
        if isinstance(row, dict):
            yield spot(f"{base}_{quote}", base, quote)
