"""OKX and OKCoin: a recorded session, and frames of the channels that it lacks."""

from __future__ import annotations

import zlib
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.okx import OkcoinAdapter, OkxAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Parser
from coinstream.messages import Book, DerivativeTicker, Level1, Liquidation, Ohlcv, Price, Trade
from tests.feeds.exchanges.sessions import excerpt, instruments_of, replayed, shared
from tests.feeds.frames import only, parse, span

SWAP = "BTC/USDT:USDT"


def instruments() -> InstrumentList:
    return instruments_of(OkxAdapter(), excerpt("okx.instruments.gz"))


def parser() -> Parser:
    return OkxAdapter().parser(instruments())


def push(channel: str, name: str, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"arg": {"channel": channel, "instId": name}, "data": list(rows), **more}


class TestRecording:
    def test_the_excerpt_parses_without_a_fault(self) -> None:
        session = replayed(OkxAdapter(), excerpt("okx.ws.gz"), instruments())
        assert session.faults == {}
        assert session.stats.rejected[Reason.CHECKSUM] == 0
        assert {type(message) for message in session.messages} == {Level1, Book, Price, Trade}

    def test_the_whole_session_parses_and_every_checksum_matches(self) -> None:
        known = instruments_of(OkxAdapter(), shared("OKX.instruments.gz"))
        session = replayed(OkxAdapter(), shared("OKX.ws.1.0.head.gz"), known)
        stats = session.stats
        assert (stats.frames, stats.accepted) == (248, 221)
        assert stats.rejected == {
            Reason.OPENED: 1,
            Reason.SENT: 3,
            Reason.ACKNOWLEDGED: 18,
            Reason.TOP_UNCHANGED: 5,
        }
        assert (session.faults, session.gaps, stats.flags) == ({}, 0, {})
        assert len(session.of(Trade)) == 39
        books: Any = session.of(Book)
        assert all(book.bids[0][0] < book.asks[0][0] for book in books)

    def test_sizes_are_in_base_currency(self) -> None:
        session = replayed(OkxAdapter(), excerpt("okx.ws.gz"), instruments())
        trade: Any = session.of(Trade, "BTC/USD:BTC-220527")[0]
        assert (trade.trade_id, trade.trade_price, trade.side) == ("7849", 30218.8, "buy")
        assert trade.size == pytest.approx(1 * 100 / 30218.8)
        price: Any = session.of(Price, "UNI/USD:UNI")[0]
        assert price.volume_24h == 577730.7823
        spot: Any = session.of(Price, "BTC/USDT")[0]
        assert (spot.usd_price, spot.volume_24h) == (30236, 17602.13085371)


class TestInstruments:
    def test_every_kind_is_read(self) -> None:
        known = instruments()
        found = {name: known.get(name) for name in ("BTC-USDT", "UNI-USD-SWAP", "BTC-USDT-SWAP")}
        assert [item and item.symbol for item in found.values()] == ["BTC/USDT", "UNI/USD:UNI", SWAP]
        option = known.get("BTC-USD-220514-22000-C")
        assert option is not None
        assert (option.symbol, option.contract_size) == ("BTC/USD:BTC-220514-22000-C", 0.1)
        assert not option.is_in_dollars

    def test_a_name_that_is_not_listed_is_read_from_its_parts(self) -> None:
        read = parser()
        row = {"instId": "LTC-USD-240628", "tradeId": "1", "px": "50", "sz": "10", "side": "sell", "ts": 1e12}
        trade = parse(read, push("trades", "LTC-USD-240628", row)).messages[0]
        assert (trade.symbol, trade.size) == ("LTC/USD:LTC-240628", 2.0)  # type: ignore[attr-defined]
        unknown = parse(read, push("trades", "X", row | {"instId": "XYZ-USDT-SWAP"}))
        assert unknown.rejected == (Reason.UNKNOWN_SYMBOL,)

    def test_a_reply_of_another_shape_is_an_error(self) -> None:
        with pytest.raises(FeedError, match="okx: the instrument list at"):
            OkxAdapter().parse_instruments("https://www.okx.com/x", b"<html>")


class TestFrames:
    def test_contract_figures_are_merged(self) -> None:
        read = parser()
        name = "BTC-USDT-SWAP"
        index = push(
            "index-tickers", "BTC-USDT", {"instId": "BTC-USDT", "idxPx": "99", "ts": "1651761120000"}
        )
        assert parse(read, index).rejected == (Reason.INCOMPLETE,)
        mark = {"instId": name, "instType": "SWAP", "markPx": "100", "ts": "1651761120001"}
        ticker = only(parse(read, push("mark-price", name, mark)))
        assert (ticker.symbol, ticker.mark_price, ticker.index_price) == (SWAP, 100, 99)
        funding = {"instId": name, "fundingRate": "-0.0001", "fundingTime": "1651766400000"}
        ticker = only(parse(read, push("funding-rate", name, funding)))
        assert ticker.funding_rate == -0.0001
        assert ticker.next_funding_time == datetime(2022, 5, 5, 16, tzinfo=UTC)
        interest = {"instId": name, "oi": "23687", "oiCcy": "236.87", "ts": "1651761120003"}
        ticker = only(parse(read, push("open-interest", name, interest)))
        assert isinstance(ticker, DerivativeTicker)
        assert (ticker.open_interest, ticker.mark_price, ticker.funding_rate) == (236.87, 100, -0.0001)

    def test_candles_have_their_volume_in_base_currency(self) -> None:
        row = ["1651761060000", "1", "3", "0.5", "2", "700", "7", "14", "1"]
        for name, volume in (("BTC-USDT-SWAP", 7), ("BTC-USDT", 700)):
            candle = only(parse(parser(), {"arg": {"channel": "candle1H", "instId": name}, "data": [row]}))
            assert isinstance(candle, Ohlcv)
            assert (candle.timeframe, candle.volume, candle.close_price) == ("1h", volume, 2)

    def test_an_option_in_bitcoin_is_no_dollar_price(self) -> None:
        name = "BTC-USD-220514-22000-C"
        row = {
            "instId": name,
            "tradeId": "5",
            "px": "0.229",
            "sz": "10",
            "side": "buy",
            "ts": "1651761060000",
        }
        trade = only(parse(parser(), push("trades", name, row)))
        assert isinstance(trade, Trade)
        assert (trade.trade_price, trade.size) == (0.229, 1.0)

    def test_liquidations_name_the_side_of_the_order(self) -> None:
        details = [{"bkPx": "0.55", "posSide": "short", "side": "buy", "sz": "39", "ts": "1680173247614"}]
        frame = {
            "arg": {"channel": "liquidation-orders", "instType": "FUTURES"},
            "data": [{"details": details, "instId": "XRP-USD-230929", "instType": "FUTURES"}],
        }
        found = only(parse(parser(), frame))
        assert isinstance(found, Liquidation)
        assert (found.symbol, found.side) == ("XRP/USD:XRP-230929", "buy")
        assert found.size == pytest.approx(390 / 0.55)

    def test_a_hole_in_the_numbers_of_a_book_is_a_gap(self) -> None:
        read, name = parser(), "BTC-USDT"
        book = {"bids": [["9", "1"]], "asks": [["11", "1"]], "ts": "1651761060000", "seqId": 10}
        parse(read, push("books", name, book | {"prevSeqId": -1}, action="snapshot"))
        same = book | {"bids": [], "asks": [], "prevSeqId": 10}
        assert parse(read, push("books", name, same, action="update")).rejected == (Reason.TOP_UNCHANGED,)
        reset = book | {"bids": [["10", "1"]], "asks": [], "prevSeqId": 10, "seqId": 3}
        assert parse(read, push("books", name, reset, action="update")).messages
        jumped = parse(read, push("books", name, book | {"prevSeqId": 8, "seqId": 9}, action="update"))
        assert span(jumped.gap) == ("BTC/USDT", 4, 8)
        assert jumped.rejected == (Reason.BOOK_UNSYNCED,)

    def test_a_wrong_checksum_drops_the_book(self) -> None:
        read, name = parser(), "BTC-USDT"
        book = {"bids": [["9.0", "1"]], "asks": [["11", "1.50"]], "ts": "1651761060000"}
        right = zlib.crc32(b"9.0:1:11:1.50")
        right -= (right >= 1 << 31) << 32
        assert parse(read, push("books", name, book | {"checksum": right}, action="snapshot")).messages
        wrong = parse(read, push("books", name, book | {"checksum": right + 1}, action="update"))
        assert (wrong.messages, wrong.rejected) == ((), (Reason.CHECKSUM,))
        assert wrong.gap is not None
        later = parse(read, push("books", name, book, action="update"))
        assert later.rejected == (Reason.BOOK_UNSYNCED,)

    def test_books_of_different_depth_do_not_mix(self) -> None:
        read, name = parser(), "BTC-USDT"
        book = {"bids": [["9", "1"], ["8", "1"]], "asks": [["11", "1"]], "ts": "1651761060000"}
        parse(read, push("books", name, book, action="snapshot"))
        best = {"bids": [["9.5", "3"]], "asks": [["11", "1"]], "ts": "1651761060010"}
        quote = only(parse(read, push("bbo-tbt", name, best)))
        assert (quote.best_bid, quote.bid_size) == (9.5, 3)
        change = {"bids": [["9", "0"]], "asks": [], "ts": "1651761060020"}
        quote = parse(read, push("books", name, change, action="update")).messages[-1]
        assert isinstance(quote, Level1)
        assert quote.best_bid == 8

    def test_one_bad_entry_does_not_lose_the_others(self) -> None:
        row = {"instId": "BTC-USDT", "px": "9", "sz": "1", "side": "buy", "ts": "1651761060000"}
        rows = [row | {"tradeId": "1"}, row | {"tradeId": "2", "px": "-9"}, row | {"tradeId": "3"}]
        found = parse(parser(), push("trades", "BTC-USDT", *rows))
        assert [message.trade_id for message in found.messages if isinstance(message, Trade)] == ["1", "3"]
        assert found.rejected == (Reason.BAD_VALUE,)

    def test_spreads_are_told_by_one_reason(self) -> None:
        frame = {
            "arg": {"channel": "sprd-books5", "sprdId": "BTC-USD-231229_BTC-USD-240329"},
            "data": [{"bids": [["-5", "1", "1"]], "asks": [], "ts": "1703155859507"}],
        }
        assert parse(parser(), frame).rejected == (Reason.OTHER_INSTRUMENT,)


class TestV3:
    def test_frames_may_be_compressed(self) -> None:
        row = {
            **{"instrument_id": "DCR-USD", "trade_id": "460", "price": "20.38", "size": "0.1", "side": "buy"},
            "timestamp": "2019-11-09T07:53:40.479Z",
        }
        text = msgspec.json.encode({"table": "spot/trade", "data": [row]})
        packer = zlib.compressobj(wbits=-15)
        packed = packer.compress(text) + packer.flush()
        read = OkcoinAdapter().parser(InstrumentList())
        trade, price = parse(read, packed).messages
        assert (trade.symbol, trade.size) == ("DCR/USD", 0.1)  # type: ignore[attr-defined]
        assert isinstance(price, Price)
        assert parse(read, packed[:-4]).rejected == (Reason.MALFORMED,)

    def test_tickers_of_contracts_have_base_volumes(self) -> None:
        row = {
            **{"last": "47.826", "open_24h": "46.281", "best_bid": "47.799", "best_ask": "47.837"},
            **{"volume_24h": "1737691", "volume_token_24h": "366790.4051", "open_interest": "160296.0"},
            **{"best_bid_size": "112", "best_ask_size": "20", "instrument_id": "ETC-USD-220325"},
            "timestamp": "2021-09-30T23:59:59.965Z",
        }
        quote, price = parse(parser(), {"table": "futures/ticker", "data": [row]}).messages
        assert isinstance(quote, Level1)
        assert isinstance(price, Price)
        assert quote.bid_size == pytest.approx(1120 / 47.799)
        assert (price.symbol, price.volume_24h) == ("ETC/USD:ETC-220325", 366790.4051)

    def test_an_option_summary_without_numbers_is_no_fault(self) -> None:
        row = {
            **{"instrument_id": "BTC-USD-220514-22000-C", "mark_price": "∞", "last": "0"},
            **{"open_interest": "0", "timestamp": "2020-07-24T07:00:00.001Z"},
        }
        assert parse(parser(), {"table": "option/summary", "data": [row]}).rejected == (Reason.INCOMPLETE,)

    def test_an_index_completes_the_contracts_of_its_underlying(self) -> None:
        read, at = parser(), "2020-06-08T12:52:00.802Z"
        row = {"instrument_id": "BTC-USD-SWAP", "mark_price": "100", "timestamp": at}
        assert parse(read, {"table": "swap/mark_price", "data": [row]}).messages
        index = {"instrument_id": "BTC-USD", "last": "99", "timestamp": at}
        ticker = only(parse(read, {"table": "index/ticker", "data": [index]}))
        assert (ticker.symbol, ticker.mark_price, ticker.index_price) == ("BTC/USD:BTC", 100, 99)


class TestConnections:
    def test_candles_go_over_the_business_address(self) -> None:
        known = list(instruments())
        found = OkxAdapter().connections(
            known, frozenset({"ohlcv", "trade", "derivativeticker", "liquidation"})
        )
        assert [item.url for item in found] == [
            "wss://ws.okx.com:8443/ws/v5/public",
            "wss://ws.okx.com:8443/ws/v5/business",
        ]
        wanted = {tuple(argument.values()) for argument in msgspec.json.decode(found[0].requests[0])["args"]}
        assert {("trades", "BTC-USDT"), ("funding-rate", "BTC-USDT-SWAP")} <= wanted
        assert {("index-tickers", "BTC-USD"), ("liquidation-orders", "SWAP")} <= wanted
        assert ("funding-rate", "BTC-USDT") not in wanted

    def test_another_host_may_be_given(self) -> None:
        found = OkxAdapter(ws="ws://127.0.0.1:9").connections(list(instruments()), frozenset({"price"}))
        assert {item.url for item in found} == {"ws://127.0.0.1:9/ws/v5/public"}
