"""An exchange of its own: Bitvavo, live over its websocket and from recordings.

Facts from the exchange's API documentation ("Ticker 24h", "Markets", "Time"): the channel `ticker24h` sends a
list; for each market best bid and ask with their sizes, the last price and the time in milliseconds.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, ClassVar

import httpx
import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, Subscriptions, register_adapter
from coinstream.feeds.exchanges.parsing import ExchangeParser, Found, each, moment, number
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, spot
from coinstream.feeds.parser import ACKNOWLEDGED, Frame, Parsed, rejected

WS, REST = "wss://ws.bitvavo.com/v2", "https://api.bitvavo.com/v2"


class BitvavoParser(ExchangeParser):
    """Frames of `ticker24h` to Level1 and, where the price is in dollars, Price."""

    def unlisted(self, name: str) -> Instrument | None:
        """Return the market of a name: the dash says what is base and what is quote."""
        base, dash, quote = name.partition("-")
        return spot(name, base, quote) if dash else None

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if value["event"] == "subscribed":
            return ACKNOWLEDGED
        if value["event"] != "ticker24h":
            return rejected(Reason.UNKNOWN, f"event {value['event']!r}")
        return each(value["data"], lambda told: self._ticker(told, received))

    def _ticker(self, told: Any, received: datetime) -> Found:
        market, at = self.instrument(told["market"]), moment(told["timestamp"])
        quote = (number(told[name]) for name in ("bid", "ask", "bidSize", "askSize"))
        yield self.state.quote(market, *quote, at, received)
        yield self.state.ticker(market, number(told["last"]), at, received)


@register_adapter
class BitvavoAdapter(ExchangeAdapter):
    """Adapter of Bitvavo: URL, subscriptions and REST requests."""

    exchange = "bitvavo"
    hosts = ("bitvavo.com",)
    channels = (Channel("ticker24h", ("level1", "price"), "documentation"),)
    instruments_urls = (f"{REST}/markets",)
    parser_class = BitvavoParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {"ticker24h": ("level1", "price")}

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        markets = [instrument.id for instrument in instruments]
        wanted = [{"name": name, "markets": markets} for name in channels]
        return [msgspec.json.encode({"action": "subscribe", "channels": wanted})]

    def read_instruments(self, reply: Any, url: str) -> Iterator[Instrument]:
        """See `ExchangeAdapter.read_instruments`."""
        for row in reply:
            yield spot(row["market"], row["base"], row["quote"], active=row["status"] == "trading")

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        return float((await http.get(f"{self.rest or REST}/time")).raise_for_status().json()["time"])
