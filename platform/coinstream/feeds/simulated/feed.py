"""Provide the feed of the simulated exchange, and options that connect ccxt to it."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Any

from coinstream.feeds.exchanges import adapters
from coinstream.feeds.feed_stats import Feed
from coinstream.feeds.live.base import Timeouts
from coinstream.feeds.live.direct import DirectFeed
from coinstream.feeds.simulated.exchange import SimulatedExchange
from coinstream.feeds.simulated.market import Recorded
from coinstream.messages import Message


def ccxt_options(venue: str, http_url: str, ws_url: str) -> dict[str, Any]:
    """Return the options of ccxt's client of an exchange.

    Args:
        venue: binance, kraken or coinbase.
        http_url: base URL of the REST endpoints.
        ws_url: base URL of the websocket endpoints.
    """
    match venue:
        case "binance":
            api: dict[str, Any] = {"public": f"{http_url}/api/v3", "ws": {"spot": f"{ws_url}/ws"}}
            return {"urls": {"api": api}, "options": {"fetchMarkets": {"types": ["spot"]}}}
        case "kraken":
            return {"urls": {"api": {"public": http_url, "ws": {"publicV2": f"{ws_url}/v2"}}}}
        case "coinbase":
            return {"urls": {"api": {"rest": http_url, "ws": ws_url}}}
    raise ValueError(f"the simulated exchange does not support {venue!r}")


class SimulatedFeed:
    """Feed of a simulated exchange, which it starts itself unless one runs at `url`.

    Args:
        name: name of the feed.
        exchange: protocol of the exchange: binance or kraken.
        symbols: unified symbols.
        types: message types: level1, price.
        recorded: feed whose quotes the exchange repeats; by default a random walk with `seed`.
        rate: quotes per second over all symbols.
        url: URL of `coinstream simulate`, for example http://127.0.0.1:8765.
    """

    def __init__(
        self,
        name: str,
        exchange: str,
        symbols: Sequence[str],
        types: Sequence[str],
        *,
        recorded: Feed | None = None,
        rate: float = 100.0,
        seed: int = 1,
        url: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        self.name, self.exchange = name, exchange
        self._symbols, self._types, self._timeouts = symbols, types, timeouts
        self._recorded, self._rate, self._seed, self._url = recorded, rate, seed, url
        self._feed = self._connect(url or "http://127.0.0.1:1")
        self.stats = self._feed.stats

    def messages(self, stop: threading.Event) -> Iterator[Sequence[Message]]:
        """See `Feed.messages`."""
        if self._url is not None:
            yield from self._feed.messages(stop)
            return
        source = Recorded(self._symbols, self._recorded) if self._recorded is not None else None
        with SimulatedExchange(self._symbols, self._rate, source=source, seed=self._seed) as exchange:
            feed = self._connect(exchange.url)
            feed.stats = self.stats
            yield from feed.messages(stop)

    def _connect(self, url: str) -> DirectFeed:
        base = f"{url.rstrip('/')}/{self.exchange}"
        adapter = adapters()[self.exchange](base.replace("http", "ws", 1), base)
        return DirectFeed(adapter, self._symbols, self.name, self._types, self._timeouts)
