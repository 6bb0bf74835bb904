"""Serve CoinGecko's public REST endpoints from the simulated market."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from coinstream.feeds.exchanges.coingecko import COMMON_IDS
from coinstream.feeds.simulated.kraken import KrakenSession
from coinstream.feeds.simulated.venue import Reply, Session, World, ok

_SUPPLY = {"BTC": 19_700_000.0, "ETH": 120_000_000.0}


class Coingecko:
    """CoinGecko's protocol, see `Venue`; it has no websockets."""

    def __init__(self, world: World) -> None:
        self._world = world

    def session(self, path: str, query: Mapping[str, str]) -> Session:
        """See `Venue.session`; a client that connects anyway gets Kraken's protocol."""
        return KrakenSession(self._world)

    def reply(self, path: str, query: Mapping[str, str]) -> Reply:
        """See `Venue.reply`."""
        coins = self._coins()
        if path == "/api/v3/global":
            cap = sum(coin["market_cap"] for coin in coins) or 1.0
            shares = {coin["symbol"]: coin["market_cap"] / cap * 100 for coin in coins}
            data = {
                **{"active_cryptocurrencies": len(coins), "markets": 1, "total_market_cap": {"usd": cap}},
                **{"total_volume": {"usd": cap / 20}, "market_cap_percentage": {"btc": 0.0} | shares},
                "updated_at": int(time.time() + self._world.faults.skew_ms / 1000),
            }
            return ok({"data": data})
        if path == "/api/v3/coins/markets":
            return ok(coins)
        return Reply(404, b'{"error":"Incorrect path. Please check https://www.coingecko.com/api/"}')

    def _coins(self) -> list[dict[str, Any]]:
        ids = {symbol: coin for coin, symbol in COMMON_IDS.items()}
        found: dict[str, dict[str, Any]] = {}
        for symbol, tick in self._world.market.last.items():
            base = symbol.partition("/")[0]
            at = datetime.fromtimestamp(tick.at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
            found[base] = {
                **{"id": ids.get(base, base.lower()), "symbol": base.lower(), "current_price": tick.bid},
                **{"market_cap": tick.bid * _SUPPLY.get(base, 1e6), "total_volume": tick.bid * 1000},
                **{"price_change_percentage_24h": 0.0, "last_updated": at},
            }
        return list(found.values())
