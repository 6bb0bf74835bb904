"""KuCoin: a recorded session of spot, and frames of contracts."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import msgspec
import pytest

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.kucoin import KucoinAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Parser
from coinstream.messages import Book, DerivativeTicker, Level1, Ohlcv, Price, Trade
from tests.feeds.exchanges.sessions import excerpt, instruments_of, replayed, shared
from tests.feeds.frames import only, parse, span

MS = 1705708800010
CONTRACT = {
    **{"baseCurrency": "XBT", "quoteCurrency": "USDT", "settleCurrency": "USDT", "multiplier": 0.001},
    **{"symbol": "XBTUSDTM", "isInverse": False, "expireDate": None, "status": "Open"},
}
INVERSE = CONTRACT | {
    **{"symbol": "XBTUSDM", "quoteCurrency": "USD", "settleCurrency": "XBT", "multiplier": -1.0},
    "isInverse": True,
}
DATED = INVERSE | {"symbol": "XBTMH24", "expireDate": 1711699200000}


def instruments() -> InstrumentList:
    adapter = KucoinAdapter()
    found = instruments_of(adapter, excerpt("kucoin.instruments.gz"))
    body = msgspec.json.encode({"code": "200000", "data": [CONTRACT, INVERSE, DATED]})
    found.add(adapter.parse_instruments(adapter.instruments_urls[1], body))
    return found


def parser() -> Parser:
    return KucoinAdapter().parser(instruments())


def push(topic: str, data: Any, subject: str = "") -> dict[str, Any]:
    return {"type": "message", "topic": topic, "subject": subject, "data": data}


class TestRecording:
    def test_the_excerpt_parses_without_a_fault(self) -> None:
        session = replayed(KucoinAdapter(), excerpt("kucoin.ws.gz"), instruments())
        assert session.faults == {}
        assert {type(message) for message in session.messages} >= {Level1, Price, Trade}

    def test_the_whole_session_parses(self) -> None:
        known = instruments_of(KucoinAdapter(), shared("KUCOIN.instruments.gz"))
        session = replayed(KucoinAdapter(), shared("KUCOIN.ws.1.0.head.gz"), known)
        assert session.faults == {}
        assert session.stats.rejected == {
            Reason.OPENED: 1,
            Reason.SENT: 13,
            Reason.ACKNOWLEDGED: 14,
            Reason.BOOK_UNSYNCED: 2285,
            Reason.TOP_UNCHANGED: 235,
        }
        assert (len(session.of(Trade)), len(session.of(Ohlcv))) == (14, 5)
        quotes: Any = session.of(Level1)
        assert all(quote.best_bid < quote.best_ask for quote in quotes)
        trade: Any = session.of(Trade, "DAPPT/BTC")[0]
        assert (trade.trade_id, trade.trade_price) == ("6085c09769bc506996295e36", 1.117e-07)
        assert (trade.size, trade.side) == (81.8814, "buy")


class TestInstruments:
    def test_contracts_are_read_with_their_sizes(self) -> None:
        found = {name: instruments().get(name) for name in ("XBTUSDTM", "XBTUSDM", "XBTMH24", "BCHSV-USDT")}
        assert [item and item.symbol for item in found.values()] == [
            "BTC/USDT:USDT",
            "BTC/USD:BTC",
            "BTC/USD:BTC-240329",
            "BSV/USDT",
        ]
        assert [item and item.contract_size for item in found.values()] == [0.001, 1, 1, 1]

    @pytest.mark.parametrize(
        ("name", "symbol", "size"),
        [
            ("XBTUSDTM", "BTC/USDT:USDT", 0.007),
            ("XBTUSDM", "BTC/USD:BTC", 7 / 40000),
            ("ETHUSDCM", "ETH/USDC:USDC", 0.07),
        ],
    )
    def test_the_oldest_contracts_need_no_list(self, name: str, symbol: str, size: float) -> None:
        row = {"sequence": 5, "side": "sell", "size": 7, "price": "40000", "ts": 1706068800000000000}
        read = KucoinAdapter().parser(InstrumentList())
        trade: Any = parse(read, push(f"/contractMarket/execution:{name}", row | {"tradeId": "a"})).messages[
            0
        ]
        assert trade.symbol == symbol
        assert trade.size == pytest.approx(size)

    def test_details_in_a_recording_extend_the_list(self) -> None:
        read = parser()
        change = push(
            "/contractMarket/level2:MYROUSDTM", {"sequence": 1, "change": "1,buy,1", "timestamp": MS}
        )
        assert parse(read, change).rejected == (Reason.UNKNOWN_SYMBOL,)
        details = CONTRACT | {
            **{"symbol": "MYROUSDTM", "baseCurrency": "MYRO", "multiplier": 10, "openInterest": "7"},
            **{"markPrice": 0.2, "indexPrice": 0.21, "fundingFeeRate": 3.8e-05},
        }
        figures = only(parse(read, push("/contract/details:MYROUSDTM", details)))
        assert isinstance(figures, DerivativeTicker)
        assert (figures.symbol, figures.open_interest) == ("MYRO/USDT:USDT", 70)
        assert parse(read, change).rejected == (Reason.BOOK_UNSYNCED,)


class TestContracts:
    def test_executions_are_counted_in_base_currency(self) -> None:
        row = {
            **{"symbol": "XBTUSDTM", "sequence": 5, "side": "sell", "size": 7, "price": "40000"},
            **{"tradeId": "a", "ts": 1706068800000000000},
        }
        trade, price = parse(parser(), push("/contractMarket/execution:XBTUSDTM", row)).messages
        assert isinstance(trade, Trade)
        assert (trade.symbol, trade.side) == ("BTC/USDT:USDT", "sell")
        assert trade.size == pytest.approx(0.007)
        assert isinstance(price, Price)
        inverse = row | {"symbol": "XBTUSDM"}
        trade, _ = parse(parser(), push("/contractMarket/execution:XBTUSDM", inverse)).messages
        assert trade.size == pytest.approx(7 / 40000)  # type: ignore[attr-defined]

    def test_a_book_follows_its_snapshot_one_by_one(self) -> None:
        read = parser()
        reply = {"sequence": 9, "asks": [[11, 5]], "bids": [[10, 5]], "ts": 1706068800000000000}
        url = "https://api-futures.kucoin.com/api/v1/level2/snapshot?symbol=XBTUSDTM"
        kinds = [type(item) for item in parse(read, {"code": "200000", "data": reply}, url=url).messages]
        assert kinds == [Book, Level1]
        topic = "/contractMarket/level2:XBTUSDTM"
        change = push(topic, {"sequence": 10, "change": "10.5,buy,3", "timestamp": MS})
        quote: Any = parse(read, change).messages[-1]
        assert (quote.best_bid, quote.bid_size) == (10.5, pytest.approx(0.003))
        ignored = push(topic, {"sequence": 11, "change": "0,sell,0", "timestamp": MS})
        assert Reason.TOP_UNCHANGED in parse(read, ignored).rejected
        lost = push(topic, {"sequence": 14, "change": "10,buy,0", "timestamp": MS})
        assert span(parse(read, lost).gap) == ("BTC/USDT:USDT", 12, 13)

    def test_figures_are_merged_and_predictions_left_out(self) -> None:
        read, topic = parser(), "/contract/instrument:XBTUSDTM"
        mark = {"granularity": 1000, "indexPrice": 4000.23, "markPrice": 4010.52, "timestamp": MS}
        only(parse(read, push(topic, mark, "mark.index.price")))
        rate = {"granularity": 60000, "fundingRate": 9e-05, "timestamp": MS}
        assert parse(read, push(topic, rate, "funding.rate")).rejected == (Reason.STATUS,)
        figures = only(parse(read, push(topic, rate | {"granularity": 28800000}, "funding.rate")))
        assert (figures.mark_price, figures.index_price, figures.funding_rate) == (4010.52, 4000.23, 9e-05)

    def test_tickers_and_candles(self) -> None:
        row = {
            **{"symbol": "XBTUSDTM", "sequence": 5, "bestBidSize": 795, "bestBidPrice": "3200.0"},
            **{"bestAskPrice": "3600.0", "bestAskSize": 284, "ts": 1706068800000000000},
        }
        quote = only(parse(parser(), push("/contractMarket/tickerV2:XBTUSDTM", row)))
        assert (quote.best_bid, quote.bid_size) == (3200, pytest.approx(0.795))
        candles = ["1731898200", "90638.6", "90640", "90641", "90630", "21.0", "21"]
        data = {"symbol": "XBTUSDTM", "candles": candles, "time": MS}
        candle = only(parse(parser(), push("/contractMarket/limitCandle:XBTUSDTM_1hour", data)))
        assert isinstance(candle, Ohlcv)
        assert (candle.timeframe, candle.high_price, candle.low_price) == ("1h", 90641, 90630)
        assert candle.volume == pytest.approx(0.021)


class TestSpot:
    def test_a_change_with_price_zero_only_moves_the_number(self) -> None:
        read = parser()
        reply = {"sequence": "5", "asks": [["11", "5"]], "bids": [["10", "5"]], "time": MS}
        url = "https://api.kucoin.com/api/v3/market/orderbook/level2?symbol=BTC-USDT"
        parse(read, {"code": "200000", "data": reply}, url=url)
        data = {"sequenceStart": 6, "sequenceEnd": 6, "symbol": "BTC-USDT"}
        ignored = data | {"changes": {"asks": [["0", "0", "6"]], "bids": []}}
        found = parse(read, push("/market/level2:BTC-USDT", ignored))
        assert found.rejected == (Reason.TOP_UNCHANGED,)
        change = {"sequenceStart": 7, "sequenceEnd": 8, "symbol": "BTC-USDT", "time": MS}
        change["changes"] = {"asks": [["0", "0", "7"]], "bids": [["10.5", "2", "8"]]}
        quote: Any = parse(read, push("/market/level2:BTC-USDT", change)).messages[-1]
        assert (quote.best_bid, quote.best_ask) == (10.5, 11)

    def test_a_snapshot_has_the_volume_of_a_day(self) -> None:
        data = {"symbol": "BTC-USDT", "datetime": MS, "lastTradedPrice": 9.5, "vol": 70, "changeRate": 0.05}
        price = only(parse(parser(), push("/market/snapshot:BTC-USDT", {"sequence": "1", "data": data})))
        assert (price.usd_price, price.volume_24h, price.price_change_24h) == (9.5, 70, 5)

    def test_orders_are_told_by_one_reason(self) -> None:
        for topic in ("/market/level3:BTC-USDT", "/spotMarket/level3:BTC-USDT", "/contractMarket/level3v2:X"):
            assert parse(parser(), push(topic, {"sequence": 1})).rejected == (Reason.OTHER_CHANNEL,)

    def test_names_with_a_hyphen_need_no_list(self) -> None:
        data = {"asks": ["5", "1"], "bids": ["4", "2"], "timestamp": MS}
        quote = only(parse(parser(), push("/spotMarket/level1:NEW1-KCS", data)))
        assert quote.symbol == "NEW1/KCS"


class TestConnections:
    def test_each_market_has_its_own_token(self) -> None:
        adapter = KucoinAdapter()

        def answer(request: httpx.Request) -> httpx.Response:
            server = {"endpoint": f"wss://{request.url.host.replace('api', 'ws')}/endpoint"}
            return httpx.Response(200, json={"data": {"token": "T", "instanceServers": [server]}})

        async def run() -> None:
            async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
                await adapter.prepare(http)

        asyncio.run(run())
        known = instruments()
        some = [item for item in known if item.id in ("BTC-USDT", "SNX-BTC", "XBTUSDTM")]
        found = adapter.connections(some, frozenset({"trade", "ohlcv"}))
        assert [item.url for item in found] == [
            "wss://ws.kucoin.com/endpoint?token=T&connectId=coinstream",
            "wss://ws-futures.kucoin.com/endpoint?token=T&connectId=coinstream",
        ]
        topics = [msgspec.json.decode(request)["topic"] for item in found for request in item.requests]
        assert topics[0] in ("/market/match:BTC-USDT,SNX-BTC", "/market/match:SNX-BTC,BTC-USDT")
        assert topics[3] == "/contractMarket/limitCandle:XBTUSDTM_1min"

    def test_a_reply_without_a_token_is_an_error(self) -> None:
        async def run() -> None:
            transport = httpx.MockTransport(lambda _: httpx.Response(200, json={"data": {}}))
            async with httpx.AsyncClient(transport=transport) as http:
                await KucoinAdapter().prepare(http)

        with pytest.raises(FeedError, match="kucoin: no token"):
            asyncio.run(run())
