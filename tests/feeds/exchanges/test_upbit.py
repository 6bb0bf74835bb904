"""Upbit: its recording, both formats, its names."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.upbit import UpbitAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList, spot
from coinstream.feeds.parser import Parser
from coinstream.feeds.recordings import read_lines
from coinstream.messages import Book, Level1, Ohlcv, Price, Trade
from tests.feeds.exchanges.recorded import (
    EXCERPTS,
    instruments_of,
    named,
    parse,
    play,
    shared,
    subscribed,
)

KNOWN: Final = InstrumentList([spot("KRW-DOGE", "DOGE", "KRW"), spot("USDT-BTC", "BTC", "USDT")])
TRADE: Final[dict[str, Any]] = {
    **{"type": "trade", "code": "KRW-DOGE", "timestamp": 1614729599905, "trade_timestamp": 1614729599000},
    **{"trade_price": 58.4, "trade_volume": 836.12040133, "ask_bid": "ASK"},
    **{"sequential_id": 1614729599000000, "stream_type": "REALTIME"},
}


def parser() -> Parser:
    return UpbitAdapter().parser(KNOWN)


def test_the_excerpt_parses_without_faults() -> None:
    session = play(UpbitAdapter(), EXCERPTS / "upbit.gz")
    session.check()
    assert {trade.side for trade in session.of(Trade)} == {"buy", "sell"}


def test_the_whole_recording_matches_an_independent_reading() -> None:
    path = shared("UPBIT.ws.62.0.head.gz")
    session = play(UpbitAdapter(), path, instruments_of(UpbitAdapter(), "UPBIT"))
    session.check()
    trades, tops = [], []
    for line in read_lines(path):
        if line.reason is None and line.frame.url is None:
            frame = msgspec.json.decode(line.frame.payload)
            quote, base = frame["cd"].split("-")
            if frame["ty"] == "trade":
                trades.append((f"{base}/{quote}", str(frame["sid"]), frame["tp"], frame["tv"]))
            else:
                unit = frame["obu"][0]
                tops.append((f"{base}/{quote}", unit["bp"], unit["ap"], unit["bs"], unit["as"]))
    found = [(one.symbol, one.trade_id, one.trade_price, one.size) for one in session.of(Trade)]
    assert found == trades
    quotes = [
        (one.symbol, one.best_bid, one.best_ask, one.bid_size, one.ask_size) for one in session.of(Level1)
    ]
    last: dict[str, Any] = {}
    changed = [top for top in tops if last.get(top[0]) != top and not last.update({top[0]: top})]
    assert quotes == changed


def test_the_long_format_and_lists() -> None:
    trade = parse(parser(), [TRADE]).messages[0]
    assert isinstance(trade, Trade)
    assert (trade.symbol, trade.side, trade.size) == ("DOGE/KRW", "sell", 836.12040133)
    assert trade.timestamp.isoformat() == "2021-03-02T23:59:59+00:00"
    parsed = parse(parser(), [TRADE | {"code": "nosuch"}, TRADE])
    assert (len(parsed.messages), parsed.rejected) == (1, (Reason.UNKNOWN_SYMBOL,))


def test_a_book_is_whole_each_time() -> None:
    found = parser()
    unit = {"ask_price": 11.0, "bid_price": 9.0, "ask_size": 4.0, "bid_size": 3.0}
    frame = {"type": "orderbook", "code": "USDT-BTC", "timestamp": 1614729599905, "orderbook_units": [unit]}
    book, quote = parse(found, frame).messages
    assert isinstance(book, Book)
    assert isinstance(quote, Level1)
    assert (book.bids, book.asks, quote.symbol) == ([(9, 3)], [(11, 4)], "BTC/USDT")
    lower = parse(found, frame | {"orderbook_units": [unit | {"bid_price": 8.0}]}).messages[-1]
    assert isinstance(lower, Level1)
    assert lower.best_bid == 8


def test_tickers_and_candles() -> None:
    row = {"ty": "ticker", "cd": "USDT-BTC", "tms": 1614729599905, "tp": 50000.0, "atv24h": 7.0}
    price = parse(parser(), row | {"scr": 0.01}).messages[0]
    assert isinstance(price, Price)
    assert (price.usd_price, price.volume_24h, price.price_change_24h) == (50000, 7, None)
    candle = {"type": "candle.5m", "code": "USDT-BTC", "candle_date_time_utc": "2025-01-02T04:25:00"}
    candle |= {"opening_price": 1, "high_price": 4, "low_price": 0.5, "trade_price": 3}  # type: ignore[dict-item]
    found = parse(parser(), candle | {"candle_acc_trade_volume": 7}).messages[0]
    assert isinstance(found, Ohlcv)
    assert (found.timeframe, found.open_time.isoformat()) == ("5m", "2025-01-02T04:25:00+00:00")
    assert (found.open_price, found.high_price, found.low_price, found.close_price) == (1, 4, 0.5, 3)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"status": "UP"}, Reason.HEARTBEAT),
        ({"error": {"name": "WRONG_FORMAT", "message": "no"}}, Reason.REFUSED),
        (TRADE | {"type": "nosuch"}, Reason.UNKNOWN),
        (TRADE | {"trade_price": "x"}, Reason.BAD_VALUE),
        ({"code": 5}, Reason.BAD_VALUE),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(parser(), frame).rejected == (reason,)


def test_one_request_names_all_markets() -> None:
    types = frozenset({"level1", "trade"})
    (request,) = subscribed(UpbitAdapter().connections(named(KNOWN, "KRW-DOGE", "USDT-BTC"), types))
    assert isinstance(request, list)
    assert request[1:] == [
        {"format": "SIMPLE"},
        {"type": "trade", "codes": ["KRW-DOGE", "USDT-BTC"]},
        {"type": "orderbook", "codes": ["KRW-DOGE", "USDT-BTC"]},
    ]
