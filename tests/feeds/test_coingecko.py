"""CoinGecko: coins that share a ticker, and one bad entry among good ones."""

from __future__ import annotations

from typing import Any

from coinstream.feeds import Reason
from coinstream.feeds.exchanges.coingecko import CoingeckoParser
from coinstream.messages import Price
from tests.feeds.frames import only, parse

MARKETS = "https://api.coingecko.com/api/v3/coins/markets?vs_currency=usd"
PRICES = "https://api.coingecko.com/api/v3/simple/price?vs_currencies=usd"
GLOBAL = "https://api.coingecko.com/api/v3/global"
GRT: dict[str, Any] = {"id": "the-graph", "symbol": "grt", "current_price": 0.09}


def test_coins_that_share_a_ticker_have_symbols_of_their_own() -> None:
    parser = CoingeckoParser()
    golden = GRT | {"id": "golden-ratio-token", "current_price": 0.000012}
    for _ in range(2):
        first, second = parse(parser, [GRT, golden], url=MARKETS).messages
        assert isinstance(first, Price)
        assert isinstance(second, Price)
        assert (first.symbol, first.usd_price) == ("GRT/USD", 0.09)
        assert (second.symbol, second.usd_price) == ("GOLDEN-RATIO-TOKEN/USD", 0.000012)
    prices = parse(parser, {"golden-ratio-token": {"usd": 1.0}, "the-graph": {"usd": 2.0}}, url=PRICES)
    assert [price.symbol for price in prices.messages] == ["GOLDEN-RATIO-TOKEN/USD", "GRT/USD"]  # type: ignore[attr-defined]


def test_a_bad_entry_of_a_page_leaves_the_others() -> None:
    rows = [GRT | {"symbol": None}, GRT, GRT | {"id": "x", "symbol": "x", "current_price": -1}, 5]
    parsed = parse(CoingeckoParser(), rows, url=MARKETS)
    assert [price.symbol for price in parsed.messages] == ["GRT/USD"]  # type: ignore[attr-defined]
    assert parsed.rejected == (Reason.BAD_VALUE,) * 3
    prices = parse(CoingeckoParser(), {"bitcoin": {"usd": "x"}, "ethereum": {"usd": 3}}, url=PRICES)
    assert [price.symbol for price in prices.messages] == ["ETH/USD"]  # type: ignore[attr-defined]


def test_a_null_among_the_caps_leaves_the_global_figures() -> None:
    caps = {"usd": 2.5e12, "xyz": None}
    data = {
        "total_market_cap": caps,
        "total_volume": caps,
        "market_cap_percentage": {"btc": 60.0, "eth": None},
    }
    made = only(parse(CoingeckoParser(), {"data": data | {"updated_at": 1744025333}}, url=GLOBAL))
    assert (made.total_market_cap, made.eth_dominance) == (2.5e12, None)
