"""Poll global figures and coin prices from CoinGecko's public API."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final

import httpx

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.coingecko import CoingeckoParser
from coinstream.feeds.feed_stats import Anomaly
from coinstream.feeds.live.base import Inbox, LiveFeed, Timeouts
from coinstream.feeds.parser import Frame, account_for

log = logging.getLogger(__name__)

URL: Final = "https://api.coingecko.com/api/v3"
_TYPES: Final = ("analytics", "price")
_TIMEOUT_S: Final = 20.0


class CoingeckoFeed(LiveFeed):
    """Feed of analytics and of prices of the largest coins, requested every `poll_every_s`.

    Args:
        types: message types: analytics, price.
        name: name of the feed.
        url: base URL of the API.
        coins: number of coins with prices, by market capitalization, at most 250.
        key: API key of a demo plan, if any.
    """

    def __init__(
        self,
        types: Sequence[str] = ("analytics",),
        *,
        name: str = "coingecko",
        url: str = URL,
        coins: int = 100,
        key: str | None = None,
        timeouts: Timeouts | None = None,
    ) -> None:
        super().__init__(name, "coingecko", timeouts or Timeouts(poll_every_s=60.0))
        if strange := set(types) - set(_TYPES):
            raise FeedError(
                f"feed {name}: unknown message type {', '.join(sorted(strange))}; "
                f"supported: {', '.join(_TYPES)}"
            )
        endpoints = {
            "analytics": "/global",
            "price": f"/coins/markets?vs_currency=usd&per_page={min(coins, 250)}",
        }
        self._urls = [url.rstrip("/") + endpoints[kind] for kind in types]
        self._headers = {"x-cg-demo-api-key": key} if key else {}
        self._parser = CoingeckoParser()

    async def run(self, inbox: Inbox) -> None:
        """See `LiveFeed.run`."""
        backoff, last_alive = self.timeouts.backoff(), time.monotonic()
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, headers=self._headers) as http:
            while True:
                error, pause_s = None, 0.0
                for url in self._urls:
                    try:
                        reply = await http.get(url)
                    except httpx.HTTPError as failure:
                        error = str(failure) or type(failure).__name__
                        continue
                    if reply.status_code == httpx.codes.TOO_MANY_REQUESTS:
                        self.stats.flags[Anomaly.RATE_LIMITED] += 1
                        error, pause_s = "HTTP 429", _seconds(reply.headers.get("Retry-After"))
                    elif not self._take(reply, url, inbox):
                        error = f"HTTP {reply.status_code}, no figures in the reply"
                if error is None:
                    backoff.reset()
                    self.stats.trouble = None
                    last_alive = time.monotonic()
                    await asyncio.sleep(self.timeouts.poll_every_s)
                    continue
                if time.monotonic() - last_alive > self.timeouts.give_up_after_s:
                    raise FeedError(f"feed {self.name}: nothing from {self._urls[0]}; last: {error}")
                self.stats.trouble = error
                wait_s = max(pause_s, backoff.next_s())
                log.warning("feed %s: %s; again in %.1f s", self.name, error, wait_s)
                await asyncio.sleep(wait_s)

    def _take(self, reply: httpx.Response, url: str, inbox: Inbox) -> bool:
        frame = Frame(time.time_ns(), reply.content, url)
        parsed = self._parser.parse(frame)
        account_for(parsed, frame, self.exchange, self.stats)
        inbox.put(parsed.messages)
        return bool(parsed.messages)


def _seconds(text: str | None) -> float:
    return float(text) if text and text.isdigit() else 0.0
