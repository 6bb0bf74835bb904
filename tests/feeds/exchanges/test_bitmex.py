"""BitMEX: a recorded session, and frames of the tables that it lacks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from coinstream.feeds.exchanges.bitmex import BitmexAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Parser
from coinstream.messages import Book, DerivativeTicker, Level1, Liquidation, Ohlcv, Price, Trade
from tests.feeds.exchanges.sessions import excerpt, instruments_of, replayed, shared
from tests.feeds.frames import only, parse, span

AT = "2022-02-14T07:59:54.829Z"


def instruments() -> InstrumentList:
    return instruments_of(BitmexAdapter(), excerpt("bitmex.instruments.gz"))


def parser() -> Parser:
    return BitmexAdapter().parser(instruments())


def table(name: str, *rows: dict[str, Any], action: str = "insert") -> dict[str, Any]:
    return {"table": name, "action": action, "data": list(rows)}


def trade(name: str, **more: Any) -> dict[str, Any]:
    row = {"timestamp": AT, "symbol": name, "side": "Buy", "size": 100, "price": 20.0, "trdMatchID": "a"}
    return table("trade", row | more)


class TestRecording:
    def test_the_excerpt_parses_without_a_fault(self) -> None:
        session = replayed(BitmexAdapter(), excerpt("bitmex.ws.gz"), instruments())
        assert session.faults == {}
        assert {type(message) for message in session.messages} == {Level1, Book, Price, Trade}

    def test_the_whole_session_parses_and_is_never_crossed(self) -> None:
        known = instruments_of(BitmexAdapter(), shared("BITMEX.instruments.gz"))
        session = replayed(BitmexAdapter(), shared("BITMEX.ws.1.0.head.gz"), known)
        assert (session.faults, session.gaps, session.stats.flags) == ({}, 0, {})
        assert session.stats.rejected == {
            Reason.OPENED: 1,
            Reason.SENT: 3,
            Reason.STATUS: 1,
            Reason.ACKNOWLEDGED: 30,
            Reason.TOP_UNCHANGED: 708,
            Reason.OUT_OF_DATE: 35,
        }

    def test_sizes_equal_the_notional_that_the_exchange_computed(self) -> None:
        trades: Any = replayed(BitmexAdapter(), excerpt("bitmex.ws.gz"), instruments()).of(Trade)
        sizes = {trade.symbol: trade.size for trade in reversed(trades)}
        assert sizes["UNI/USDT:BTC"] == pytest.approx(70.41800643086816)
        assert sizes["BTC/USD:BTC"] == pytest.approx(0.03108, rel=1e-5)
        assert sizes["TRX/BTC:BTC-210924"] == 1300

    def test_only_dollars_are_prices(self) -> None:
        session = replayed(BitmexAdapter(), excerpt("bitmex.ws.gz"), instruments())
        priced = {message.symbol for message in session.of(Price)}  # type: ignore[attr-defined]
        assert "UNI/USDT:BTC" in priced
        assert not any(symbol.startswith(("XRP/BTC", "TRX/BTC")) for symbol in priced)


class TestInstruments:
    @pytest.mark.parametrize(
        ("name", "symbol", "size"),
        [
            ("XBTUSD", "BTC/USD:BTC", 5),
            ("XBTEURU21", "BTC/EUR:BTC-210924", 5),
            ("XRPU21", "XRP/BTC:BTC-210924", 100),
            ("ETHM19", "ETH/BTC:BTC-190628", 100),
            ("XBTZ23", "BTC/USD:BTC-231229", 5),
            ("XBTEURZ23", "BTC/EUR:BTC-231229", 5),
        ],
    )
    def test_names_of_contracts(self, name: str, symbol: str, size: float) -> None:
        found: Any = parse(parser(), trade(name)).messages[0]
        assert (found.symbol, found.size) == (symbol, size)

    @pytest.mark.parametrize("name", ["NEWUSDT", "ETHUSDM22", "XBTUSDTM22"])
    def test_a_name_that_does_not_tell_all_is_unknown(self, name: str) -> None:
        assert parse(parser(), trade(name)).rejected == (Reason.UNKNOWN_SYMBOL,)

    def test_the_instrument_table_extends_the_list(self) -> None:
        read = parser()
        row = {
            **{"symbol": "NEWUSDT", "typ": "FFWCSX", "state": "Open", "underlying": "NEW"},
            **{"quoteCurrency": "USDT", "settlCurrency": "USDt", "multiplier": 1, "isInverse": False},
            **{"underlyingToPositionMultiplier": 1000, "isQuanto": False, "expiry": None},
            **{"markPrice": 2.0, "openInterest": 5000, "fundingRate": -0.0001, "timestamp": AT},
            **{"fundingTimestamp": "2022-02-14T12:00:00.000Z", "indicativeSettlePrice": 2.1},
        }
        index = {"symbol": ".BXBT", "typ": "MRCXXX", "lastPrice": 42000, "timestamp": AT}
        found = parse(read, table("instrument", index, row, action="partial"))
        figures = only(found)
        assert isinstance(figures, DerivativeTicker)
        assert (figures.symbol, figures.mark_price, figures.open_interest) == ("NEW/USDT:USDT", 2, 5)
        assert figures.next_funding_time == datetime(2022, 2, 14, 12, tzinfo=UTC)
        assert found.rejected == (Reason.OTHER_INSTRUMENT,)
        assert parse(read, trade("NEWUSDT")).messages[0].size == 0.1  # type: ignore[attr-defined]

    def test_an_update_without_figures_is_no_fault(self) -> None:
        row = {"symbol": "XBTUSD", "lastTickDirection": "ZeroMinusTick", "timestamp": AT}
        assert parse(parser(), table("instrument", row, action="update")).rejected == (Reason.STATUS,)

    def test_a_quanto_contract_is_worth_what_the_newest_trade_says(self) -> None:
        read = parser()
        parse(read, trade("ETHUSD", homeNotional=5.0))
        quote = {"timestamp": AT, "symbol": "ETHUSD", "bidSize": 701, "bidPrice": 267.7}
        found = only(parse(read, table("quote", quote | {"askPrice": 267.75, "askSize": 62427})))
        assert [found.bid_size, found.ask_size] == pytest.approx([35.05, 3121.35])


class TestFrames:
    def test_levels_are_told_by_their_id(self) -> None:
        read = parser()
        update = {"symbol": "XBTUSD", "id": 2, "side": "Buy", "size": 50}
        early = table("orderBookL2", update, action="update")
        assert parse(read, early).rejected == (Reason.BOOK_UNSYNCED,)
        rows = [
            {"symbol": "XBTUSD", "id": 1, "side": "Sell", "size": 100, "price": 200, "timestamp": AT},
            {"symbol": "XBTUSD", "id": 2, "side": "Buy", "size": 100, "price": 100, "timestamp": AT},
            {"symbol": "XBTUSD", "id": 3, "side": "Buy", "size": 100, "price": 50, "timestamp": AT},
        ]
        quote: Any = parse(read, table("orderBookL2", *rows, action="partial")).messages[-1]
        assert (quote.best_bid, quote.bid_size, quote.ask_size) == (100, 1, 0.5)
        quote = parse(read, early).messages[-1]
        assert quote.bid_size == 0.5
        gone = {"symbol": "XBTUSD", "id": 2, "side": "Buy"}
        quote = parse(read, table("orderBookL2", gone, action="delete")).messages[-1]
        assert (quote.best_bid, quote.bid_size) == (50, 2)
        lost = parse(read, table("orderBookL2", gone | {"size": 1}, action="update"))
        assert (lost.rejected, span(lost.gap)) == ((Reason.BOOK_UNSYNCED,), ("BTC/USD:BTC", 2, 2))

    def test_a_bin_is_named_by_its_end(self) -> None:
        row = {
            **{"timestamp": "2022-02-14T08:00:00.000Z", "symbol": "XBTUSD", "open": 1, "high": 4, "low": 1},
            **{"close": 2, "trades": 3, "volume": 700, "vwap": 2, "homeNotional": 350.5},
        }
        candle = only(parse(parser(), table("tradeBin5m", row)))
        assert isinstance(candle, Ohlcv)
        assert (candle.open_time.minute, candle.close_time.minute, candle.volume) == (55, 0, 350.5)
        empty = row | {"open": None, "high": None, "low": None, "homeNotional": 0}
        assert parse(parser(), table("tradeBin1m", empty)).rejected == (Reason.NO_PRICE,)

    def test_only_a_new_liquidation_order_counts(self) -> None:
        row = {"orderID": "dd9c", "symbol": "XBTUSD", "side": "Buy", "price": 100, "leavesQty": 9200}
        found = only(parse(parser(), table("liquidation", row)))
        assert isinstance(found, Liquidation)
        assert (found.order_id, found.side, found.size) == ("dd9c", "buy", 92)
        update = {"orderID": "dd9c", "symbol": "XBTUSD", "leavesQty": 9}
        assert parse(parser(), table("liquidation", update, action="update")).rejected == (Reason.STATUS,)

    def test_one_bad_entry_does_not_lose_the_others(self) -> None:
        row = {"timestamp": AT, "symbol": "XBTUSD", "side": "Buy", "size": 100, "price": 20.0}
        rows = [row | {"trdMatchID": "a"}, row | {"side": None}, row | {"trdMatchID": "c"}]
        found = parse(parser(), table("trade", *rows))
        assert [item.trade_id for item in found.messages if isinstance(item, Trade)] == ["a", "c"]
        assert found.rejected == (Reason.BAD_VALUE,)


def test_one_table_serves_two_types() -> None:
    some = [item for item in instruments() if item.id == "XBTUSD"]
    types = frozenset({"price", "derivativeticker", "level1"})
    (connection,) = BitmexAdapter().connections(some, types)
    assert [msgspec.json.decode(request)["args"] for request in connection.requests] == [
        ["quote:XBTUSD", "instrument:XBTUSD"]
    ]
