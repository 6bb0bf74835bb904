"""Connect to Aster: perpetual contracts with the protocol of Binance's USD-M futures.

Source: "Aster Futures v3: Websocket Market Streams" and "Market Data"
(https://asterdex.github.io/aster-api-website/futures-v3/websocket-market-streams/, read 2026-11-26):

- A connection carries at most 200 streams and takes 10 requests per second.
- A depth event covers the update ids `U` to `u`, and `pu` is the `u` of the previous event.
- A book starts from the REST snapshot.
- Trades are aggregate trades, whose ids grow by one per symbol.
"""

from __future__ import annotations

from coinstream.feeds.exchanges.base import Channel, register_adapter
from coinstream.feeds.exchanges.binance import BinanceUsdMAdapter
from coinstream.feeds.exchanges.connections import Limits


@register_adapter
class AsterAdapter(BinanceUsdMAdapter):
    """Aster, perpetual contracts."""

    exchange = "aster"
    hosts = ("fstream.asterdex.com", "fapi.asterdex.com")
    channels = tuple(
        Channel(channel.name, channel.types, "documentation")
        for channel in BinanceUsdMAdapter.channels
        if channel.name != "trade"
    )
    limits = Limits(symbols_per_connection=30, symbols_per_request=30, requests_per_second=4.0)
    instruments_urls = ("https://fapi.asterdex.com/fapi/v1/exchangeInfo",)
    address = "wss://fstream.asterdex.com"
    rest_address = "https://fapi.asterdex.com"

    @classmethod
    def is_foreign(cls, payload: bytes) -> bool:
        """Return True: frames without a URL are taken for Binance's, which are the same."""
        return True
