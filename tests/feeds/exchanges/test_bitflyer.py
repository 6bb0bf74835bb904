"""bitFlyer: its recording, its names, its books."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.bitflyer import BitflyerAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList, spot
from coinstream.feeds.parser import Parser
from coinstream.feeds.recordings import read_lines
from coinstream.messages import Level1, Price, Trade
from tests.feeds.exchanges.recorded import (
    EXCERPTS,
    instruments_of,
    named,
    parse,
    play,
    shared,
    subscribed,
)

KNOWN: Final = InstrumentList([spot("BTC_USD", "BTC", "USD")])


def parser() -> Parser:
    return BitflyerAdapter().parser(KNOWN)


def push(channel: str, message: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "channelMessage", "params": {"channel": channel, "message": message}}


def test_the_excerpt_parses_without_faults() -> None:
    session = play(BitflyerAdapter(), EXCERPTS / "bitflyer.gz")
    session.check()
    assert {"BTC/USD", "BTC/JPY:JPY"} <= {quote.symbol for quote in session.of(Level1)}


def test_the_whole_recording_matches_an_independent_reading() -> None:
    path = shared("BITFLYER.ws.1.0.head.gz")
    session = play(BitflyerAdapter(), path, instruments_of(BitflyerAdapter(), "BITFLYER"))
    session.check()
    trades, prices = [], []
    for line in read_lines(path):
        if line.reason is None and line.frame.url is None:
            body = msgspec.json.decode(line.frame.payload)["params"]
            if "executions" in body["channel"]:
                rows = body["message"]
                trades += [(str(row["id"]), row["price"], row["size"], row["side"].lower()) for row in rows]
            elif body["channel"] == "lightning_ticker_BTC_USD":
                prices.append(body["message"]["ltp"])
    found = [(trade.trade_id, trade.trade_price, trade.size, trade.side) for trade in session.of(Trade)]
    assert found == trades
    assert set(prices) <= {price.usd_price for price in session.of(Price) if price.symbol == "BTC/USD"}


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("BTC_JPY", "BTC/JPY"),
        ("FX_BTC_JPY", "BTC/JPY:JPY"),
        ("BTCJPY24DEC2021", "BTC/JPY:JPY-211224"),
        ("BTC_EUR", "BTC/EUR"),
    ],
)
def test_names(name: str, symbol: str) -> None:
    found = instruments_of(BitflyerAdapter(), "BITFLYER").get(name)
    assert found is not None
    assert found.symbol == symbol


def test_times_have_seven_digits_with_and_without_a_zone() -> None:
    row = {"id": 1, "side": "", "price": 2.0, "size": 3.0, "exec_date": "2021-12-12T23:05:29.9692063"}
    trades = [row, row | {"id": 2, "exec_date": "2021-12-12T23:05:29.9692063Z", "side": "SELL"}]
    messages = parse(parser(), push("lightning_executions_BTC_USD", trades)).messages
    first, second = (message for message in messages if isinstance(message, Trade))
    assert first.timestamp == second.timestamp
    assert first.timestamp.isoformat()[:26] == "2021-12-12T23:05:29.969206"
    assert (first.side, second.side) == (None, "sell")


def test_a_market_order_is_no_level_and_changes_need_a_snapshot() -> None:
    found = parser()
    change = {"mid_price": 10, "bids": [{"price": 10.0, "size": 1.0}], "asks": []}
    assert parse(found, push("lightning_board_BTC_USD", change)).rejected == (Reason.BOOK_UNSYNCED,)
    asks = [{"price": 0.0, "size": 5.0}, {"price": 11.0, "size": 4.0}]
    whole = {"mid_price": 10, "bids": [{"price": 9.0, "size": 3.0}], "asks": asks}
    quote = parse(found, push("lightning_board_snapshot_BTC_USD", whole)).messages[-1]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.best_ask, quote.ask_size) == (9, 11, 4)
    quote = parse(found, push("lightning_board_BTC_USD", change)).messages[-1]
    assert isinstance(quote, Level1)
    assert quote.best_bid == 10


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"jsonrpc": "2.0", "id": 1, "result": True}, Reason.ACKNOWLEDGED),
        ({"jsonrpc": "2.0", "id": 1, "error": {"code": -32602}}, Reason.REFUSED),
        (push("lightning_nosuch_BTC_USD", {}), Reason.UNKNOWN),
        (push("lightning_ticker_NOSUCH", {}), Reason.UNKNOWN_SYMBOL),
        (push("lightning_ticker_BTC_USD", {}), Reason.BAD_VALUE),
        ({}, Reason.UNKNOWN),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(parser(), frame).rejected == (reason,)


def test_the_subscription_is_the_recorded_one() -> None:
    session = play(BitflyerAdapter(), EXCERPTS / "bitflyer.gz")
    recorded = [msgspec.json.decode(payload) for payload in session.sent]
    types = frozenset({"level1", "trade", "price", "book"})
    requests = subscribed(BitflyerAdapter().connections(named(KNOWN, "BTC_USD"), types))
    assert len(requests) == 4
    assert all(request in recorded for request in requests)
