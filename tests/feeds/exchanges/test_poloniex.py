"""Poloniex: its recording, chained books of 20 levels, the array protocol."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.poloniex import PoloniexAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList, spot
from coinstream.feeds.parser import Gap, Parser
from coinstream.feeds.recordings import read_lines
from coinstream.messages import Level1, Ohlcv, Price, Trade
from tests.feeds.exchanges.recorded import (
    EXCERPTS,
    instruments_of,
    named,
    parse,
    play,
    shared,
    subscribed,
)

KNOWN: Final = InstrumentList([spot("BTC_USDT", "BTC", "USDT"), spot("BTS_BTC", "BTS", "BTC")])
MS: Final = 1661123517824


def parser() -> Parser:
    return PoloniexAdapter().parser(KNOWN)


def book(action: str, last: int, number: int, bids: Any, asks: Any) -> dict[str, Any]:
    row = {"symbol": "BTC_USDT", "createTime": MS, "bids": bids, "asks": asks, "lastId": last, "id": number}
    return {"channel": "book_lv2", "data": [row | {"ts": MS}], "action": action}


def test_the_excerpt_parses_without_faults() -> None:
    session = play(PoloniexAdapter(), EXCERPTS / "poloniex.gz")
    session.check()
    assert session.gaps == []


def test_the_whole_recording_matches_an_independent_reading() -> None:
    path = shared("POLONIEX.ws.1.0.head.gz")
    session = play(PoloniexAdapter(), path, instruments_of(PoloniexAdapter(), "POLONIEX"))
    session.check()
    assert session.gaps == []
    trades: list[Any] = []
    books: dict[str, dict[str, dict[float, float]]] = {}
    for line in read_lines(path):
        frame = msgspec.json.decode(line.frame.payload) if line.reason is None else {}
        if not isinstance(frame, dict) or "data" not in frame:
            continue
        for row in frame["data"]:
            if frame["channel"] == "trades":
                trades.append((row["id"], float(row["price"]), float(row["quantity"]), row["takerSide"]))
                continue
            name = row["symbol"].replace("_", "/")
            if frame["action"] == "snapshot":
                books[name] = {"bids": {}, "asks": {}}
            for side, sign in (("bids", -1), ("asks", 1)):
                levels = books[name][side] | {float(price): float(size) for price, size in row[side]}
                kept = sorted(sign * price for price, size in levels.items() if size)
                books[name][side] = {sign * price: levels[sign * price] for price in kept[:20]}
    found = [(one.trade_id, one.trade_price, one.size, one.side) for one in session.of(Trade)]
    assert found == trades
    tops = {name: (max(sides["bids"]), min(sides["asks"])) for name, sides in books.items()}
    assert {one.symbol: (one.best_bid, one.best_ask) for one in session.of(Level1)} == tops


def test_changes_are_chained_and_levels_beyond_20_do_not_come_back() -> None:
    found = parser()
    bids = [[str(100 - index), "1"] for index in range(20)]
    parse(found, book("snapshot", 9, 10, bids, [["200", "1"]]))
    parse(found, book("update", 10, 12, [["101", "1"]], []))
    gone = [[str(101 - index), "0"] for index in range(20)]
    assert parse(found, book("update", 12, 13, gone, [])).rejected == (Reason.ONE_SIDED,)
    assert parse(found, book("update", 15, 16, bids, [])).gap == Gap("BTC/USDT", 14, 15)


def test_whole_books_tickers_and_candles() -> None:
    row = {"symbol": "BTC_USDT", "createTime": MS, "ts": MS, "id": 1}
    state = {"channel": "book", "data": [row | {"bids": [["9", "3"]], "asks": [["11", "4"]]}]}
    quote = parse(parser(), state).messages[-1]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.ask_size) == (9, 4)
    figures = {"open": "8", "high": "4", "low": "0.5", "close": "10", "quantity": "7", "startTime": MS}
    ticker = {"channel": "ticker", "data": [row | figures | {"dailyChange": "0.25", "amount": "70"}]}
    price = parse(parser(), ticker).messages[0]
    assert isinstance(price, Price)
    assert (price.usd_price, price.volume_24h, price.price_change_24h) == (10, 7, 25)
    candle = parse(parser(), {"channel": "candles_hour_4", "data": [row | figures]}).messages[0]
    assert isinstance(candle, Ohlcv)
    assert (candle.timeframe, candle.open_price, candle.close_price, candle.volume) == ("4h", 8, 10, 7)


def test_the_array_protocol_names_markets_quote_first() -> None:
    found = parser()
    change = [14, 101, [["o", 1, "0.00000249", "84147.1"], ["t", 5, 0, "0.0000025", "3", 1597167360]]]
    assert parse(found, change).rejected == (Reason.INCOMPLETE,)
    state = ["i", {"currencyPair": "BTC_BTS", "orderBook": [{"0.00000251": "4"}, {"0.00000248": "3"}]}]
    quote = parse(found, [14, 100, [state]]).messages[-1]
    assert isinstance(quote, Level1)
    assert (quote.symbol, quote.best_bid, quote.best_ask) == ("BTS/BTC", 0.00000248, 0.00000251)
    messages = parse(found, change).messages
    quotes = [message for message in messages if isinstance(message, Level1)]
    assert (quotes[0].best_bid, quotes[0].bid_size) == (0.00000249, 84147.1)
    trade = messages[-1]
    assert isinstance(trade, Trade)
    assert (trade.side, trade.trade_id, trade.size) == ("sell", "5", 3)
    only_a_trade = [14, 102, [["t", 6, 1, "0.0000025", "1", 1597167361]]]
    assert parse(found, only_a_trade).gap is None
    assert parse(found, [14, 103, [["o", 1, "0.00000249", "0"]]]).gap is None
    assert parse(found, [14, 106, change[2], "BTC_BTS"]).gap == Gap("BTS/BTC", 104, 105)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"event": "pong"}, Reason.HEARTBEAT),
        ([1010], Reason.HEARTBEAT),
        ([1002, None, [14, "1", "2"]], Reason.STATUS),
        ([14, 1], Reason.ACKNOWLEDGED),
        ({"event": "subscribe", "channel": "trades", "symbols": []}, Reason.ACKNOWLEDGED),
        ({"event": "error", "message": "Subscription failed"}, Reason.REFUSED),
        ({"channel": "nosuch", "data": []}, Reason.UNKNOWN),
        ({"channel": "book", "data": [{"symbol": "NOSUCH"}]}, Reason.BAD_VALUE),
        ({"channel": "ticker", "data": [{"symbol": "NOSUCH"}]}, Reason.UNKNOWN_SYMBOL),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(parser(), frame).rejected == (reason,)


def test_the_subscription_is_the_recorded_one() -> None:
    session = play(PoloniexAdapter(), EXCERPTS / "poloniex.gz")
    known = instruments_of(PoloniexAdapter(), "POLONIEX")
    names = "BCH_USDT EFI_USDT USDJ_USDT DYP_USDT SOL_USDT MDT_BTC GRT_USDT GF_USDT BCH_BTC ZEC_USDT BTC_USDT"
    types = frozenset({"trade", "book"})
    requests = subscribed(PoloniexAdapter().connections(named(known, *names.split()), types))
    assert requests == [msgspec.json.decode(sent) for sent in session.sent]
