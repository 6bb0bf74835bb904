"""Connect to Binance: spot, Binance.US, Binance TR, USD-M and COIN-M futures, and European options.

Source: "Web Socket Streams for Binance", "USDS-M Futures", "COIN-M Futures" and "European Options"
(https://developers.binance.com/docs, read 2026-11-26):

- A spot bookTicker has no event time; `u` is the update id of the book and grows per symbol.
- Trade ids and aggregate trade ids grow by one per symbol and stream, so a jump is a loss.
- A depth event covers the update ids `U` to `u`. On spot, `U` follows the `u` before; on futures, `pu` is
  the `u` before. A book starts from the REST snapshot, whose `lastUpdateId` is the last id it holds.
- COIN-M counts sizes in contracts of a fixed number of dollars.
- A connection carries at most 1,024 streams and takes 5 requests per second.
"""

from coinstream.feeds.exchanges.binance.adapters import (
    BinanceAdapter,
    BinanceCoinMAdapter,
    BinanceOptionsAdapter,
    BinanceTrAdapter,
    BinanceUsAdapter,
    BinanceUsdMAdapter,
)
from coinstream.feeds.exchanges.binance.parser import BinanceParser

__all__ = [
    "BinanceAdapter",
    "BinanceCoinMAdapter",
    "BinanceOptionsAdapter",
    "BinanceParser",
    "BinanceTrAdapter",
    "BinanceUsAdapter",
    "BinanceUsdMAdapter",
]
