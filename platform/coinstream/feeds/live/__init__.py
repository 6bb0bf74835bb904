"""Read live market data over websockets and REST.

`DirectFeed` uses this package's exchange adapters, `CcxtFeed` any exchange supported by ccxt, and
`CoingeckoFeed` CoinGecko's global figures. All run their event loop in the thread that consumes their
messages: while that thread publishes, no frame is read, which applies backpressure to the connection.
"""

from coinstream.feeds.live.base import LiveFeed, Timeouts
from coinstream.feeds.live.ccxt_feed import CcxtFeed
from coinstream.feeds.live.coingecko import CoingeckoFeed
from coinstream.feeds.live.direct import DirectFeed

__all__ = ["CcxtFeed", "CoingeckoFeed", "DirectFeed", "LiveFeed", "Timeouts"]
