"""Connect to Hyperliquid: websocket of spot markets and perpetual contracts.

Source: "Hyperliquid Docs", <https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket>
(Subscriptions, Timeouts and heartbeats) and "Info endpoint", as of 2026-06; frames of 2024 and 2025.

- A coin such as `BTC` is the perpetual contract, quoted and settled in USDC; spot markets are `PURR/USDC` or
  `@107`, whose currencies are in `spotMeta`. Sizes are in base currency.
- Each frame of `l2Book` contains 20 levels per side; `bbo` may lack a side.
- `side` is the side of the taker: `A` sells, `B` buys.
- `funding` is the rate of one hour. Figures of a contract have no time; the receipt time is used.
- Instruments are requested with POST. The exchange closes a connection without a frame for 60 s.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

import httpx
import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, Subscriptions, register_adapter
from coinstream.feeds.exchanges.connections import Heartbeat, Limits, redirected
from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    ascending,
    each,
    moment,
    number,
    optional,
    parsed,
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Parsed, rejected

WS: Final = "wss://api.hyperliquid.xyz/ws"
INFO: Final = "https://api.hyperliquid.xyz/info"
_SIDES: Final[dict[str, Literal["buy", "sell"]]] = {"A": "sell", "B": "buy"}
_COLLATERAL: Final = "USDC"
_NEWS: Final = frozenset({"allMids", "activeSpotAssetCtx", "notification"})


class HyperliquidParser(ExchangeParser):
    """Parser of Hyperliquid's frames: trades, books, best levels, candles, contract figures."""

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return STATUS
        channel, data = value["channel"], value.get("data")
        match channel:
            case "trades":
                rows = ascending(data, lambda row: row["time"])
                return each(rows, lambda row: self._trade(row, received))
            case "l2Book":
                return parsed(self._book(data, received))
            case "bbo":
                return parsed(self._best(data, received))
            case "candle":
                rows = data if isinstance(data, list) else [data]
                return each(rows, lambda row: self._candle(row, received))
            case "activeAssetCtx":
                return parsed(self._figures(data, received))
            case "subscriptionResponse":
                return ACKNOWLEDGED
            case "pong":
                return HEARTBEAT
            case "error":
                return rejected(Reason.REFUSED, str(data)[:200])
        return STATUS if channel in _NEWS else rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: a coin is a perpetual contract, `@107` needs the list."""
        if name.startswith("@") or not name:
            return None
        base, _, quote = name.partition("/")
        return spot(name, base, quote) if base and quote else _perpetual(name)

    def _trade(self, row: Any, received: datetime) -> Found:
        return self.state.trade(
            self.instrument(row["coin"]),
            number(row["px"]),
            number(row["sz"]),
            moment(row["time"]),
            received,
            side=_SIDES.get(row["side"]),
            trade_id=row["tid"],
        )

    def _book(self, data: Any, received: datetime) -> Found:
        bids, asks = ([(number(row["px"]), number(row["sz"])) for row in side] for side in data["levels"])
        instrument, at = self.instrument(data["coin"]), moment(data["time"])
        return self.state.book_snapshot("l2Book", instrument, bids, asks, at, received)

    def _best(self, data: Any, received: datetime) -> Found:
        sides = [*data["bbo"], None, None][:2]
        (bid, bid_size), (ask, ask_size) = (
            (number(row["px"]), number(row["sz"])) if row else (None, None) for row in sides
        )
        instrument, at = self.instrument(data["coin"]), moment(data["time"])
        yield self.state.quote(instrument, bid, ask, bid_size, ask_size, at, received, "bbo")

    def _candle(self, row: Any, received: datetime) -> Found:
        prices = (number(row["o"]), number(row["h"]), number(row["l"]), number(row["c"]))
        instrument, volume = self.instrument(row["s"]), number(row["v"])
        yield self.state.candle(instrument, row["i"], moment(row["t"]), prices, volume, received)

    def _figures(self, data: Any, received: datetime) -> Found:
        row = data["ctx"]
        yield self.state.derivative(
            self.instrument(data["coin"]),
            received,
            received,
            mark_price=optional(row.get("markPx")),
            index_price=optional(row.get("oraclePx")),
            funding_rate=signed(row.get("funding")),
            open_interest=optional(row.get("openInterest")),
        )


@register_adapter
class HyperliquidAdapter(ExchangeAdapter):
    """Adapter of Hyperliquid: spot markets and perpetual contracts."""

    exchange = "hyperliquid"
    hosts: ClassVar[tuple[str, ...]] = ("hyperliquid.xyz",)
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("l2Book", ("level1", "book"), "recording"),
        Channel("bbo", ("level1",), "recording"),
        Channel("trades", ("trade", "price"), "recording"),
        Channel("candle", ("ohlcv",), "documentation"),
        Channel("activeAssetCtx", ("derivativeticker",), "documentation"),
    )
    limits = Limits(symbols_per_connection=100, symbols_per_request=100, requests_per_second=20.0)
    instruments_urls: ClassVar[tuple[str, ...]] = (f"{INFO}?type=meta", f"{INFO}?type=spotMeta")
    heartbeat = Heartbeat(b'{"method":"ping"}', 30.0)
    parser_class = HyperliquidParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {
        "bbo": ("level1",),
        "l2Book": ("book",),
        "trades": ("trade", "price"),
        "candle": ("ohlcv",),
        "activeAssetCtx": ("derivativeticker",),
    }

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        return [
            msgspec.json.encode(
                {
                    "method": "subscribe",
                    "subscription": {
                        **{"type": name, "coin": instrument.id},
                        **({"interval": "1m"} if name == "candle" else {}),
                    },
                }
            )
            for name in channels
            for instrument in instruments
            if name != "activeAssetCtx" or instrument.kind != "spot"
        ]

    async def fetch_instruments(
        self, http: httpx.AsyncClient, symbols: Sequence[str] = ()
    ) -> list[Instrument]:
        """Request `meta` and `spotMeta` with POST. See `ExchangeAdapter.fetch_instruments`."""
        found: list[Instrument] = []
        for url in self.instruments_urls:
            address, _, kind = redirected(url, self.rest).partition("?type=")
            reply = await http.post(address, json={"type": kind})
            reply.raise_for_status()
            found += self.parse_instruments(url, reply.content)
        return found

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the contracts of `meta` or the spot markets of `spotMeta`."""
        if "tokens" not in reply:
            for row in reply["universe"]:
                found = _perpetual(row["name"])
                yield msgspec.structs.replace(found, active=not row.get("isDelisted", False))
            return
        tokens = {row["index"]: row["name"] for row in reply["tokens"]}
        for row in reply["universe"]:
            base, quote = row["tokens"]
            yield spot(row["name"], tokens[base], tokens[quote])


def _perpetual(name: str) -> Instrument:
    return derivative(name, name.replace(":", "-"), _COLLATERAL, _COLLATERAL)
