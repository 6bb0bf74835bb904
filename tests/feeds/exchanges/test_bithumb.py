"""Bithumb: its recording, both generations of its protocol, its names."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.bithumb import BithumbAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList, spot
from coinstream.feeds.parser import Parser
from coinstream.messages import Book, Level1, Trade
from tests.feeds.exchanges.recorded import (
    EXCERPTS,
    instruments_of,
    named,
    parse,
    play,
    shared,
    subscribed,
)

KNOWN: Final = InstrumentList([spot("BTC_KRW", "BTC", "KRW"), spot("ETH_BTC", "ETH", "BTC")])
BOOK_URL: Final = "https://api.bithumb.com/public/orderbook/BTC_KRW?count=30"


def parser() -> Parser:
    return BithumbAdapter().parser(KNOWN)


def depth(at: int, *rows: tuple[str, str, str]) -> dict[str, Any]:
    entries = [
        {"symbol": "BTC_KRW", "orderType": side, "price": price, "quantity": size, "total": "1"}
        for side, price, size in rows
    ]
    return {"type": "orderbookdepth", "content": {"list": entries, "datetime": str(at)}}


def test_the_excerpt_parses_without_faults() -> None:
    session = play(BithumbAdapter(), EXCERPTS / "bithumb.gz")
    session.check()
    assert session.reasons[Reason.ACKNOWLEDGED] == 2


def test_the_whole_recording_is_accounted_for() -> None:
    session = play(
        BithumbAdapter(), shared("BITHUMB.ws.1.0.head.gz"), instruments_of(BithumbAdapter(), "BITHUMB")
    )
    session.check()
    assert session.frames == 6
    last = session.of(Trade)[-1]
    assert (last.symbol, last.trade_price, last.size, last.side) == ("GOM2/KRW", 7.525, 556, "sell")
    assert last.timestamp.isoformat() == "2021-06-01T23:43:43.188333+00:00"
    delay = (last.last_updated - last.timestamp).total_seconds()
    assert abs(delay) < 60


def test_names_come_from_the_tickers_of_each_quote_currency() -> None:
    known = instruments_of(BithumbAdapter(), "BITHUMB")
    pairs = {"GOM2_KRW": "GOM2/KRW", "ETH_BTC": "ETH/BTC", "BTC_KRW": "BTC/KRW"}
    assert {name: known.get(name).symbol for name in pairs} == pairs  # type: ignore[union-attr]
    assert known.get("date_KRW") is None
    rows = msgspec.json.encode([{"market": "KRW-BTC", "english_name": "Bitcoin"}])
    (new,) = BithumbAdapter().parse_instruments(BithumbAdapter.instruments_urls[0], rows)
    assert (new.id, new.symbol) == ("KRW-BTC", "BTC/KRW")


def test_the_new_protocol_is_that_of_upbit() -> None:
    frame = {"type": "trade", "code": "KRW-BTC", "trade_price": 1.5, "trade_volume": 2, "ask_bid": "BID"}
    frame |= {"timestamp": 1614729599905, "trade_timestamp": 1614729599000, "sequential_id": 9}
    trade = parse(parser(), frame).messages[0]
    assert isinstance(trade, Trade)
    assert (trade.exchange_id, trade.symbol, trade.side) == ("bithumb", "BTC/KRW", "buy")


def test_changes_wait_for_the_rest_book() -> None:
    found = parser()
    later = depth(1580268255864325, ("ask", "10", "2"), ("bid", "9", "1"))
    assert parse(found, later).rejected == (Reason.BOOK_UNSYNCED,)
    data = {"timestamp": "1580268255000", "bids": [{"price": "8", "quantity": "1"}]}
    data["asks"] = [{"price": "11", "quantity": "1"}]
    book, quote = parse(found, {"status": "0000", "data": data}, BOOK_URL).messages
    assert isinstance(book, Book)
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.best_ask, book.bids) == (9, 10, [(9, 1), (8, 1)])
    gone = parse(found, depth(1580268256864325, ("ask", "10", "0"))).messages[-1]
    assert isinstance(gone, Level1)
    assert gone.best_ask == 11


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"status": "0000", "resmsg": "Filter Registered Successfully"}, Reason.ACKNOWLEDGED),
        ({"status": "5100", "resmsg": "Invalid Filter Syntax"}, Reason.REFUSED),
        ({"type": "nosuch", "content": {}}, Reason.UNKNOWN),
        ({"type": "transaction", "content": {"list": [{"symbol": "BTC_KRW"}]}}, Reason.BAD_VALUE),
        ({"type": "ticker", "content": {"tickType": "30M"}}, Reason.STATUS),
        ({"status": "UP"}, Reason.HEARTBEAT),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(parser(), frame).rejected == (reason,)


def test_a_ticker_in_won_is_no_price_in_dollars() -> None:
    content = {
        "tickType": "24H",
        "date": "20200129",
        "time": "121844",
        "closePrice": "9",
        "symbol": "BTC_KRW",
    }
    assert parse(parser(), {"type": "ticker", "content": content}).rejected == (Reason.NOT_DOLLARS,)


def test_the_subscription_names_markets_quote_first() -> None:
    (request,) = subscribed(
        BithumbAdapter().connections(named(KNOWN, "BTC_KRW"), frozenset({"trade", "book"}))
    )
    assert isinstance(request, list)
    assert request[1:3] == [
        {"type": "trade", "codes": ["KRW-BTC"]},
        {"type": "orderbook", "codes": ["KRW-BTC"]},
    ]
