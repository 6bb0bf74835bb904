"""Gemini: its recording, the three generations of its protocol, its instrument list."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.gemini import GeminiAdapter
from coinstream.feeds.exchanges.gemini.parser import GeminiParser
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList, derivative, spot
from coinstream.feeds.parser import Gap
from coinstream.feeds.recordings import read_lines
from coinstream.messages import DerivativeTicker, Level1, Ohlcv, Price, Trade
from tests.feeds.exchanges.recorded import (
    EXCERPTS,
    instruments_in,
    instruments_of,
    named,
    parse,
    play,
    shared,
    subscribed,
)

KNOWN: Final = InstrumentList(
    [
        spot("BTCUSD", "BTC", "USD"),
        spot("BTCRLUSD", "BTC", "RLUSD"),
        spot("ETHUSD", "ETH", "USD"),
        derivative("BTCGUSDPERP", "BTC", "GUSD", "GUSD"),
    ]
)
FIRST: Final[dict[str, Any]] = {
    "type": "l2_updates",
    "symbol": "BTCUSD",
    "changes": [["buy", "9", "1"], ["sell", "11", "2"]],
    "trades": [
        {"type": "trade", "event_id": 8, "timestamp": 2000, "price": "10", "quantity": "1", "side": "sell"},
        {"type": "trade", "event_id": 7, "timestamp": 1000, "price": "9", "quantity": "2", "side": "buy"},
    ],
}


def test_the_excerpt_parses_without_faults() -> None:
    session = play(GeminiAdapter(), EXCERPTS / "gemini.gz")
    session.check()
    assert {quote.symbol for quote in session.of(Level1)} == {"ALCX/USD", "ANKR/USD", "BAT/BTC", "ZEC/LTC"}
    assert len(session.of(Trade)) == 4 * 50 + 4
    assert {price.symbol for price in session.of(Price)} == {"ALCX/USD", "ANKR/USD"}


def test_the_whole_recording_matches_an_independent_reading() -> None:
    path = shared("GEMINI.ws.1.0.gz")
    session = play(GeminiAdapter(), path, instruments_of(GeminiAdapter(), "GEMINI"))
    session.check()
    assert session.reasons[Reason.HEARTBEAT] == 7
    assert len(session.of(Trade)) == 10 * 50 + 16
    books: dict[str, dict[str, dict[float, float]]] = {}
    tops: list[tuple[float, float]] = []
    for line in read_lines(path):
        if b"l2_updates" in line.frame.payload and line.reason is None:
            frame = msgspec.json.decode(line.frame.payload)
            if "trades" in frame:
                books[frame["symbol"]] = {"buy": {}, "sell": {}}
            sides = books[frame["symbol"]]
            before = max(sides["buy"], default=0.0), min(sides["sell"], default=0.0)
            sizes = sides["buy"].get(before[0]), sides["sell"].get(before[1])
            for side, price, size in frame["changes"]:
                sides[side][float(price)] = float(size)
                if not float(size):
                    del sides[side][float(price)]
            after = max(sides["buy"]), min(sides["sell"])
            if after != before or (sides["buy"][after[0]], sides["sell"][after[1]]) != sizes:
                tops.append(after)
    assert [(quote.best_bid, quote.best_ask) for quote in session.of(Level1)] == tops


def test_trades_of_the_first_frame_come_oldest_first_and_once() -> None:
    parser = GeminiAdapter().parser(KNOWN)
    trades = [message for message in parse(parser, FIRST).messages if isinstance(message, Trade)]
    assert [(trade.trade_id, trade.side, trade.size) for trade in trades] == [
        ("7", "buy", 2),
        ("8", "sell", 1),
    ]
    again = parse(parser, FIRST["trades"][0] | {"symbol": "BTCUSD"})
    assert again.rejected == (Reason.DUPLICATE,)


def test_a_change_without_its_book_waits() -> None:
    parser = GeminiAdapter().parser(KNOWN)
    change = {"type": "l2_updates", "symbol": "BTCUSD", "changes": [["buy", "9.5", "1"]]}
    assert parse(parser, change).rejected == (Reason.BOOK_UNSYNCED,)
    parse(parser, FIRST)
    quotes = [message for message in parse(parser, change).messages if isinstance(message, Level1)]
    assert [(quote.best_bid, quote.best_ask) for quote in quotes] == [(9.5, 11)]


def test_a_block_trade_has_no_side() -> None:
    frame = {
        **{"type": "trade", "symbol": "ETHUSD", "event_id": 9, "timestamp": 1580919901276},
        **{"price": "200.19", "quantity": "100", "side": "block"},
    }
    trade = parse(GeminiAdapter().parser(KNOWN), frame).messages[0]
    assert isinstance(trade, Trade)
    assert (trade.side, trade.size) == (None, 100)


def test_candles_are_told_oldest_first() -> None:
    rows = [[1561054560000, 9, 12, 8, 10, 5], [1561054500000, 8, 9, 7, 9, 4]]
    frame = {"type": "candles_1m_updates", "symbol": "BTCUSD", "changes": rows}
    first, second = parse(GeminiAdapter().parser(KNOWN), frame).messages
    assert isinstance(first, Ohlcv)
    assert isinstance(second, Ohlcv)
    assert first.close_time == second.open_time
    assert (second.open_price, second.high_price, second.low_price, second.close_price) == (9, 12, 8, 10)


def test_a_mark_price_is_a_derivative_ticker() -> None:
    change = {"timestamp": 1673932381478308169, "mark_price": "21154.098", "spot_index": "21175.27333"}
    frame = {"type": "mark_price_updates", "symbol": "BTCGUSDPERP", "changes": [change]}
    ticker = parse(GeminiAdapter().parser(KNOWN), frame).messages[0]
    assert isinstance(ticker, DerivativeTicker)
    assert (ticker.symbol, ticker.mark_price, ticker.index_price) == ("BTC/GUSD:GUSD", 21154.098, 21175.27333)


def test_version_1_has_books_trades_and_numbered_frames() -> None:
    parser = GeminiAdapter().parser(KNOWN)
    change = {"type": "change", "symbol": "BTCUSD", "reason": "initial"}
    events = [
        change | {"side": "bid", "price": "9", "remaining": "1"},
        change | {"side": "ask", "price": "11", "remaining": "2"},
    ]
    first = {"type": "update", "socket_sequence": 0, "events": events}
    assert any(isinstance(message, Level1) for message in parse(parser, first).messages)
    trade = {"type": "trade", "symbol": "BTCUSD", "tid": 5, "price": "11", "amount": "1", "makerSide": "ask"}
    second = {"type": "update", "socket_sequence": 1, "timestampms": 1561054500000, "events": [trade]}
    found = parse(parser, second).messages[0]
    assert isinstance(found, Trade)
    assert (found.side, found.trade_id) == ("buy", "5")
    assert parse(parser, second | {"socket_sequence": 4}).gap == Gap("", 2, 3)


def test_the_address_names_the_market_of_version_1() -> None:
    parser = GeminiParser("gemini", KNOWN)
    parser.opened("wss://api.gemini.com/v1/marketdata/btcusd?heartbeat=true")
    trade = {"type": "trade", "tid": 5, "price": "11", "amount": "1", "makerSide": "bid"}
    found = parse(parser, {"type": "update", "timestampms": 1561054500000, "events": [trade]}).messages[0]
    assert isinstance(found, Trade)
    assert (found.symbol, found.side) == ("BTC/USD", "sell")


def test_streams_are_read_as_their_reference_says() -> None:
    parser = GeminiAdapter().parser(KNOWN)
    trade = {"E": 1783981140085684200, "s": "btcrlusd", "t": 2840141014190422, "p": "62145.38000"}
    found = parse(parser, trade | {"q": "0.0162522200", "m": True}).messages[0]
    assert isinstance(found, Trade)
    assert (found.symbol, found.side, found.trade_price) == ("BTC/RLUSD", "sell", 62145.38)
    book = {"lastUpdateId": 10, "s": "btcusd", "bids": [["9", "1"]], "asks": [["11", "1"]]}
    update = {"e": "depthUpdate", "E": 1783981199886103600, "s": "btcusd", "U": 11, "u": 12, "b": [], "a": []}
    assert parse(parser, update).rejected == (Reason.BOOK_UNSYNCED,)
    assert parse(parser, book).messages
    assert parse(parser, update | {"U": 15, "u": 16}).gap == Gap("BTC/USD", 13, 14)
    ticker = {"u": 1, "E": 1751508438600117161, "s": "btcusd", "b": "8", "B": "1", "a": "12", "A": "2"}
    quote = parse(parser, ticker | {"E": 1783981300886103600}).messages[0]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.best_ask, quote.bid_size, quote.ask_size) == (8, 12, 1, 2)


def test_frames_of_binance_are_foreign() -> None:
    update = b'{"e":"depthUpdate","E":%d,"s":"BTCUSDT","U":1,"u":2,"b":[],"a":[]}'
    assert GeminiAdapter.is_foreign(update % 1723161254087)
    assert not GeminiAdapter.is_foreign(update % 1783981199886103600)


def test_names_come_from_the_details_of_each_market() -> None:
    known = instruments_of(GeminiAdapter(), "GEMINI")
    pairs = {"PAXGUSD": "PAXG/USD", "BTCGUSD": "BTC/GUSD", "GUSDUSD": "GUSD/USD", "paxgusd": "PAXG/USD"}
    assert {name: known.get(name).symbol for name in pairs} == pairs  # type: ignore[union-attr]
    urls = GeminiAdapter().instrument_urls(("BTC/RLUSD", "BTC/GUSD:GUSD"))
    assert [url.rpartition("/")[2] for url in urls] == ["btcrlusd", "btcgusdperp"]


def test_a_newer_quote_currency_is_split_from_a_listed_currency() -> None:
    parser = GeminiAdapter().parser(instruments_in(GeminiAdapter(), EXCERPTS / "gemini.gz"))
    names = {"linkrlusd": "LINK/RLUSD", "BTCGUSDPERP": "BTC/GUSD:GUSD", "alcxusdt": "ALCX/USDT"}
    for name, symbol in names.items():
        trade = parse(parser, {"E": 1783981140085684200, "s": name, "t": 5, "p": "2", "q": "3", "m": False})
        assert [message.symbol for message in trade.messages if isinstance(message, Trade)] == [symbol]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"type": "heartbeat", "timestamp": 1}, Reason.HEARTBEAT),
        ({"result": "error", "reason": "InvalidJson", "message": "no"}, Reason.REFUSED),
        ({"type": "auction_open"}, Reason.STATUS),
        ({"type": "nosuch"}, Reason.UNKNOWN),
        ({"lastUpdateId": 1, "bids": [], "asks": []}, Reason.UNKNOWN_SYMBOL),
        ({"type": "update", "events": [{"type": "change", "side": "bid"}]}, Reason.UNKNOWN_SYMBOL),
        (FIRST | {"symbol": "NOSUCH"}, Reason.UNKNOWN_SYMBOL),
        (FIRST | {"changes": [["buy", "x", "1"]]}, Reason.BAD_VALUE),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(GeminiAdapter().parser(KNOWN), frame).rejected == (reason,)


def test_one_request_subscribes_everything() -> None:
    connections = GeminiAdapter().connections(named(KNOWN, "BTCUSD", "ETHUSD"), frozenset({"level1"}))
    assert subscribed(connections) == [
        {"type": "subscribe", "subscriptions": [{"name": "l2", "symbols": ["BTCUSD", "ETHUSD"]}]}
    ]
