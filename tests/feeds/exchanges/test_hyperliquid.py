"""Hyperliquid: frames as the exchange sends them, names and instrument requests."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import httpx
import msgspec
import pytest

from coinstream.feeds.exchanges.hyperliquid import HyperliquidAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Parser
from coinstream.messages import Book, DerivativeTicker, Level1, Ohlcv, Price, Trade
from tests.feeds.exchanges.recorded import named, parse, subscribed

MS: Final = 1730160007572
META: Final = {"universe": [{"name": "BTC", "szDecimals": 5}, {"name": "OLD", "isDelisted": True}]}
SPOT: Final = {
    "tokens": [{"name": "USDC", "index": 0}, {"name": "PURR", "index": 1}, {"name": "HYPE", "index": 150}],
    "universe": [
        {"name": "PURR/USDC", "tokens": [1, 0], "index": 0},
        {"name": "@107", "tokens": [150, 0], "index": 107},
    ],
}


def known() -> InstrumentList:
    adapter = HyperliquidAdapter()
    found = InstrumentList()
    for url, reply in zip(adapter.instruments_urls, (META, SPOT), strict=True):
        found.add(adapter.parse_instruments(url, msgspec.json.encode(reply)))
    return found


def parser() -> Parser:
    return HyperliquidAdapter().parser(known())


def push(channel: str, data: Any) -> dict[str, Any]:
    return {"channel": channel, "data": data}


def test_trades_in_base_currency_with_the_side_of_the_taker() -> None:
    row = {"coin": "BTC", "side": "B", "px": "69998.0", "sz": "0.00714", "time": MS, "tid": 696560709859024}
    newer = row | {"time": MS + 1, "side": "A", "tid": 5, "coin": "@107"}
    messages = parse(parser(), push("trades", [newer, row])).messages
    first, second = (message for message in messages if isinstance(message, Trade))
    assert (first.symbol, first.side, first.size, first.trade_id) == (
        *("BTC/USDC:USDC", "buy"),
        *(0.00714, "696560709859024"),
    )
    assert (second.symbol, second.side) == ("HYPE/USDC", "sell")
    assert isinstance(messages[1], Price)


def test_a_book_is_whole_each_time() -> None:
    found = parser()
    bids = [{"px": "59.8", "sz": "3.4", "n": 1}, {"px": "59.778", "sz": "1.6", "n": 1}]
    data = {"coin": "BANANA", "time": MS, "levels": [bids, [{"px": "59.811", "sz": "2.9", "n": 1}]]}
    book, quote = parse(found, push("l2Book", data)).messages
    assert isinstance(book, Book)
    assert isinstance(quote, Level1)
    assert (book.symbol, book.bids, book.asks) == (
        *("BANANA/USDC:USDC", [(59.8, 3.4), (59.778, 1.6)]),
        *([(59.811, 2.9)],),
    )


def test_best_levels_may_lack_a_side() -> None:
    level = {"px": "107575.0", "sz": "3.87947", "n": 17}
    one = push("bbo", {"coin": "BTC", "time": MS, "bbo": [level, None]})
    assert parse(parser(), one).rejected == (Reason.ONE_SIDED,)
    short = push("bbo", {"coin": "BTC", "time": MS, "bbo": [level]})
    assert parse(parser(), short).rejected == (Reason.ONE_SIDED,)
    both = push("bbo", {"coin": "BTC", "time": MS, "bbo": [level, level | {"px": "107576.0"}]})
    quote = parse(parser(), both).messages[0]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.best_ask, quote.bid_size) == (107575, 107576, 3.87947)


def test_candles_and_contract_figures() -> None:
    row = {"t": 1612137600000, "T": 1614556799999, "s": "BTC", "i": "1M", "o": "1", "h": "4", "l": "0.5"}
    candle = parse(parser(), push("candle", row | {"c": "3", "v": "7", "n": 2})).messages[0]
    assert isinstance(candle, Ohlcv)
    assert (candle.open_price, candle.high_price, candle.low_price, candle.close_price) == (1, 4, 0.5, 3)
    assert candle.close_time.isoformat() == "2021-03-01T00:00:00+00:00"
    ctx = {"funding": "-0.0000125", "openInterest": "688.11", "oraclePx": "14.32", "markPx": "14.3161"}
    ticker = parse(parser(), push("activeAssetCtx", {"coin": "BTC", "ctx": ctx})).messages[0]
    assert isinstance(ticker, DerivativeTicker)
    assert (ticker.mark_price, ticker.index_price) == (14.3161, 14.32)
    assert (ticker.funding_rate, ticker.open_interest) == (-0.0000125, 688.11)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"channel": "pong"}, Reason.HEARTBEAT),
        (push("subscriptionResponse", {}), Reason.ACKNOWLEDGED),
        (push("error", "Invalid subscription"), Reason.REFUSED),
        (push("allMids", {"mids": {}}), Reason.STATUS),
        (push("activeSpotAssetCtx", {"coin": "@2", "ctx": {}}), Reason.STATUS),
        (push("nosuch", {}), Reason.UNKNOWN),
        (push("bbo", {"coin": "@999", "time": MS, "bbo": []}), Reason.UNKNOWN_SYMBOL),
        (push("l2Book", {"coin": "BTC"}), Reason.BAD_VALUE),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(parser(), frame).rejected == (reason,)


def test_instruments_are_requested_with_post() -> None:
    asked: list[tuple[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        body = msgspec.json.decode(request.content)
        asked.append((f"{request.method} {request.url}", body))
        return httpx.Response(200, json=META if body["type"] == "meta" else SPOT)

    async def fetch() -> list[str]:
        async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
            found = await HyperliquidAdapter(rest="http://127.0.0.1:8000").fetch_instruments(http)
        return [instrument.symbol for instrument in found]

    symbols = asyncio.run(fetch())
    assert symbols == ["BTC/USDC:USDC", "OLD/USDC:USDC", "PURR/USDC", "HYPE/USDC"]
    assert asked[0] == ("POST http://127.0.0.1:8000/info", {"type": "meta"})


def test_subscriptions() -> None:
    types = frozenset({"level1", "trade", "ohlcv", "derivativeticker"})
    requests = subscribed(HyperliquidAdapter().connections(named(known(), "BTC", "@107"), types))
    wanted: list[dict[str, str]] = [{"type": "bbo", "coin": "BTC"}, {"type": "trades", "coin": "@107"}]
    wanted += [{"type": "candle", "coin": "BTC", "interval": "1m"}, {"type": "activeAssetCtx", "coin": "BTC"}]
    assert all({"method": "subscribe", "subscription": one} in requests for one in wanted)
    assert {"method": "subscribe", "subscription": {"type": "activeAssetCtx", "coin": "@107"}} not in requests
