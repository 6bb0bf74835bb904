"""Connect to Crypto.com: websocket of Exchange API v1 and the older Spot v2; spot and derivatives.

Source: "Crypto.com Exchange API v1", <https://exchange-docs.crypto.com/exchange/v1/rest-ws/index.html>, and
"Spot API v2.1", <https://exchange-docs.crypto.com/>, as of 2026-06; frames of 2022-05-30 to 2022-11-01.

- Trades are sent newest first; `s` is the side of the taker, in either case. Numbers are text in v1. `c` of a
  ticker is a ratio in v1 and an amount in v2.
- `book` sends the complete book; `book.update` sends changes, in v1 with `u` and `pu`, the previous `u`.
- The exchange sends `public/heartbeat` every 30 s and closes the connection without an answer within 5 s.
- A connection carries at most 400 subscriptions; sizes are in base currency.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Final

import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, TradesRequest, register_adapter
from coinstream.feeds.exchanges.connections import Connection, Limits, plan_connections, redirected
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
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected

WS: Final = "wss://stream.crypto.com/exchange/v1/market"
DEPTH: Final = 50
_HEARTBEAT: Final = "public/heartbeat"
_FIGURES: Final = {"mark": "mark_price", "index": "index_price", "funding": "funding_rate"}
_ANNOUNCEMENTS: Final = frozenset({"settlement", "estimatedfunding", "otc_book"})
_PERIODS: Final = {"7D": "1w", "14D": "2w", "1D": "1d", "D1": "1d", "1M": "1M"}


class CryptocomParser(ExchangeParser):
    """Parser of Crypto.com's frames: books, tickers, trades, candles, contract figures."""

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return STATUS
        method = value.get("method", "")
        if method in (_HEARTBEAT, "public/respond-heartbeat"):
            return HEARTBEAT
        if value.get("code"):
            return rejected(Reason.REFUSED, str(value.get("message", value["code"])))
        result = value.get("result")
        if not isinstance(result, dict) or "channel" not in result:
            return ACKNOWLEDGED if method else rejected(Reason.UNKNOWN, "neither method nor channel")
        return self._channel(result, received)

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: `BTC_USDT`, `BTCUSD-PERP`."""
        base, _, quote = name.partition("_")
        if base and quote:
            return spot(name, base, quote)
        pair, dash, kind = name.partition("-")
        if dash and kind == "PERP" and pair.endswith("USD") and pair != "USD":
            return derivative(name, pair.removesuffix("USD"), "USD", "USD")
        return None

    def _channel(self, result: Any, received: datetime) -> Parsed:
        channel, data = result["channel"], result["data"]
        if channel in _ANNOUNCEMENTS:
            return STATUS
        name = result.get("instrument_name") or data[0]["i"]
        if channel == "index":
            name = name.replace("-INDEX", "-PERP")
        instrument = self.instrument(name)
        if channel in _FIGURES:
            return each(data, lambda row: self._figure(instrument, _FIGURES[channel], row, received))
        match channel:
            case "trade":
                rows = ascending(data, lambda row: (row["t"], int(row["d"])))
                return each(rows, lambda row: self._trade(instrument, row, received))
            case "ticker":
                return each(data, lambda row: self._ticker(instrument, row, received))
            case "book" | "book.update":
                whole = channel == "book"
                return each(data, lambda row: self._book(instrument, result, row, received, whole))
            case "candlestick":
                rows = ascending(data, lambda row: row["t"])
                return each(rows, lambda row: self._candle(instrument, result["interval"], row, received))
        return rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def _trade(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        return self.state.trade(
            instrument,
            number(row["p"]),
            number(row["q"]),
            moment(row["t"]),
            received,
            side=optional_side(row["s"]),
            trade_id=row["d"],
        )

    def _ticker(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        at, last = moment(row["t"]), optional(row["a"])
        yield self.state.quote(
            instrument,
            optional(row["b"]),
            optional(row["k"]),
            optional(row.get("bs")),
            optional(row.get("ks")),
            at,
            received,
            "ticker",
        )
        change = signed(row.get("c"))
        if change is not None and not isinstance(row["c"], str):
            opened = (last or 0.0) - change
            change = change / opened if opened > 0 else None
        change = None if change is None else change * 100
        yield self.state.ticker(instrument, last, at, received, optional(row.get("v")), change)
        if instrument.kind != "spot":
            open_interest = optional(row.get("oi"))
            yield self.state.derivative(
                instrument, at, received, last_price=last, open_interest=open_interest
            )

    def _figure(self, instrument: Instrument, name: str, row: Any, received: datetime) -> Found:
        yield self.state.derivative(instrument, moment(row["t"]), received, **{name: signed(row["v"])})

    def _book(self, instrument: Instrument, result: Any, row: Any, received: datetime, whole: bool) -> Found:
        body = row.get("update", row)
        sides = levels(body["bids"]), levels(body["asks"])
        at = moment(row["t"])
        if whole:
            return self.state.book_snapshot(
                "book",
                instrument,
                *sides,
                at,
                received,
                sequence=int(row.get("u", -1)),
                depth=int(result["depth"]) if "depth" in result else None,
            )
        last = int(row["u"]) if "u" in row else None
        first = int(row["pu"]) + 1 if "pu" in row else None
        return self.state.book_change("book", instrument, *sides, at, received, first=first, last=last)

    def _candle(self, instrument: Instrument, interval: str, row: Any, received: datetime) -> Found:
        unit = interval[:1].lower()
        timeframe = _PERIODS.get(interval) or (interval[1:] + unit if unit in "mh" else interval)
        prices = (number(row["o"]), number(row["h"]), number(row["l"]), number(row["c"]))
        yield self.state.candle(
            instrument, timeframe, moment(row["t"]), prices, number(row.get("v")), received
        )


@register_adapter
class CryptocomAdapter(ExchangeAdapter):
    """Adapter of Crypto.com: spot markets, perpetual contracts and futures."""

    exchange = "cryptocom"
    hosts: ClassVar[tuple[str, ...]] = ("crypto.com",)
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("book", ("level1", "book"), "recording"),
        Channel("trade", ("trade", "price"), "recording"),
        Channel("ticker", ("level1", "price"), "recording"),
        Channel("candlestick", ("ohlcv",), "documentation"),
        Channel("mark, index, funding", ("derivativeticker",), "documentation"),
    )
    limits = Limits(symbols_per_connection=80, symbols_per_request=40, requests_per_second=10.0)
    instruments_paths: ClassVar[tuple[str, ...]] = ("/v2/public/get-instruments",)
    instruments_urls: ClassVar[tuple[str, ...]] = (
        "https://api.crypto.com/exchange/v1/public/get-instruments",
    )
    parser_class = CryptocomParser

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        url = redirected("https://api.crypto.com/exchange/v1/public/get-trades", self.rest)
        return TradesRequest(url, {"instrument_name": instrument.id, "count": "150"})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        result = {"channel": "trade", "instrument_name": instrument.id, "data": reply["result"]["data"]}
        return [{"code": 0, "method": "subscribe", "result": result}]

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """See `ExchangeAdapter.connections`."""
        return plan_connections(redirected(WS, self.ws), instruments, self.limits, partial(_requests, types))

    def answer(self, frame: Frame) -> bytes | None:
        """Answer a heartbeat with its id."""
        if _HEARTBEAT.encode() not in frame.payload:
            return None
        try:
            value = msgspec.json.decode(frame.payload, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            return None
        if value.get("method") != _HEARTBEAT:
            return None
        return msgspec.json.encode({"id": value.get("id"), "method": "public/respond-heartbeat"})

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return the requests that make the exchange resend the book of a symbol."""
        channel = f"book.{instrument.id}.{DEPTH}"
        ended = {"id": 1, "method": "unsubscribe", "params": {"channels": [channel]}}
        return msgspec.json.encode(ended), *_requests(frozenset({"book"}), [instrument])

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of `public/get-instruments` of v1 or v2."""
        result = reply["result"]
        for row in result.get("data") or result["instruments"]:
            if "instrument_name" in row:
                yield spot(row["instrument_name"], row["base_currency"], row["quote_currency"])
                continue
            name, base, quote = row["symbol"], row["base_ccy"], row["quote_ccy"]
            active = bool(row.get("tradable", True))
            if row["inst_type"] == "CCY_PAIR":
                yield spot(name, base, quote, active=active)
            elif row["inst_type"] in ("PERPETUAL_SWAP", "FUTURE"):
                ends = int(row.get("expiry_timestamp_ms") or 0)
                expiry = datetime.fromtimestamp(ends / 1000, UTC) if ends else None
                yield derivative(name, base, quote, quote, expiry=expiry, active=active)


def _requests(types: frozenset[str], batch: Sequence[Instrument]) -> list[bytes]:
    channels = []
    for instrument in batch:
        name = instrument.id
        if types & {"level1", "book"}:
            channels.append(f"book.{name}.{DEPTH}")
        if "trade" in types:
            channels.append(f"trade.{name}")
        if "price" in types:
            channels.append(f"ticker.{name}")
        if "ohlcv" in types:
            channels.append(f"candlestick.1m.{name}")
        if "derivativeticker" in types and instrument.kind != "spot":
            index = name.partition("-")[0] + "-INDEX"
            channels += [f"mark.{name}", f"funding.{name}", f"index.{index}", f"ticker.{name}"]
    if not channels:
        return []
    parameters: dict[str, Any] = {"channels": list(dict.fromkeys(channels))}
    if types & {"level1", "book"}:
        parameters["book_subscription_type"] = "SNAPSHOT_AND_UPDATE"
        parameters["book_update_frequency"] = 10
    return [msgspec.json.encode({"id": 1, "method": "subscribe", "params": parameters})]
