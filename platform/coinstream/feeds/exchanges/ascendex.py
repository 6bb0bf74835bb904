"""Connect to AscendEX: websocket of spot markets (Pro v1) and perpetual contracts (Pro v2).

Source: "AscendEX Pro API", <https://ascendex.github.io/ascendex-pro-api>, and "Futures Pro (v2) APIs",
<https://ascendex.github.io/ascendex-futures-pro-api-v2>, as of 2026-01; checked against a session of
2021-04-17.

- `depth` sends changes whose `seqnum` increases by one per symbol. The client requests `depth-snapshot`, or
  the book over REST. A snapshot of a quiet market may have the time 0.
- `bm` is true if the buyer was the maker. `seqnum` of a trade is unique.
- The exchange sends `ping` every 15 s and expects `pong`. Sizes are in base currency, also of contracts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, Final
from urllib.parse import quote as quoted

import httpx
import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, TradesRequest, register_adapter
from coinstream.feeds.exchanges.connections import Connection, Heartbeat, Limits, plan_connections, redirected
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
from coinstream.feeds.exchanges.rest import fetch_frame
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected

_PERPETUAL: Final = "-PERP"
WS: Final = "wss://ascendex.com/1/api/pro"
REST: Final = "https://ascendex.com"
_SNAPSHOTS: Final = ("depth-snapshot", "depth-snapshot-realtime")
_PERIODS: Final = {"1": "1m", "5": "5m", "15": "15m", "30": "30m", "60": "1h", "240": "4h", "1d": "1d"}
_PING: Final = b'"ping"'


class AscendexParser(ExchangeParser):
    """Parser of AscendEX's frames: books, best levels, trades, candles, contract figures."""

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            body = value.get("data") if isinstance(value, dict) else None
            if not (isinstance(body, dict) and body.get("m") in _SNAPSHOTS):
                return STATUS
            value = body
        kind = value["m"]
        match kind:
            case "ping" | "pong":
                return HEARTBEAT
            case "connected" | "auth":
                return STATUS
            case "error":
                return rejected(Reason.REFUSED, f"{value.get('code')} {value.get('reason')}")
            case "sub" | "unsub":
                refused = rejected(Reason.REFUSED, str(value)[:200])
                return refused if value.get("code") else ACKNOWLEDGED
            case "futures-pricing-data":
                return each(value["con"], lambda row: self._figures(row, received))
            case "trades":
                instrument = self.instrument(value["symbol"])
                rows = ascending(value["data"], lambda row: row["seqnum"])
                return each(rows, lambda row: self._trade(instrument, row, received))
            case "bar":
                return parsed(self._candle(self.instrument(value["s"]), value["data"], received))
        read = {"depth": self._change, "bbo": self._best}.get(kind)
        if kind in _SNAPSHOTS:
            read = self._snapshot
        if read is None:
            return rejected(Reason.UNKNOWN, f"kind {kind!r}")
        return parsed(read(self.instrument(value["symbol"]), value["data"], received))

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: `BTC/USDT`, `BTC-PERP`."""
        base, _, quote = name.partition("/")
        if base and quote:
            return spot(name, base, quote)
        base, dash, kind = name.partition("-")
        return derivative(name, base, "USDT", "USDT") if base and dash and kind == "PERP" else None

    def _change(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        number_ = int(row["seqnum"])
        sides = levels(row["bids"]), levels(row["asks"])
        at = _time(row, received)
        return self.state.book_change("depth", instrument, *sides, at, received, first=number_, last=number_)

    def _snapshot(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        sides = levels(row["bids"]), levels(row["asks"])
        return self.state.book_snapshot(
            "depth", instrument, *sides, _time(row, received), received, sequence=int(row["seqnum"])
        )

    def _best(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        (bid, bid_size), (ask, ask_size) = (
            (number(row[side][0]), number(row[side][1])) if row.get(side) else (None, None)
            for side in ("bid", "ask")
        )
        at = _time(row, received)
        yield self.state.quote(instrument, bid, ask, bid_size, ask_size, at, received, "bbo")

    def _trade(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        return self.state.trade(
            instrument,
            number(row["p"]),
            number(row["q"]),
            moment(row["ts"]),
            received,
            side="sell" if row["bm"] else "buy",
            trade_id=row["seqnum"],
        )

    def _candle(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        prices = (number(row["o"]), number(row["h"]), number(row["l"]), number(row["c"]))
        timeframe = _PERIODS.get(row["i"], row["i"].replace("m", "M"))
        yield self.state.candle(instrument, timeframe, moment(row["ts"]), prices, number(row["v"]), received)

    def _figures(self, row: Any, received: datetime) -> Found:
        yield self.state.derivative(
            self.instrument(row["s"]),
            moment(row["t"]),
            received,
            mark_price=optional(row["mp"]),
            index_price=optional(row.get("ip")),
            funding_rate=signed(row.get("r")),
            next_funding_time=moment(row["f"]) if row.get("f") else None,
            open_interest=optional(row.get("oi")),
        )


def _time(row: Any, received: datetime) -> datetime:
    return moment(row["ts"]) if row.get("ts") else received


@register_adapter
class AscendexAdapter(ExchangeAdapter):
    """Adapter of AscendEX: spot markets and perpetual contracts."""

    exchange = "ascendex"
    hosts: ClassVar[tuple[str, ...]] = ("ascendex.com", "bitmax.io")
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("depth", ("level1", "book"), "recording"),
        Channel("bbo", ("level1",), "recording"),
        Channel("trades", ("trade", "price"), "recording"),
        Channel("bar", ("ohlcv",), "documentation"),
        Channel("futures-pricing-data", ("derivativeticker",), "documentation"),
    )
    limits = Limits(symbols_per_connection=50, symbols_per_request=50, requests_per_second=10.0)
    instruments_urls: ClassVar[tuple[str, ...]] = (
        f"{REST}/api/pro/v1/products",
        f"{REST}/api/pro/v2/futures/contract",
    )
    heartbeat = Heartbeat(b'{"op":"ping"}', 15.0)
    parser_class = AscendexParser

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """Return connections to v1 for spot markets and to v2 for contracts."""
        found: list[Connection] = []
        for version, is_spot in (("v1", True), ("v2", False)):
            some = [instrument for instrument in instruments if (instrument.kind == "spot") == is_spot]
            url = redirected(f"{WS}/{version}/stream", self.ws)
            found += plan_connections(url, some, self.limits, partial(_requests, types))
        return found

    def answer(self, frame: Frame) -> bytes | None:
        """Answer a ping."""
        payload = frame.payload
        return b'{"op":"pong"}' if _PING in payload[:40] and b'"m"' in payload[:40] else None

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the markets of `products` or the contracts of `futures/contract`."""
        for row in reply["data"]:
            name, active = row["symbol"], row.get("status", "Normal") == "Normal"
            if "settlementAsset" in row:
                base, _, quote = row["underlying"].partition("/")
                yield derivative(name, base, quote, row["settlementAsset"], active=active)
            elif name.endswith(_PERPETUAL):
                # `products` lists contracts too: BTC-PERP has the base BTCUSDT and the quote USDT.
                quote = row["quoteAsset"]
                yield derivative(name, row["baseAsset"].removesuffix(quote), quote, quote, active=active)
            else:
                yield spot(name, row["baseAsset"], row["quoteAsset"], active=active)

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        if instrument.kind != "spot":
            return None
        url = redirected(f"{REST}/api/pro/v1/trades", self.rest)
        return TradesRequest(url, {"symbol": instrument.id, "n": "100"})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        rows = sorted(reply["data"]["data"], key=lambda row: int(row["seqnum"]))
        return [{"m": "trades", "symbol": instrument.id, "data": rows}]

    async def snapshot(self, http: httpx.AsyncClient, instrument: Instrument) -> Frame | None:
        """Request the book of a spot market or contract."""
        version = "v1" if instrument.kind == "spot" else "v2/futures"
        url = redirected(f"{REST}/api/pro/{version}/depth", self.rest)
        return await fetch_frame(http, f"{url}?symbol={quoted(instrument.id, safe='')}")


def _requests(types: frozenset[str], batch: Sequence[Instrument]) -> list[bytes]:
    names = ",".join(instrument.id for instrument in batch)
    channels = [
        *(("depth",) if types & {"level1", "book"} else ()),
        *(("trades",) if types & {"trade", "price"} else ()),
    ]
    requests: list[dict[str, Any]] = [{"op": "sub", "ch": f"{channel}:{names}"} for channel in channels]
    if "ohlcv" in types:
        requests += [{"op": "sub", "ch": f"bar:1:{instrument.id}"} for instrument in batch]
    if "derivativeticker" in types and any(instrument.kind != "spot" for instrument in batch):
        requests.append({"op": "sub", "ch": f"futures-pricing-data:{names}"})
    if "depth" in channels:
        requests += [
            {"op": "req", "action": "depth-snapshot", "args": {"symbol": instrument.id}}
            for instrument in batch
        ]
    return [msgspec.json.encode(request) for request in requests]
