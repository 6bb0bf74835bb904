"""Independent Reserve: its recording, books made of single orders, trades."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.independentreserve import IndependentReserveAdapter, IndependentReserveParser
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList, spot
from coinstream.feeds.parser import Gap, Parser
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

KNOWN: Final = InstrumentList(
    [spot("xbt-aud", "XBT", "AUD"), spot("xbt-usd", "XBT", "USD"), spot("eth-aud", "ETH", "AUD")]
)
ORDERS_URL: Final = (
    "https://api.independentreserve.com/Public/GetAllOrders?primaryCurrencyCode=Xbt&secondaryCurrencyCode=Aud"
)
MS: Final = 1649023809209


def parser() -> Parser:
    return IndependentReserveAdapter().parser(KNOWN)


def order(event: str, nonce: int, guid: str, kind: str = "LimitBid", **fields: Any) -> dict[str, Any]:
    data = {"OrderType": kind, "OrderGuid": guid, **fields}
    return {"Channel": "orderbook-xbt", "Nonce": nonce, "Data": data, "Time": MS, "Event": event}


def orders(*rows: tuple[str, str, float, float]) -> dict[str, Any]:
    found: dict[str, Any] = {"BuyOrders": [], "SellOrders": [], "CreatedTimestampUtc": "2022-04-03T22:10:09Z"}
    for side, guid, price, size in rows:
        found[side].append({"Guid": guid, "Price": price, "Volume": size})
    return found


def test_the_excerpt_is_accounted_for_without_faults() -> None:
    session = play(IndependentReserveAdapter(), EXCERPTS / "independentreserve.gz")
    assert session.faults == []
    assert session.frames == session.giving + session.reasons.total()
    assert session.gaps == []


def test_the_whole_recording_is_accounted_for() -> None:
    adapter = IndependentReserveAdapter()
    session = play(
        adapter, shared("INDEPENDENT_RESERVE.ws.1.0.head.gz"), instruments_of(adapter, "INDEPENDENT_RESERVE")
    )
    assert session.faults == []
    assert session.gaps == []
    assert session.reasons == {
        Reason.HEARTBEAT: 1,
        Reason.ACKNOWLEDGED: 1,
        Reason.BOOK_UNSYNCED: 996,
    }


def test_a_book_of_the_recording_comes_with_its_rest_reply() -> None:
    adapter = IndependentReserveAdapter()
    known = InstrumentList([*named(KNOWN, "eth-aud"), spot("dot-aud", "DOT", "AUD")])
    found = adapter.parser(known)
    data: dict[str, Any] = {"OrderType": "LimitOffer", "OrderGuid": "be3c69b7", "Volume": 14.72539}
    data["Price"] = {"aud": 31.5105, "usd": 23.7243}
    new = {"Channel": "orderbook-dot", "Nonce": 4908, "Data": data, "Time": MS, "Event": "NewOrder"}
    assert parse(found, new).rejected == (Reason.BOOK_UNSYNCED,)
    url = ORDERS_URL.replace("Xbt", "Dot")
    book, quote = parse(found, orders(("BuyOrders", "a", 30.0, 2.0)), url).messages
    assert isinstance(book, Book)
    assert isinstance(quote, Level1)
    assert (book.symbol, book.asks, quote.best_bid) == ("DOT/AUD", [(31.5105, 14.72539)], 30)


def test_orders_of_one_price_add_up() -> None:
    found = parser()
    parse(found, orders(("BuyOrders", "a", 9.0, 1.0), ("SellOrders", "b", 11.0, 4.0)), ORDERS_URL)
    new = order("NewOrder", 1, "c", Price={"aud": 9.0, "usd": 6.0}, Volume=2.0)
    quote = parse(found, new).messages[-1]
    assert isinstance(quote, Level1)
    assert (quote.symbol, quote.best_bid, quote.bid_size) == ("BTC/AUD", 9, 3)
    filled = parse(found, order("OrderChanged", 2, "a", Volume=0.5)).messages[-1]
    assert isinstance(filled, Level1)
    assert filled.bid_size == 2.5
    gone = parse(found, order("OrderCanceled", 3, "c")).messages[-1]
    assert isinstance(gone, Level1)
    assert gone.bid_size == 0.5
    assert parse(found, order("OrderCanceled", 4, "nosuch")).rejected == (Reason.OUT_OF_DATE,)
    assert parse(found, order("OrderChanged", 5, "a", Volume=0.0)).rejected == (Reason.ONE_SIDED,)


def test_events_before_the_rest_reply_are_applied_after_it() -> None:
    found = IndependentReserveParser("independentreserve", KNOWN)
    parse(found, order("NewOrder", 1, "c", Price={"aud": 10.0, "usd": 7.0}, Volume=2.0))
    assert found.state.unsynced() == ["BTC/AUD", "BTC/USD", "BTC/NZD", "BTC/SGD"]
    parse(found, order("OrderCanceled", 2, "a"))
    reply = orders(
        ("BuyOrders", "a", 9.0, 1.0), ("BuyOrders", "c", 10.0, 2.0), ("SellOrders", "b", 11.0, 4.0)
    )
    book = parse(found, reply, ORDERS_URL).messages[0]
    assert isinstance(book, Book)
    assert (book.bids, book.asks) == ([(10, 2)], [(11, 4)])


def test_a_hole_in_the_numbers_of_a_channel_drops_its_books() -> None:
    found = parser()
    parse(found, orders(("BuyOrders", "a", 9.0, 1.0), ("SellOrders", "b", 11.0, 4.0)), ORDERS_URL)
    parse(found, order("OrderChanged", 1, "a", Volume=0.5))
    holed = parse(found, order("OrderChanged", 4, "a", Volume=0.4))
    assert (holed.gap, holed.rejected) == (Gap("", 2, 3), (Reason.BOOK_UNSYNCED,))


@pytest.mark.parametrize("price", [6090.5, {"aud": 6090.5, "usd": 4300.0}])
def test_a_trade(price: Any) -> None:
    data = {"TradeGuid": "c5bde544", "Price": price, "Volume": 0.01, "Side": "Sell"}
    data |= {"TradeDate": "2022-04-04T08:10:09.2+10:00"}
    frame = {"Channel": "ticker-eth-aud", "Nonce": 78, "Data": data, "Time": MS, "Event": "Trade"}
    trade = parse(parser(), frame).messages[0]
    assert isinstance(trade, Trade)
    assert (trade.symbol, trade.trade_price, trade.size, trade.side) == ("ETH/AUD", 6090.5, 0.01, "sell")
    assert trade.timestamp.timestamp() == pytest.approx(1649023809.2)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"Event": "Heartbeat", "Time": MS}, Reason.HEARTBEAT),
        ({"Event": "Subscriptions", "Data": [], "Time": MS}, Reason.ACKNOWLEDGED),
        ({"Event": "Error", "Data": "Channel not found"}, Reason.REFUSED),
        ({"Event": "Nosuch"}, Reason.UNKNOWN),
        (
            {"Event": "Trade", "Channel": "ticker-x-y", "Nonce": 1, "Data": {"Price": 1}},
            Reason.UNKNOWN_SYMBOL,
        ),
        (order("NewOrder", 1, "x") | {"Time": None}, Reason.BAD_VALUE),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(parser(), frame).rejected == (reason,)


def test_names_and_the_recorded_subscription() -> None:
    adapter = IndependentReserveAdapter()
    known = instruments_of(adapter, "INDEPENDENT_RESERVE")
    assert known.get("xbt-aud").symbol == "BTC/AUD"  # type: ignore[union-attr]
    session = play(adapter, EXCERPTS / "independentreserve.gz")
    recorded: Any = msgspec.json.decode(session.sent[0])
    pairs = [name.removeprefix("ticker-") for name in recorded["Data"] if name.startswith("ticker-")]
    requests: list[Any] = list(
        subscribed(adapter.connections(named(known, *pairs), frozenset({"book", "trade"})))
    )
    assert requests[0]["Event"] == "Subscribe"
    assert set(requests[0]["Data"]) == set(recorded["Data"])
