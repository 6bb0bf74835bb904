"""Clocks, new snapshots of books and missing trades: what adapters ask an exchange for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import httpx
import msgspec
import pytest

from coinstream.errors import FeedError
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.exchanges.base import ExchangeAdapter
from coinstream.feeds.instrument_lists import packaged

MS = 1_700_000_000_123
T = TypeVar("T")


def asked(reply: Any, ask: Callable[[httpx.AsyncClient], Awaitable[T]]) -> tuple[T, list[httpx.URL]]:
    """Return what a request gives when the exchange answers so, and the addresses that were asked."""
    urls: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        urls.append(request.url)
        return httpx.Response(200, json=reply)

    async def run() -> T:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            return await ask(http)

    return asyncio.run(run()), urls


def adapter(exchange: str, rest: str | None = None) -> ExchangeAdapter:
    return adapters()[exchange](rest=rest)


CLOCKS: list[tuple[str, Any, float]] = [
    ("okx", {"code": "0", "data": [{"ts": str(MS)}]}, MS),
    ("bybit", {"retCode": 0, "result": {}, "time": MS}, MS),
    ("bitget", {"code": "00000", "data": {"serverTime": str(MS)}}, MS),
    ("gate", {"server_time": MS}, MS),
    ("kucoin", {"code": "200000", "data": MS}, MS),
    ("htx", {"status": "ok", "data": MS}, MS),
    ("coinbase", {"iso": "", "epochMillis": str(MS)}, MS),
    ("coinbaseexchange", {"iso": "", "epoch": MS / 1000}, MS),
    ("deribit", {"jsonrpc": "2.0", "result": MS}, MS),
    ("bitmex", {"name": "BitMEX API", "timestamp": MS}, MS),
    ("poloniex", {"serverTime": MS}, MS),
    ("phemex", {"code": 0, "msg": "OK", "data": {"serverTime": MS}}, MS),
    ("dydx", {"iso": "", "epoch": MS / 1000}, MS),
]


@pytest.mark.parametrize(("exchange", "reply", "wanted"), CLOCKS, ids=lambda value: str(value)[:20])
def test_the_clock_is_in_milliseconds(exchange: str, reply: Any, wanted: float) -> None:
    found, urls = asked(reply, adapter(exchange, "http://127.0.0.1:9").clock_ms)
    assert found == pytest.approx(wanted)
    assert [(url.host, url.port) for url in urls] == [("127.0.0.1", 9)]


def test_a_clock_of_another_shape_is_an_error() -> None:
    with pytest.raises(FeedError, match="no server time"):
        asked({"data": []}, adapter("okx").clock_ms)


@pytest.mark.parametrize(
    ("exchange", "name", "requests"),
    [
        (
            "okx",
            "BTC-USDT",
            [
                {"op": "unsubscribe", "args": [{"channel": "books", "instId": "BTC-USDT"}]},
                {"op": "subscribe", "args": [{"channel": "books", "instId": "BTC-USDT"}]},
            ],
        ),
        (
            "bitget",
            "mix.BTCUSD",
            [
                {
                    "op": operation,
                    "args": [{"instType": "COIN-FUTURES", "channel": "books", "instId": "BTCUSD"}],
                }
                for operation in ("unsubscribe", "subscribe")
            ],
        ),
        (
            "bitmex",
            "XBTUSD",
            [
                {"op": operation, "args": ["orderBookL2_25:XBTUSD"]}
                for operation in ("unsubscribe", "subscribe")
            ],
        ),
        (
            "htx",
            "BTC-USD",
            [
                {"unsub": "market.BTC-USD.depth.size_20.high_freq", "id": "BTC-USD"},
                {
                    **{"sub": "market.BTC-USD.depth.size_20.high_freq", "data_type": "incremental"},
                    "id": "BTC-USD",
                },
            ],
        ),
        ("htx", "dogeeth", []),
        (
            "hitbtc",
            "EURSUSD",
            [
                {"method": method, "ch": "orderbook/full", "params": {"symbols": ["EURSUSD"]}, "id": 0}
                for method in ("unsubscribe", "subscribe")
            ],
        ),
        (
            "poloniex",
            "BTC_USDT",
            [
                {"event": event, "channel": ["book_lv2"], "symbols": ["BTC_USDT"]}
                for event in ("unsubscribe", "subscribe")
            ],
        ),
        (
            "cryptocom",
            "RSR_USDT",
            [
                {"id": 1, "method": "unsubscribe", "params": {"channels": ["book.RSR_USDT.50"]}},
                {
                    **{"id": 1, "method": "subscribe"},
                    "params": {
                        "channels": ["book.RSR_USDT.50"],
                        "book_subscription_type": "SNAPSHOT_AND_UPDATE",
                        "book_update_frequency": 10,
                    },
                },
            ],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_book_is_requested_again(exchange: str, name: str, requests: list[Any]) -> None:
    instrument = packaged(exchange).get(name)
    assert instrument is not None
    found = adapter(exchange).resync(instrument)
    assert [msgspec.json.decode(request) for request in found] == requests
