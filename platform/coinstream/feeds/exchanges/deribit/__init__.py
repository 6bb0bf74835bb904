"""Connect to Deribit: perpetuals, futures, options and spot.

Source: "Deribit API v2" (https://docs.deribit.com/): JSON-RPC over one address; `raw` channels need a
login, so the 100 ms ones are used; trades of a gap are fetched by their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Final

import httpx
import msgspec

from coinstream.feeds.exchanges.base import (
    Channel,
    ExchangeAdapter,
    Subscriptions,
    TradesRequest,
    register_adapter,
)
from coinstream.feeds.exchanges.connections import Heartbeat, Limits, redirected
from coinstream.feeds.exchanges.deribit.parser import DeribitParser, read_instrument
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Frame, Gap

_REST: Final = "https://www.deribit.com/api/v2/public"
_MOST_TRADES: Final = 1000


@register_adapter
class DeribitAdapter(ExchangeAdapter):
    """Deribit's websocket v2."""

    exchange = "deribit"
    hosts: ClassVar[tuple[str, ...]] = ("deribit.com",)
    channels = (
        Channel("ticker", ("level1", "price", "derivativeticker"), "recording"),
        Channel("book", ("level1", "book"), "recording"),
        Channel("quote", ("level1",), "documentation"),
        Channel("trades", ("trade", "price", "liquidation"), "documentation"),
        Channel("incremental_ticker", ("level1", "price", "derivativeticker"), "documentation"),
        Channel("chart.trades", ("ohlcv",), "documentation"),
    )
    limits = Limits(symbols_per_connection=100, symbols_per_request=50, requests_per_second=5)
    heartbeat = Heartbeat(b'{"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}', 30.0)
    instruments_urls = (f"{_REST}/get_instruments?currency=any&expired=false",)
    parser_class = DeribitParser
    address = "wss://www.deribit.com/ws/api/v2"
    subscriptions: ClassVar[Subscriptions] = {
        "quote.{}": ("level1",),
        "ticker.{}.100ms": ("price", "derivativeticker"),
        "trades.{}.100ms": ("trade", "liquidation"),
        "book.{}.none.20.100ms": ("book",),
        "chart.trades.{}.1": ("ohlcv",),
    }

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of `public/get_instruments`."""
        return (read_instrument(entry) for entry in reply["result"])

    def answer(self, frame: Frame) -> bytes | None:
        """Return the reply to a `test_request` of the server."""
        if b'"test_request"' not in frame.payload[:200]:
            return None
        return b'{"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}'

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        url = redirected("https://www.deribit.com/api/v2/public/get_time", self.rest)
        return await server_time_ms(http, url, "result")

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        names = [channel.format(instrument.id) for channel in channels for instrument in instruments]
        request = {"jsonrpc": "2.0", "id": 1, "method": "public/subscribe", "params": {"channels": names}}
        return [msgspec.json.encode(request)]

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        url = redirected(f"{_REST}/get_last_trades_by_instrument", self.rest)
        params = {"instrument_name": instrument.id, "count": str(_MOST_TRADES), "sorting": "asc"}
        return TradesRequest(url, params | {"start_seq": str(gap.first), "end_seq": str(gap.last)})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        rows = sorted(reply["result"]["trades"], key=lambda row: int(row["trade_seq"]))
        params = {"channel": f"trades.{instrument.id}.100ms", "data": rows}
        return [{"jsonrpc": "2.0", "method": "subscription", "params": params}]
