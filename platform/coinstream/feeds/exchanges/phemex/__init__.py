"""Connect to Phemex: websocket of spot markets, USD contracts and USDT contracts.

Source: "Phemex API Reference", <https://phemex-docs.github.io> (Overview, Contract, Hedged Contract, Spot),
and <https://github.com/phemex/phemex-api-docs>, as of 2026-03; checked against a session of 2021-07-03.

- Spot markets (`sBTCUSDT`) and USD contracts (`BTCUSD`) use scaled integers: prices and sizes of spot markets
  have 8 decimals, prices of contracts 4, rates 8. USDT contracts (`..._p` fields) use text.
- A USD contract is worth an amount of its base currency (`ETHUSD`: 0.005 ETH) or, where its underlying is the
  dollar, one dollar settled in the base currency (`BTCUSD`).
- Books have 30 levels; a level beyond them gets no removal. `sequence` increases by varying steps.
- Trades are sent newest first and have no id. The first frame after a subscription repeats the latest 1,000.
- A connection carries at most 20 subscriptions and is closed after 30 s without a frame of the client.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Final

import httpx
import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, register_adapter
from coinstream.feeds.exchanges.connections import Connection, Heartbeat, Limits, plan_connections, redirected
from coinstream.feeds.exchanges.phemex.parser import PhemexParser
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.instruments import Instrument, derivative, spot

WS: Final = "wss://ws.phemex.com"
REST: Final = "https://api.phemex.com"
_SUBSCRIPTIONS: Final = 20
_GLOBAL: Final = ("market24h", "perp_market24h_pack_p")


@register_adapter
class PhemexAdapter(ExchangeAdapter):
    """Adapter of Phemex: spot markets and perpetual contracts."""

    exchange = "phemex"
    hosts: ClassVar[tuple[str, ...]] = ("phemex.com",)
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("orderbook", ("level1", "book"), "recording"),
        Channel("orderbook_p", ("level1", "book"), "documentation"),
        Channel("trade", ("trade", "price"), "recording"),
        Channel("trade_p", ("trade", "price"), "recording"),
        Channel("kline", ("ohlcv",), "documentation"),
        Channel("market24h", ("price", "derivativeticker"), "documentation"),
        Channel("perp_market24h_pack_p", ("price", "derivativeticker"), "recording"),
        Channel("spot_market24h", ("price",), "documentation"),
    )
    limits = Limits(symbols_per_connection=9, symbols_per_request=1, requests_per_second=10.0)
    instruments_paths: ClassVar[tuple[str, ...]] = ("/cfg/v2/products",)
    instruments_urls: ClassVar[tuple[str, ...]] = (f"{REST}/public/products",)
    heartbeat = Heartbeat(b'{"id":0,"method":"server.ping","params":[]}', 10.0)
    parser_class = PhemexParser

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """See `ExchangeAdapter.connections`."""
        names = [
            *(("orderbook",) if types & {"level1", "book"} else ()),
            *(("trade",) if types & {"trade", "price"} else ()),
            *(("kline",) if "ohlcv" in types else ()),
        ]
        figures = _GLOBAL if "derivativeticker" in types else ()
        if not names and not figures:
            return []
        room = (_SUBSCRIPTIONS - len(figures)) // max(1, len(names))
        limits = replace(self.limits, symbols_per_connection=room, symbols_per_request=room)
        found = plan_connections(
            redirected(WS, self.ws), instruments, limits, partial(_requests, names, figures)
        )
        # One subscription covers the figures of all contracts, so one connection has it.
        extra = tuple(_request(f"{name}.subscribe", []) for name in figures)
        return found[:1] + [
            replace(each, requests=tuple(frame for frame in each.requests if frame not in extra))
            for each in found[1:]
        ]

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        url = redirected(f"{REST}/public/time", self.rest)
        return await server_time_ms(http, url, "data", "serverTime")

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the products of `public/products`, listed ones and others."""
        data = reply["data"]
        for row in [*data["products"], *data.get("perpProductsV2", ())]:
            name, quote, active = row["symbol"], row["quoteCurrency"], row.get("status") == "Listed"
            base = row.get("baseCurrency") or row["displaySymbol"].partition("/")[0].strip()
            if row["type"] == "Spot":
                yield spot(name, base, quote, active=active)
                continue
            settle = row["settleCurrency"]
            is_text = row["type"] == "PerpetualV2"
            yield derivative(
                name,
                base,
                quote,
                settle,
                contract_size=1.0 if is_text else float(row.get("contractSize") or 1.0),
                inverse=row.get("contractUnderlyingAssets") == quote and settle != quote,
                active=active,
            )


def _requests(names: Sequence[str], figures: Sequence[str], batch: Sequence[Instrument]) -> list[bytes]:
    found = [_request(f"{name}.subscribe", []) for name in figures]
    for name in names:
        for instrument in batch:
            is_text = instrument.kind != "spot" and instrument.quote == "USDT"
            channel = f"{name}_p" if is_text else name
            found.append(
                _request(f"{channel}.subscribe", [instrument.id, *([60] if name == "kline" else [])])
            )
    return found


def _request(method: str, parameters: list[Any]) -> bytes:
    return msgspec.json.encode({"id": 1, "method": method, "params": parameters})
