"""Deribit: a recorded session of options, and frames of the other channels."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from coinstream.feeds.exchanges.deribit import DeribitAdapter
from coinstream.feeds.exchanges.rest import fetch_missing
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Frame, Gap, Parser
from coinstream.messages import Book, DerivativeTicker, Level1, Liquidation, Ohlcv, Price, Trade
from tests.feeds.exchanges.recorded import named
from tests.feeds.exchanges.sessions import excerpt, instruments_of, replayed, shared
from tests.feeds.frames import only, parse, span

MS = 1584058067675


def parser() -> Parser:
    return DeribitAdapter().parser(InstrumentList())


def push(channel: str, data: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}


def trade(name: str, sequence: int = 5, **more: Any) -> dict[str, Any]:
    row = {
        **{"trade_seq": sequence, "trade_id": str(sequence), "timestamp": MS, "price": 5000.0},
        **{"instrument_name": name, "direction": "buy", "amount": 2500},
    }
    return push(f"trades.{name}.100ms", [row | more])


class TestRecording:
    def test_the_excerpt_parses_without_a_fault(self) -> None:
        known = instruments_of(DeribitAdapter(), excerpt("deribit.instruments.gz"))
        session = replayed(DeribitAdapter(), excerpt("deribit.ws.gz"), known)
        assert session.faults == {}
        assert {type(message) for message in session.messages} == {Level1, Book, DerivativeTicker}

    def test_the_whole_session_parses(self) -> None:
        known = instruments_of(DeribitAdapter(), shared("DERIBIT.instruments.gz"))
        session = replayed(DeribitAdapter(), shared("DERIBIT.ws.1.0.head.gz"), known)
        assert (session.faults, session.gaps, session.stats.flags) == ({}, 0, {})
        assert (session.stats.frames, session.stats.accepted) == (83, 71)
        assert session.stats.entries[Reason.NOT_DOLLARS] == 49
        assert session.of(Price) == []
        figures: Any = session.of(DerivativeTicker, "BTC/USD:BTC-211231-34000-P")[0]
        assert (figures.mark_price, figures.last_price, figures.open_interest) == (0.2335098, 0.229, 4.6)

    def test_every_listed_name_describes_itself(self) -> None:
        known = instruments_of(DeribitAdapter(), shared("DERIBIT.instruments.gz"))
        assert len(known) == 1017
        read: Any = parser()
        for instrument in known:
            assert read.instrument(instrument.id) == instrument


class TestNames:
    @pytest.mark.parametrize(
        ("name", "symbol", "size", "priced"),
        [
            ("BTC-PERPETUAL", "BTC/USD:BTC", 0.5, True),
            ("BTC-24SEP21", "BTC/USD:BTC-210924", 0.5, True),
            ("UNI_USDC-PERPETUAL", "UNI/USDC:USDC", 2500, True),
            ("BTC-5JUN20-9250-C", "BTC/USD:BTC-200605-9250-C", 2500, False),
            ("MATIC_USDC-9MAR24-1d02-C", "MATIC/USDC:USDC-240309-1.02-C", 2500, True),
            ("BTC_USDC", "BTC/USDC", 2500, True),
            ("STETH_ETH", "STETH/ETH", 2500, False),
        ],
    )
    def test_a_name_tells_market_and_unit(self, name: str, symbol: str, size: float, priced: bool) -> None:
        found = parse(parser(), trade(name)).messages
        assert isinstance(found[0], Trade)
        assert (found[0].symbol, found[0].size) == (symbol, size)
        assert (len(found) == 2) == priced

    @pytest.mark.parametrize("name", ["BTC-FS-30SEP22_PERP", "BTC-CS-29DEC23-40000_45000", "BTC-99XXX21"])
    def test_combos_are_told_by_one_reason(self, name: str) -> None:
        data = {"instrument_name": name, "timestamp": MS, "best_bid_price": -7, "best_bid_amount": 300000}
        data |= {"best_ask_price": -5, "best_ask_amount": 300000, "last_price": -13.5, "mark_price": 10.12}
        read = parser()
        assert parse(read, push(f"ticker.{name}.raw", data)).rejected == (Reason.OTHER_INSTRUMENT,)
        assert parse(read, trade(name, price=-7)).rejected == (Reason.OTHER_INSTRUMENT,)
        book = {
            "instrument_name": name,
            "timestamp": MS,
            "change_id": 1,
            "bids": [["new", -7, 1]],
            "asks": [],
        }
        assert parse(read, push(f"book.{name}.raw", book)).rejected == (Reason.OTHER_INSTRUMENT,)


class TestFrames:
    def test_a_book_follows_its_numbers(self) -> None:
        read, name = parser(), "book.ETH-PERPETUAL.raw"
        book = {"timestamp": MS, "instrument_name": "ETH-PERPETUAL", "change_id": 10}
        levels = {"bids": [["new", 200, 400]], "asks": [["new", 250, 500]]}
        change = book | {"prev_change_id": 10, "change_id": 12, "bids": [["delete", 200, 0]], "asks": []}
        assert parse(read, push(name, change)).rejected == (Reason.BOOK_UNSYNCED,)
        quote: Any = parse(read, push(name, book | levels)).messages[-1]
        assert (quote.bid_size, quote.ask_size) == (2, 2)
        assert Reason.ONE_SIDED in parse(read, push(name, change)).rejected
        lost = change | {"prev_change_id": 20, "change_id": 21}
        assert span(parse(read, push(name, lost)).gap) == ("ETH/USD:ETH", 13, 20)

    def test_a_change_after_nothing_is_a_whole_book(self) -> None:
        read, name = parser(), "book.ETH-PERPETUAL.raw"
        book = {"timestamp": MS, "instrument_name": "ETH-PERPETUAL", "change_id": 10, "prev_change_id": 0}
        levels = {"type": "change", "bids": [["new", 200, 400]], "asks": [["new", 250, 500]]}
        assert [type(item) for item in parse(read, push(name, book | levels)).messages] == [Book, Level1]

    def test_a_book_of_limited_depth_is_whole_and_a_merged_one_is_not_read(self) -> None:
        data = {"timestamp": MS, "instrument_name": "ETH-PERPETUAL", "change_id": 10}
        data |= {"bids": [[200, 400]], "asks": [[250, 500]]}
        merged = parse(parser(), push("book.ETH-PERPETUAL.10.20.100ms", data))
        assert merged.rejected == (Reason.OTHER_CHANNEL,)
        quote: Any = parse(parser(), push("book.ETH-PERPETUAL.none.20.100ms", data)).messages[-1]
        assert (quote.best_bid, quote.ask_size) == (200, 2)

    def test_trades_are_numbered_and_liquidations_found(self) -> None:
        read = parser()
        found = parse(read, trade("BTC-PERPETUAL", liquidation="M")).messages
        assert [type(item) for item in found] == [Trade, Price, Liquidation]
        assert found[2].side == "sell"  # type: ignore[attr-defined]
        found = parse(read, trade("BTC-PERPETUAL", 6, liquidation="T")).messages
        assert found[2].side == "buy"  # type: ignore[attr-defined]
        assert parse(read, trade("BTC-PERPETUAL", 6)).rejected == (Reason.DUPLICATE,)
        assert span(parse(read, trade("BTC-PERPETUAL", 9)).gap) == ("BTC/USD:BTC", 7, 8)

    def test_a_ticker_of_a_perpetual(self) -> None:
        data = {
            **{"timestamp": MS, "stats": {"volume": 43610.27}, "open_interest": 84000000},
            **{"mark_price": 8400, "last_price": 8304.5, "instrument_name": "BTC-PERPETUAL"},
            **{"index_price": 8305.94, "current_funding": -0.0001, "best_bid_price": 8000},
            **{"best_bid_amount": 16000, "best_ask_price": 8304.5, "best_ask_amount": 83045},
        }
        quote, figures, price = parse(parser(), push("ticker.BTC-PERPETUAL.raw", data)).messages
        assert isinstance(quote, Level1)
        assert (quote.bid_size, quote.ask_size) == (2, 10)
        assert isinstance(figures, DerivativeTicker)
        assert (figures.open_interest, figures.funding_rate) == (10000, -0.0001)
        assert isinstance(price, Price)
        assert price.volume_24h == 43610.27

    def test_an_incremental_ticker_keeps_its_last_values(self) -> None:
        read, channel = parser(), "incremental_ticker.BTC-PERPETUAL"
        data = {"timestamp": MS, "instrument_name": "BTC-PERPETUAL", "best_ask_price": 90.0}
        early = push(channel, data | {"type": "change"})
        assert parse(read, early).rejected == (Reason.INCOMPLETE,)
        whole = data | {
            "type": "snapshot",
            "best_bid_price": 80,
            "best_bid_amount": 160,
            "best_ask_amount": 90,
        }
        parse(read, push(channel, whole | {"mark_price": 85}))
        change = data | {"type": "change", "best_ask_price": 100, "best_ask_amount": 100}
        quote = only(parse(read, push(channel, change)))
        assert (quote.best_bid, quote.best_ask, quote.ask_size) == (80, 100, 1)

    def test_candles(self) -> None:
        data = {"tick": MS // 60000 * 60000, "open": 1, "high": 3, "low": 1, "close": 2, "volume": 7.5}
        for resolution, timeframe in (("1", "1m"), ("60", "1h"), ("1D", "1d")):
            candle = only(parse(parser(), push(f"chart.trades.BTC-PERPETUAL.{resolution}", data)))
            assert isinstance(candle, Ohlcv)
            assert (candle.timeframe, candle.volume) == (timeframe, 7.5)


class TestConnections:
    def test_channels_are_subscribed_once(self) -> None:
        adapter = DeribitAdapter()
        known = instruments_of(adapter, excerpt("deribit.instruments.gz"))
        some = [item for item in known if item.id == "BTC-PERPETUAL"]
        types = frozenset({"trade", "liquidation", "price", "derivativeticker"})
        (connection,) = adapter.connections(some, types)
        request = msgspec.json.decode(connection.requests[0])
        assert request["params"]["channels"] == ["ticker.BTC-PERPETUAL.100ms", "trades.BTC-PERPETUAL.100ms"]

    def test_a_gap_in_trades_is_fetched(self) -> None:
        adapter, asked = DeribitAdapter(), []

        def answer(request: httpx.Request) -> httpx.Response:
            asked.append(dict(request.url.params))
            rows = [trade("BTC-PERPETUAL", number)["params"]["data"][0] for number in (8, 7)]
            return httpx.Response(200, json={"result": {"trades": rows}})

        async def run() -> list[Any]:
            known = instruments_of(adapter, excerpt("deribit.instruments.gz"))
            (instrument,) = named(known, "BTC-PERPETUAL")
            gap = Gap(instrument.symbol, 7, 8, "trades")
            wanted = adapter.trades_request(instrument, gap)
            assert wanted is not None
            async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
                return await fetch_missing(adapter, http, wanted, instrument, gap)

        found = asyncio.run(run())
        assert [item.trade_id for item in found if isinstance(item, Trade)] == ["7", "8"]
        assert (asked[0]["start_seq"], asked[0]["end_seq"]) == ("7", "8")

    def test_a_test_request_is_answered(self) -> None:
        request = b'{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}'
        reply = DeribitAdapter().answer(Frame(0, request))
        assert reply is not None
        assert msgspec.json.decode(reply)["method"] == "public/test"
        assert DeribitAdapter().answer(Frame(0, b"{}")) is None
