"""Live feeds: exchanges over websockets and REST.

`DirectFeed` reads Binance and Kraken through this package's own parsers, `CcxtFeed` any exchange that ccxt
knows, `CoingeckoFeed` the global figures. All drive their connections from the thread that takes their
messages: while that thread publishes nothing is read, so the exchange's connection is the back pressure.
"""

from coinstream.feeds.live.base import LiveFeed, Timeouts
from coinstream.feeds.live.ccxt_feed import CcxtFeed
from coinstream.feeds.live.coingecko import CoingeckoFeed
from coinstream.feeds.live.direct import DirectFeed

__all__ = ["CcxtFeed", "CoingeckoFeed", "DirectFeed", "LiveFeed", "Timeouts"]
