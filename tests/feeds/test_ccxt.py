"""Test the unmodified ccxt client against the simulated exchange."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from coinstream.errors import FeedError
from coinstream.feeds import Reason
from coinstream.feeds.feed_stats import Anomaly
from coinstream.feeds.live import CcxtFeed, ccxt_client
from coinstream.feeds.live.ccxt_messages import UnifiedParser, instrument_of, tickers_in, top_of
from coinstream.feeds.simulated import SimulatedExchange
from coinstream.feeds.simulated.feed import ccxt_options
from coinstream.messages import Book, Level1, Ohlcv, Price, Trade
from tests.feeds.frames import RECEIVED_NS
from tests.feeds.running import SHORT_TIMEOUTS, Running

SYMBOLS = {"binance": "BTC/USDT", "kraken": "BTC/USD", "coinbase": "BTC/USD"}
LONGER_TIMEOUTS = replace(SHORT_TIMEOUTS, frozen_after_s=8.0, silent_after_s=4.0)


@pytest.fixture
def exchange() -> Iterator[SimulatedExchange]:
    with SimulatedExchange(rate=100, number_in_size=True) as simulated:
        yield simulated


def feed(exchange: SimulatedExchange, venue: str, *symbols: str, types: tuple[str, ...]) -> CcxtFeed:
    options = ccxt_options(venue, exchange.http_url(venue), exchange.ws_url(venue))
    wanted = symbols or (SYMBOLS[venue],)
    # ccxt keeps to the real exchanges' limits on requests; this one has none.
    return CcxtFeed(venue, wanted, types, options=options | {"rateLimit": 1}, timeouts=LONGER_TIMEOUTS)


@pytest.mark.parametrize("venue", sorted(SYMBOLS))
def test_quotes_prices_and_candles(exchange: SimulatedExchange, venue: str) -> None:
    with Running(feed(exchange, venue, types=("level1", "price", "ohlcv"))) as running:
        running.wait(
            lambda: {type(message) for message in list(running.messages)} == {Level1, Price, Ohlcv},
            "all three kinds of message",
        )
        running.wait_for_more(20)
    assert running.feed.stats.is_balanced
    assert {message.exchange_id for message in running.messages} == {venue}
    numbers = running.numbers(SYMBOLS[venue])
    assert numbers == sorted(numbers)
    last = exchange.market.ticks[SYMBOLS[venue]]
    told = {tick.number: tick for tick in last}
    for quote in running.quotes(SYMBOLS[venue]):
        tick = told[int(quote.bid_size)]
        assert quote.best_bid == pytest.approx(tick.bid, abs=1e-7)
        assert quote.best_ask == pytest.approx(tick.ask, abs=1e-7)


def test_a_broken_connection_is_made_anew(exchange: SimulatedExchange) -> None:
    with Running(feed(exchange, "binance", types=("level1",))) as running:
        running.wait_for_more(20)
        exchange.faults.drop = 1
        running.wait(lambda: running.feed.stats.flags[Anomaly.RECONNECT], "a reconnect")
        running.wait_for_more(20)


def test_a_frame_that_ccxt_cannot_read_is_counted_and_the_feed_goes_on(exchange: SimulatedExchange) -> None:
    with Running(feed(exchange, "binance", types=("level1",))) as running:
        running.wait_for_more(20)
        exchange.faults.garble = 1.0
        running.wait(lambda: running.feed.stats.flags[Anomaly.RECONNECT], "a reconnect")
        exchange.faults.garble = 0.0
        running.wait_for_more(20)
    assert running.feed.stats.is_balanced


def test_limits_at_the_start_are_survived(exchange: SimulatedExchange) -> None:
    exchange.faults.rate_limit = 2
    with Running(feed(exchange, "binance", types=("level1",))) as running:
        running.wait_for_more(10)
    assert running.feed.stats.flags[Anomaly.RATE_LIMITED] >= 1


def test_a_symbol_that_is_not_listed_does_not_disturb_the_others(exchange: SimulatedExchange) -> None:
    exchange.faults.vanished = {"ETH/USDT"}
    with Running(feed(exchange, "binance", "BTC/USDT", "ETH/USDT", types=("level1",))) as running:
        running.wait_for_more(20, "BTC/USDT")
    assert running.feed.stats.flags[Anomaly.VANISHED] == 1


def test_an_unknown_exchange_or_type_is_an_error_that_names_it() -> None:
    with pytest.raises(FeedError, match="does not support exchange 'bitfoo'"):
        CcxtFeed("bitfoo", ["BTC/USD"])
    with pytest.raises(FeedError, match="unknown message type depth"):
        CcxtFeed("kraken", ["BTC/USD"], ["depth"])


TICKER: dict[str, Any] = {
    **{"symbol": "BTC/USDT", "timestamp": 1723161256313, "bid": 1.5, "bidVolume": 2.0, "ask": "1.6"},
    **{"askVolume": 3.0, "last": "1.55", "baseVolume": 9, "percentage": -2.5},
}


def test_a_unified_ticker_is_a_quote_and_a_price() -> None:
    parser = UnifiedParser("okx")
    quote, price = parser.quote(TICKER, RECEIVED_NS), parser.price(TICKER, RECEIVED_NS)
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.best_ask, quote.timestamp.microsecond) == (1.5, 1.6, 313000)
    assert isinstance(price, Price)
    assert (price.usd_price, price.volume_24h, price.price_change_24h) == (1.55, 9.0, -2.5)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bid": None}, Reason.ONE_SIDED),
        ({"ask": ""}, Reason.ONE_SIDED),
        ({"bid": 0}, Reason.ONE_SIDED),
        ({"bidVolume": None}, Reason.NO_SIZES),
        ({"bid": "x"}, Reason.BAD_VALUE),
        ({"ask": float("nan")}, Reason.BAD_VALUE),
        ({"timestamp": 1e300}, Reason.BAD_VALUE),
        ({"symbol": None}, Reason.BAD_VALUE),
        ({"symbol": ""}, Reason.BAD_VALUE),
        ({"bid": []}, Reason.BAD_VALUE),
        ({"askVolume": {}}, Reason.BAD_VALUE),
    ],
)
def test_what_is_no_quote_has_its_reason(change: dict[str, Any], reason: Reason) -> None:
    assert UnifiedParser("okx").quote(TICKER | change, RECEIVED_NS) is reason


def test_candles_are_told_when_they_change() -> None:
    parser = UnifiedParser("okx")

    def told(*rows: list[Any]) -> list[Any]:
        return list(parser.candles("BTC/USDT", "5m", rows, RECEIVED_NS))

    row: list[Any] = [1723161000000, "1", "3", "0.5", "2", 7]
    (candle,) = told(row)
    assert (candle.close_time - candle.open_time).total_seconds() == 300
    assert (candle.high_price, candle.volume) == (3, 7)
    assert told(row) == [Reason.DUPLICATE]
    assert told([row[0] - 300_000, *row[1:]], [row[0] + 300_000, *row[1:]])[0] is Reason.OUT_OF_DATE
    assert told([row[0] + 600_000, None, 1, 1, 1, 1]) == [Reason.INCOMPLETE]
    assert told(["when", 1, 1, 1, 1, 1]) == [Reason.BAD_VALUE]


@pytest.mark.parametrize("change", [float("nan"), [], {}, "x", None, float("inf")])
def test_a_change_that_is_no_number_is_left_out(change: Any) -> None:
    price = UnifiedParser("okx").price(TICKER | {"percentage": change}, RECEIVED_NS)
    assert isinstance(price, Price)
    assert price.price_change_24h is None


@pytest.mark.parametrize("told", [None, [], 5, {"symbol": None}, {"symbol": "BTC/USDT", "last": []}])
def test_no_structure_of_ccxt_raises(told: Any) -> None:
    assert not isinstance(UnifiedParser("okx").quote(told, RECEIVED_NS), Level1)
    assert not isinstance(UnifiedParser("okx").price(told, RECEIVED_NS), Price)
    assert isinstance(tickers_in(told), list)
    assert top_of(told) is None or isinstance(told, dict)


def test_sizes_in_contracts_become_base_currency() -> None:
    linear = {"contract": True, "contractSize": 0.01, "inverse": False, "base": "BTC", "quote": "USDT"}
    inverse = {"contract": True, "contractSize": 100, "inverse": True, "base": "BTC", "quote": "USD"}
    markets = {"BTC/USDT:USDT": linear, "BTC/USD:BTC": inverse, "BTC/USDT": {"contract": False}}
    parser = UnifiedParser("x", markets)
    ticker = TICKER | {"bid": 2.0, "ask": 4.0, "bidVolume": 3.0, "askVolume": 8.0}
    quote = parser.quote(ticker | {"symbol": "BTC/USDT:USDT"}, RECEIVED_NS)
    assert isinstance(quote, Level1)
    assert (quote.bid_size, quote.ask_size) == (0.03, 0.08)
    quote = parser.quote(ticker | {"symbol": "BTC/USD:BTC"}, RECEIVED_NS)
    assert isinstance(quote, Level1)
    assert (quote.bid_size, quote.ask_size) == (150.0, 200.0)
    quote = parser.quote(ticker | {"symbol": "BTC/USDT"}, RECEIVED_NS)
    assert isinstance(quote, Level1)
    assert (quote.bid_size, quote.ask_size) == (3.0, 8.0)


@pytest.mark.parametrize(
    ("symbol", "kind", "is_in_dollars"),
    [
        ("BTC/USDT", "spot", True),
        ("ETH/BTC", "spot", False),
        ("BTC/USD:BTC", "swap", True),
        ("BTC/USDT:USDT-241227", "future", True),
        ("BTC/USD:BTC-241227-50000-C", "option", False),
        ("BTC/USDC:USDC-241227-50000-P", "option", True),
    ],
)
def test_a_symbol_tells_the_kind_of_market_and_the_currency_of_its_price(
    symbol: str, kind: str, is_in_dollars: bool
) -> None:
    found = instrument_of(symbol, {})
    assert (found.symbol, found.kind, found.is_in_dollars) == (symbol, kind, is_in_dollars)


def test_a_price_far_ahead_of_its_receipt_holds_back_no_other() -> None:
    parser = UnifiedParser("okx")
    now_ms = RECEIVED_NS // 1_000_000
    for ahead_ms, price in ((0, 1.0), (3_600_000, 2.0), (1, 3.0)):
        made = parser.price(TICKER | {"timestamp": now_ms + ahead_ms, "last": price}, RECEIVED_NS)
        assert isinstance(made, Price), made


def test_no_frame_is_lost_inside_ccxt() -> None:
    """Ccxt's own reading paused the connection after some 4,096 frames, and handed out one of several."""
    assert ccxt_client.patch()
    symbols = [f"C{number:02}/USDT" for number in range(50)]
    with (
        SimulatedExchange(symbols, rate=2_000, number_in_size=True) as fast,
        Running(feed(fast, "binance", *symbols, types=("level1",))) as running,
    ):
        running.wait_for_more(6_000)
    for symbol in symbols:
        numbers = running.numbers(symbol)
        assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_no_change_of_a_book_is_lost_inside_ccxt() -> None:
    with (
        SimulatedExchange(("BTC/USD",), rate=500, number_in_size=True) as fast,
        Running(feed(fast, "coinbase", "BTC/USD", types=("level1",))) as running,
    ):
        running.wait_for_more(1_000)
    numbers = running.numbers("BTC/USD")
    assert numbers == list(range(numbers[0], numbers[-1] + 1))


def test_trades_and_books_come_over_ccxt(exchange: SimulatedExchange) -> None:
    with Running(feed(exchange, "coinbase", types=("trade", "book"))) as running:
        running.wait(
            lambda: {type(message) for message in list(running.messages)} == {Trade, Book}, "trades and books"
        )
        running.wait_for_more(50)
    assert running.feed.stats.is_balanced
    trades = [message for message in running.messages if isinstance(message, Trade)]
    numbers = [int(trade.trade_id or 0) for trade in trades]
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    ticks = {tick.number: tick for tick in exchange.market.ticks["BTC/USD"]}
    for trade in trades:
        assert trade.trade_price == pytest.approx(ticks[int(trade.trade_id or 0)].bid, abs=1e-7)
    for book in running.messages:
        if isinstance(book, Book):
            tick = ticks[int(book.bids[0][1])]
            assert book.bids[0][0] == pytest.approx(tick.bid, abs=1e-7)
            assert book.asks[0][0] == pytest.approx(tick.ask, abs=1e-7)


TRADE: dict[str, Any] = {
    **{"symbol": "BTC/USD:BTC", "timestamp": 1723161256313, "price": 50_000.0, "amount": 3, "side": "sell"},
    "id": "17",
}


def test_a_unified_trade_is_a_trade_and_a_price_in_base_currency() -> None:
    market = {"contract": True, "contractSize": 100, "inverse": True, "base": "BTC", "quote": "USD"}
    parser = UnifiedParser("x", {"BTC/USD:BTC": market})
    trade, price = parser.trade(TRADE, RECEIVED_NS)
    assert isinstance(trade, Trade)
    assert isinstance(price, Price)
    assert (trade.trade_price, trade.size, trade.side, trade.trade_id) == (50_000.0, 0.006, "sell", "17")
    assert list(parser.trade(TRADE, RECEIVED_NS)) == [Reason.DUPLICATE]
    for change in ({"price": None}, {"price": 0}, {"amount": -1}, {"symbol": None}, {"price": "x"}):
        (reason,) = parser.trade(TRADE | {"id": "18"} | change, RECEIVED_NS)
        assert isinstance(reason, Reason)


def test_a_unified_book_is_a_quote_and_levels() -> None:
    market = {"contract": True, "contractSize": 0.01, "inverse": False, "base": "BTC", "quote": "USDT"}
    parser = UnifiedParser("x", {"BTC/USDT:USDT": market}, frozenset({"book"}))
    book = {
        "symbol": "BTC/USDT:USDT",
        "timestamp": 1723161256313,
        "bids": [[9, 2], [8, 1]],
        "asks": [[10, 5]],
    }
    (found,) = (item for item in parser.book(book, RECEIVED_NS) if isinstance(item, Book))
    assert (found.bids, found.asks) == ([(9.0, 0.02), (8.0, 0.01)], [(10.0, 0.05)])
    assert list(parser.book(book | {"bids": [["x", 1]]}, RECEIVED_NS)) == [Reason.BAD_VALUE]
    assert list(parser.book({"symbol": "BTC/USDT:USDT"}, RECEIVED_NS)) == [Reason.BAD_VALUE]
