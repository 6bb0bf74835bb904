"""Delta Exchange: its recording, contracts, books, contract figures."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.delta import DeltaAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList, derivative, spot
from coinstream.feeds.parser import Gap, Parser
from coinstream.feeds.recordings import read_lines
from coinstream.messages import DerivativeTicker, Level1, Ohlcv, Price, Trade
from tests.feeds.exchanges.recorded import (
    EXCERPTS,
    instruments_of,
    named,
    parse,
    play,
    shared,
    subscribed,
)

KNOWN: Final = InstrumentList(
    [
        derivative("BTCUSDT", "BTC", "USDT", "USDT", contract_size=0.001),
        derivative("BTCUSD", "BTC", "USD", "BTC", inverse=True),
        spot("ETH_USDT", "ETH", "USDT"),
    ]
)
US: Final = 1592352002423123


def parser() -> Parser:
    return DeltaAdapter().parser(KNOWN)


def frame(kind: str, symbol: str = "BTCUSDT", **fields: Any) -> dict[str, Any]:
    return {"type": kind, "symbol": symbol, "timestamp": US, **fields}


def test_the_excerpt_parses_without_faults() -> None:
    session = play(DeltaAdapter(), EXCERPTS / "delta.gz")
    session.check()
    assert {quote.symbol for quote in session.of(Level1)} >= {"BNB/USDT:USDT-211203-560-P"}


def test_the_whole_recording_matches_an_independent_reading() -> None:
    path = shared("DELTA.ws.1.0.head.gz")
    known = instruments_of(DeltaAdapter(), "DELTA")
    session = play(DeltaAdapter(), path, known)
    session.check()
    tops: dict[str, Any] = {}
    for line in read_lines(path):
        value = msgspec.json.decode(line.frame.payload) if line.reason is None else {}
        if isinstance(value, dict) and value.get("type") == "l2_orderbook":
            (instrument,) = named(known, value["symbol"])
            bid, ask = value["buy"][0], value["sell"][0]
            tops[instrument.symbol] = (
                *(float(bid["limit_price"]), float(ask["limit_price"])),
                *(bid["size"] * instrument.contract_size, ask["size"] * instrument.contract_size),
            )
    last = {
        one.symbol: (one.best_bid, one.best_ask, one.bid_size, one.ask_size) for one in session.of(Level1)
    }
    assert last == tops


@pytest.mark.parametrize(
    ("name", "symbol", "kind", "size", "inverse"),
    [
        ("C-BTC-59000-301121", "BTC/USDT:USDT-211130-59000-C", "option", 0.001, False),
        ("GALAUSDT", "GALA/USDT:USDT", "swap", 1, False),
        ("UNIUSDT_31Dec", "UNI/USDT:USDT-211231", "future", 1, False),
        ("BTCUSD", "BTC/USD:BTC", "swap", 1, True),
        ("ETH_USDT", "ETH/USDT", "spot", 1, False),
        ("MV-LINK-23.6-291121", "LINK/USDT:USDT-MV-LINK-23.6-291121", "other", 1, False),
        ("IRS-DE-BTCUSD-311221", "BTC/IR:BTC-IRS-DE-BTCUSD-311221", "other", 1, True),
    ],
)
def test_products(name: str, symbol: str, kind: str, size: float, inverse: bool) -> None:
    found = instruments_of(DeltaAdapter(), "DELTA").get(name)
    assert found is not None
    assert (found.symbol, found.kind, found.contract_size, found.inverse) == (symbol, kind, size, inverse)
    assert found.is_in_dollars is (kind != "other")


def test_sizes_are_in_base_currency() -> None:
    found = parser()
    trade = parse(found, frame("all_trades", price="50000", size=4, buyer_role="maker")).messages[0]
    assert isinstance(trade, Trade)
    assert (trade.size, trade.side) == (0.004, "sell")
    trade = parse(
        found, frame("recent_trade", "BTCUSD", price="9522.0", size=9522, buyer_role="taker")
    ).messages[0]
    assert isinstance(trade, Trade)
    assert (trade.size, trade.side) == (1, "buy")


def test_a_snapshot_of_trades_is_told_oldest_first() -> None:
    rows = [
        {"price": str(10 + index), "size": 1, "buyer_role": "taker", "timestamp": US - index}
        for index in (0, 1)
    ]
    messages = parse(parser(), {"type": "all_trades_snapshot", "symbol": "BTCUSDT", "trades": rows}).messages
    assert [one.trade_price for one in messages if isinstance(one, Trade)] == [11, 10]


def test_numbered_changes_and_whole_books() -> None:
    found = parser()
    state = frame("l2_updates", action="snapshot", sequence_no=5, bids=[["9", "3000"]], asks=[["11", "4000"]])
    quote = parse(found, state).messages[-1]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.bid_size, quote.ask_size) == (9, 3, 4)
    change = frame("l2_updates", action="update", sequence_no=6, bids=[["10", "1000"]], asks=[])
    assert parse(found, change).messages
    assert parse(found, change | {"sequence_no": 9}).gap == Gap("BTC/USDT:USDT", 7, 8)
    buy = [{"limit_price": "344.191", "size": "1.000000000000000000"}]
    whole = frame("l2_orderbook", "ETH_USDT", buy=buy, sell=[{"limit_price": "344.327", "size": "2"}])
    quote = parse(found, whole).messages[-1]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.best_ask, quote.ask_size) == (344.191, 344.327, 2)
    best = frame("l1_orderbook", best_bid="9", bid_qty="1000", best_ask="12", ask_qty="2000")
    quote = parse(parser(), best).messages[0]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.best_ask, quote.bid_size) == (9, 12, 1)


def test_candles_without_trades_are_none() -> None:
    empty = dict.fromkeys(("open", "high", "low", "close")) | {"volume": 0, "resolution": "1m"}
    row = frame("candlestick_1m", candle_start_time=1612137600000000) | empty
    assert parse(parser(), row).rejected == (Reason.NO_PRICE,)
    full = {"open": 1, "high": 4, "low": 0.5, "close": 2, "volume": 8, "resolution": "1m"}
    candle = parse(parser(), row | full).messages[0]
    assert isinstance(candle, Ohlcv)
    assert (candle.open_price, candle.low_price, candle.close_price, candle.volume) == (1, 0.5, 2, 0.008)


def test_contract_figures() -> None:
    found = parser()
    assert parse(found, frame("funding_rate", funding_rate=0.01)).rejected == (Reason.INCOMPLETE,)
    ticker = parse(found, frame("mark_price", "MARK:BTCUSDT", price="9524.170821")).messages[0]
    assert isinstance(ticker, DerivativeTicker)
    assert (ticker.mark_price, ticker.funding_rate) == (9524.170821, 0.0001)
    figures: dict[str, Any] = {"close": 10, "open": 8, "volume": 7, "mark_price": "10.5", "spot_price": "11"}
    figures |= {"oi_contracts": "2000", "funding_rate": "-0.02"}
    price, ticker = parse(found, frame("v2/ticker", **figures)).messages
    assert isinstance(price, Price)
    assert isinstance(ticker, DerivativeTicker)
    assert (price.usd_price, price.volume_24h, price.price_change_24h) == (10, 7, 25)
    assert (ticker.index_price, ticker.open_interest, ticker.funding_rate) == (11, 2, -0.0002)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (
            {"type": "subscriptions", "channels": [{"name": "l1_orderbook", "symbols": []}]},
            Reason.ACKNOWLEDGED,
        ),
        (
            {"type": "subscriptions", "channels": [{"name": "x", "error": "subscription forbidden"}]},
            Reason.REFUSED,
        ),
        ({"type": "heartbeat"}, Reason.HEARTBEAT),
        (frame("spot_price", ".DEXBTUSDT", price="1"), Reason.STATUS),
        (frame("candlestick_1m", "MARK:BTCUSDT"), Reason.STATUS),
        (frame("nosuch"), Reason.UNKNOWN),
        (frame("all_trades", "NOSUCH"), Reason.UNKNOWN_SYMBOL),
        (frame("all_trades"), Reason.BAD_VALUE),
    ],
)
def test_a_frame_without_a_message_has_its_reason(value: object, reason: Reason) -> None:
    assert parse(parser(), value).rejected == (reason,)


def test_the_subscription_is_the_recorded_one() -> None:
    session = play(DeltaAdapter(), EXCERPTS / "delta.gz")
    recorded: Any = msgspec.json.decode(session.sent[0])
    known = instruments_of(DeltaAdapter(), "DELTA")
    names = recorded["payload"]["channels"][0]["symbols"]
    types = frozenset({"ohlcv", "trade", "book"})
    assert subscribed(DeltaAdapter().connections(named(known, *names), types)) == [recorded]
