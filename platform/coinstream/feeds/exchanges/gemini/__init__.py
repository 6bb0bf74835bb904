"""Connect to Gemini: market data v2, the older v1, the newer streams of `ws.gemini.com`, and REST books.

Source: "Market Data v2", "Multi Market Data" (archived), "Stream Reference" and "Get Symbol Details",
<https://docs.gemini.com/websocket> and <https://docs.gemini.com/rest>, as of 2026-07; v2 was checked against
a session of 2021-06-24.

- v2: the first `l2_updates` of a symbol contains its complete book and the last 50 trades, newest first. The
  following frames contain changes. They have no time, so the receipt time is used.
- v1: `update` frames contain changes and trades; the `reason` `initial` starts a book. `socket_sequence`
  counts the frames of a connection. Only the URL of `v1/marketdata` contains the symbol.
- Streams have the names and numbers of Binance (`depthUpdate` with `U` and `u`) and times in nanoseconds.
- The instrument list gives names without a separator; currencies come from `symbols/details`, one market at a
  time. Sizes are in base currency, also of perpetual contracts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, Subscriptions, register_adapter
from coinstream.feeds.exchanges.connections import Limits, redirected
from coinstream.feeds.exchanges.gemini.parser import GeminiParser
from coinstream.feeds.instruments import Instrument, derivative, spot

WS: Final = "wss://api.gemini.com"
REST: Final = "https://api.gemini.com"
_BINANCE: Final = re.compile(rb'"E": ?\d{13}\b')


@register_adapter
class GeminiAdapter(ExchangeAdapter):
    """Adapter of Gemini: spot markets and perpetual contracts."""

    exchange = "gemini"
    hosts = ("gemini.com",)
    channels = (
        Channel("l2", ("level1", "book", "trade", "price"), "recording"),
        Channel("candles_1m", ("ohlcv",), "documentation"),
        Channel("mark_price", ("derivativeticker",), "documentation"),
        Channel("v1 multimarketdata", ("level1", "book", "trade", "price"), "documentation"),
        Channel("depth, trade", ("level1", "book", "trade", "price"), "recording"),
        Channel("bookTicker", ("level1",), "documentation"),
    )
    limits = Limits(symbols_per_connection=100, symbols_per_request=100, requests_per_second=1.0)
    instruments_paths: ClassVar[tuple[str, ...]] = ("/v1/symbols/details/",)
    instruments_urls = (f"{REST}/v1/symbols",)
    parser_class = GeminiParser
    address = f"{WS}/v2/marketdata"
    subscriptions: ClassVar[Subscriptions] = {
        "l2": ("level1", "book", "trade", "price"),
        "candles_1m": ("ohlcv",),
        "mark_price": ("derivativeticker",),
    }

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        symbols = [instrument.id for instrument in instruments]
        subscriptions = [{"name": name, "symbols": symbols} for name in channels]
        return [msgspec.json.encode({"type": "subscribe", "subscriptions": subscriptions})]

    @classmethod
    def is_foreign(cls, payload: bytes) -> bool:
        """Return whether Binance sent a frame: its times are in milliseconds, Gemini's in nanoseconds."""
        return _BINANCE.search(payload) is not None

    def instrument_urls(self, symbols: Sequence[str]) -> tuple[str, ...]:
        """Return the address of each market's details; the full list does not contain the currencies."""
        details = redirected(f"{REST}/v1/symbols/details", self.rest)
        return tuple(f"{details}/{_identity(symbol)}" for symbol in symbols)

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the market of `symbols/details`; `symbols` contains only names."""
        for row in [reply] if isinstance(reply, dict) else reply:
            if isinstance(row, str):
                continue
            identity, base, quote = row["symbol"], row["base_currency"], row["quote_currency"]
            active = row.get("status") != "closed"
            if row.get("product_type") == "swap":
                settle = row.get("contract_price_currency") or quote
                yield derivative(identity, base, quote, settle, active=active)
            else:
                yield spot(identity, base, quote, active=active)


def _identity(symbol: str) -> str:
    pair, _, settle = symbol.partition(":")
    return pair.replace("/", "").lower() + ("perp" if settle else "")
