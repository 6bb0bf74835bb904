"""Bitstamp: its recording, its books and its subscriptions."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges import adapters, host_matches
from coinstream.feeds.exchanges.bitstamp import BitstampAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList, spot
from coinstream.messages import Book, Level1, Price, Trade
from tests.feeds.exchanges.recorded import (
    EXCERPTS,
    instruments_of,
    named,
    parse,
    play,
    shared,
    subscribed,
)

BTCUSD: Final = InstrumentList([spot("btcusd", "BTC", "USD"), spot("usdteur", "USDT", "EUR")])
BOOK_URL: Final = "https://www.bitstamp.net/api/v2/order_book/btcusd/"


def change(at: int, **sides: Any) -> dict[str, Any]:
    data = {"timestamp": "1", "microtimestamp": str(at), "bids": [], "asks": []} | sides
    return {"event": "data", "channel": "diff_order_book_btcusd", "data": data}


def test_the_excerpt_gives_trades_with_side_size_and_id() -> None:
    session = play(BitstampAdapter(), EXCERPTS / "bitstamp.gz")
    assert session.frames == session.giving + session.reasons.total()
    assert session.faults == []
    trades = session.of(Trade)
    assert {trade.symbol for trade in trades} == {"ETH/USD"}
    assert all(trade.side in ("buy", "sell") and trade.size > 0 and trade.trade_id for trade in trades)
    assert [trade.trade_price for trade in trades] == [price.usd_price for price in session.of(Price)]


def test_the_whole_recording_is_accounted_for() -> None:
    session = play(
        BitstampAdapter(), shared("BITSTAMP.ws.1.0.gz"), instruments_of(BitstampAdapter(), "BITSTAMP")
    )
    session.check()
    assert session.reasons == {Reason.ACKNOWLEDGED: 20, Reason.BOOK_UNSYNCED: 717}
    trades = session.of(Trade)
    assert len(trades) == 10
    last = trades[-1]
    assert (last.trade_id, last.trade_price, last.size, last.side) == (
        "216000506",
        3800.8,
        2.73248242,
        "sell",
    )
    assert last.timestamp.isoformat() == "2022-01-05T00:48:41.269000+00:00"


def test_names_come_from_the_instrument_list() -> None:
    known = instruments_of(BitstampAdapter(), "BITSTAMP")
    pairs = {"eurtusd": "EURT/USD", "paxeur": "PAX/EUR", "usdtusd": "USDT/USD", "galaeur": "GALA/EUR"}
    assert {name: known.get(name).symbol for name in pairs} == pairs  # type: ignore[union-attr]


def test_changes_wait_for_the_rest_book_and_older_ones_are_dropped() -> None:
    parser = BitstampAdapter().parser(BTCUSD)
    assert parse(parser, change(1641343691244908, bids=[["1.5", "2"]])).rejected == (Reason.BOOK_UNSYNCED,)
    rest = {"microtimestamp": "1641343691244900", "bids": [["1", "1"]], "asks": [["2", "1"]]}
    book, quote = parse(parser, rest, BOOK_URL).messages
    assert isinstance(book, Book)
    assert isinstance(quote, Level1)
    assert (book.symbol, book.bids, book.asks) == ("BTC/USD", [(1.5, 2.0), (1.0, 1.0)], [(2.0, 1.0)])
    assert (quote.best_bid, quote.bid_size, quote.best_ask) == (1.5, 2, 2)
    assert parse(parser, change(1641343691244901, asks=[["1.7", "1"]])).rejected == (Reason.OUT_OF_DATE,)


def test_each_channel_keeps_its_own_book() -> None:
    parser = BitstampAdapter().parser(BTCUSD)
    whole = change(1641343691244900, bids=[["1", "1"]], asks=[["2", "3"]]) | {"channel": "order_book_btcusd"}
    assert parse(parser, whole).messages
    assert parse(parser, change(1641343691244901, bids=[["1.5", "2"]])).rejected == (Reason.BOOK_UNSYNCED,)


def test_a_side_that_is_not_documented_is_not_guessed() -> None:
    parser = BitstampAdapter().parser(BTCUSD)
    data = {"id": 1, "price": 2, "amount": 3, "type": 7, "timestamp": "1641343691"}
    trade = parse(parser, {"event": "trade", "channel": "live_trades_btcusd", "data": data}).messages[0]
    assert isinstance(trade, Trade)
    assert (trade.side, trade.size) == (None, 3)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"event": "bts:heartbeat", "channel": "", "data": {"status": "success"}}, Reason.HEARTBEAT),
        ({"event": "bts:request_reconnect", "channel": "", "data": ""}, Reason.STATUS),
        ({"event": "bts:error", "channel": "", "data": {"code": None, "message": "Bad"}}, Reason.REFUSED),
        ({"event": "order_created", "channel": "live_orders_btcusd", "data": {}}, Reason.DEPTH),
        ({"event": "nosuch"}, Reason.UNKNOWN),
        (change(1641343691244901) | {"channel": "diff_order_book_nosuch"}, Reason.UNKNOWN_SYMBOL),
        (change(1641343691244901, bids=[["-1", "2"]]), Reason.BAD_VALUE),
        (b"[" * 100_000, Reason.MALFORMED),
        (b"\x1f\x8b\x00", Reason.MALFORMED),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(BitstampAdapter().parser(BTCUSD), frame).rejected == (reason,)


def test_the_subscription_is_the_recorded_one() -> None:
    session = play(BitstampAdapter(), EXCERPTS / "bitstamp.gz")
    known = instruments_of(BitstampAdapter(), "BITSTAMP")
    wanted = named(known, *("sgbeur", "ethusd", "xrpeur", "bateur", "usdteur", "usdtusd"))
    requests = subscribed(BitstampAdapter().connections(wanted, frozenset({"level1", "trade"})))
    assert len(requests) == 12
    recorded = [msgspec.json.decode(payload) for payload in session.sent]
    assert all(request in recorded for request in requests)
    assert adapters()["bitstamp"] is BitstampAdapter
    assert host_matches(session.urls[0], BitstampAdapter.hosts[0])
