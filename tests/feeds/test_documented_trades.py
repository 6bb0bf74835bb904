"""Trades of documented REST replies: the rows of each exchange's own examples give the trades that they show.

The examples are those of the REST documentation that ccxt 4.5.64 cites for each exchange (read 2026-11-26).
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coinstream.errors import FeedError
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.exchanges.rest import fetch_missing
from coinstream.feeds.instrument_lists import packaged
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot
from coinstream.feeds.parser import Frame, Gap
from coinstream.messages import Message, Trade
from tests.feeds.exchanges.test_damaged_replies import mutated

SINCE = datetime(2021, 1, 1, tzinfo=UTC)
ANY = Gap("", 0, 10**19, "trades", SINCE, datetime(2026, 1, 1, tzinfo=UTC))


class Documented(NamedTuple):
    """One documented reply.

    Attributes:
        exchange: its id.
        instrument: the market of the reply.
        reply: the decoded reply.
        trade: price, size, side, id and Unix milliseconds of its newest trade.
        path: path of the request.
    """

    exchange: str
    instrument: Instrument
    reply: Any
    trade: tuple[float, float, str, str | None, int]
    path: str


REPLIES = [
    Documented(
        "binance",
        spot("BNBBTC", "BNB", "BTC"),
        [
            {"a": 26129, "p": "0.01633102", "q": "4.70443515", "f": 27781, "l": 27781}
            | {"T": 1498793709153, "m": True, "M": True}
        ],
        (0.01633102, 4.70443515, "sell", "26129", 1498793709153),
        "/api/v3/aggTrades",
    ),
    Documented(
        "binancecoinm",
        derivative("BTCUSD_PERP", "BTC", "USD", "BTC", contract_size=100, inverse=True),
        [
            {"a": "269772814", "p": "25864.1", "q": "3", "f": "662149354", "l": "662149355"}
            | {"T": "1694209776022", "m": False}
        ],
        (25864.1, 300 / 25864.1, "buy", "269772814", 1694209776022),
        "/dapi/v1/aggTrades",
    ),
    Documented(
        "bitfinex",
        spot("tBTCUSD", "BTC", "USD"),
        [[388063448, 1567526214876, 1.918524, 10682], [388063450, 1567526215000, -0.5, 10681]],
        (10681, 0.5, "sell", "388063450", 1567526215000),
        "/v2/trades/tBTCUSD/hist",
    ),
    Documented(
        "bitflyer",
        spot("BTC_JPY", "BTC", "JPY"),
        [
            {"id": 2278466664, "side": "SELL", "price": 56810.7, "size": 0.08798}
            | {"exec_date": "2021-11-19T11:46:39.323", "buy_child_order_acceptance_id": "JRF1"}
        ],
        (56810.7, 0.08798, "sell", "2278466664", 1637322399323),
        "/v1/executions",
    ),
    Documented(
        "bitget",
        spot("spot.BTCUSDT", "BTC", "USDT"),
        {
            **{"code": "00000", "msg": "success", "requestTime": 1692073693562},
            "data": [
                {"symbol": "BTCUSDT_SPBL", "tradeId": "1075200479040323585", "side": "Sell"}
                | {"price": "29381.54", "size": "0.0056", "ts": "1692073691000"}
            ],
        },
        (29381.54, 0.0056, "sell", "1075200479040323585", 1692073691000),
        "/api/v2/spot/market/fills",
    ),
    Documented(
        "bitget",
        derivative("mix.BTCUSDT", "BTC", "USDT", "USDT"),
        {
            **{"code": "00000", "msg": "success", "requestTime": 1692073522689},
            "data": [
                {"tradeId": "1075199767891652609", "price": "29376.5", "size": "6.035", "side": "Buy"}
                | {"ts": "1692073521000", "symbol": "BTCUSDT_UMCBL"}
            ],
        },
        (29376.5, 6.035, "buy", "1075199767891652609", 1692073521000),
        "/api/v2/mix/market/fills",
    ),
    Documented(
        "bitmex",
        derivative("XBTUSD", "BTC", "USD", "BTC", inverse=True),
        [
            {"timestamp": "2018-08-28T00:00:02.735Z", "symbol": "XBTUSD", "side": "Buy", "size": 2000}
            | {"price": 6906.5, "tickDirection": "PlusTick", "homeNotional": 0.28958, "foreignNotional": 2000}
            | {"trdMatchID": "b9a42432-0a46-6a2f-5ecc-c32e9ca4baf8", "grossValue": 28958000}
        ],
        (6906.5, 2000 / 6906.5, "buy", "b9a42432-0a46-6a2f-5ecc-c32e9ca4baf8", 1535414402735),
        "/api/v1/trade",
    ),
    Documented(
        "bitstamp",
        spot("ethbtc", "ETH", "BTC"),
        [
            {"date": "1551814435", "tid": "83581898", "price": "0.03532850", "type": "1", "amount": "0.85"},
            {"date": "1551814434", "tid": "83581896", "price": "0.03532851", "type": "0", "amount": "11.3"},
        ],
        (0.0353285, 0.85, "sell", "83581898", 1551814435000),
        "/api/v2/transactions/ethbtc/",
    ),
    Documented(
        "bybit",
        spot("spot.BTCUSDT", "BTC", "USDT"),
        {
            **{"retCode": 0, "retMsg": "OK", "retExtInfo": {}, "time": 1672053054358},
            "result": {
                "category": "spot",
                "list": [
                    {"execId": "2100000000007764263", "symbol": "BTCUSDT", "price": "16618.49"}
                    | {"size": "0.00012", "side": "Buy", "time": "1672052955758", "isBlockTrade": False}
                ],
            },
        },
        (16618.49, 0.00012, "buy", "2100000000007764263", 1672052955758),
        "/v5/market/recent-trade",
    ),
    Documented(
        "coinbase",
        spot("BTC-USDT", "BTC", "USDT"),
        {
            "trades": [
                {"trade_id": "10092327", "product_id": "BTC-USDT", "price": "17488.12", "size": "0.0000623"}
                | {"time": "2023-01-11T00:52:37.557001Z", "side": "BUY", "bid": "", "ask": ""}
            ]
        },
        (17488.12, 0.0000623, "sell", "10092327", 1673398357557),
        "/api/v3/brokerage/market/products/BTC-USDT/ticker",
    ),
    Documented(
        "cryptocom",
        spot("BTC_USD", "BTC", "USD"),
        {
            **{"id": -1, "method": "public/get-trades", "code": 0},
            "result": {
                "data": [
                    {"s": "buy", "p": "26386.00", "q": "0.00453", "t": 1686944282062}
                    | {"tn": 1704476468851524373, "d": "4611686018455979970", "i": "BTC_USD"}
                ]
            },
        },
        (26386, 0.00453, "buy", "4611686018455979970", 1686944282062),
        "/exchange/v1/public/get-trades",
    ),
    Documented(
        "deribit",
        derivative("BTC-PERPETUAL", "BTC", "USD", "BTC", inverse=True),
        {
            "jsonrpc": "2.0",
            "result": {
                "trades": [
                    {"trade_seq": 132564271, "trade_id": "195402220", "timestamp": 1639684927932}
                    | {"tick_direction": 0, "price": 47946.5, "mark_price": 47944.13, "direction": "buy"}
                    | {"instrument_name": "BTC-PERPETUAL", "index_price": 47925.45, "amount": 580.0}
                ],
                "has_more": True,
            },
            "usIn": 1639684931934671,
        },
        (47946.5, 580 / 47946.5, "buy", "195402220", 1639684927932),
        "/api/v2/public/get_last_trades_by_instrument",
    ),
    Documented(
        "gate",
        spot("spot.ADA_USDT", "ADA", "USDT"),
        [
            {"id": "1852958144", "create_time": "1634673259", "create_time_ms": "1634673259378.105000"}
            | {"currency_pair": "ADA_USDT", "side": "sell", "amount": "307.078", "price": "2.104"}
        ],
        (2.104, 307.078, "sell", "1852958144", 1634673259378),
        "/api/v4/spot/trades",
    ),
    Documented(
        "gate",
        derivative("futures.ADA_USDT", "ADA", "USDT", "USDT", contract_size=10),
        [
            {"size": "-2", "id": "2522911", "create_time_ms": "1634673380.182"}
            | {"create_time": "1634673380.182", "contract": "ADA_USDT", "price": "2.10486"}
        ],
        (2.10486, 20, "sell", "2522911", 1634673380182),
        "/api/v4/futures/usdt/trades",
    ),
    Documented(
        "htx",
        spot("btcusdt", "BTC", "USDT"),
        {
            **{"status": "ok", "ch": "market.btcusdt.trade.detail", "ts": 1583497692365},
            "data": [
                {
                    **{"id": 105005170342, "ts": 1583497692182},
                    "data": [
                        {"amount": 0.010411, "trade-id": 102090736910, "ts": 1583497692182}
                        | {"id": 10500517034273194594947, "price": 9096.05, "direction": "sell"}
                    ],
                }
            ],
        },
        (9096.05, 0.010411, "sell", "102090736910", 1583497692182),
        "/market/history/trade",
    ),
    Documented(
        "kraken",
        spot("XETHXXBT", "ETH", "BTC"),
        {
            "error": [],
            "result": {
                "XETHXXBT": [["0.032310", "4.28169434", 1541390792.763, "s", "l", "", 4481]],
                "last": "1541439421200678657",
            },
        },
        (0.03231, 4.28169434, "sell", "4481", 1541390792763),
        "/0/public/Trades",
    ),
    Documented(
        "kucoin",
        spot("BTC-USDT", "BTC", "USDT"),
        {
            "code": "200000",
            "data": [
                {"sequence": "1548764654235", "side": "sell", "size": "0.6841354", "price": "0.03202"}
                | {"time": 1548848575203567174}
            ],
        },
        (0.03202, 0.6841354, "sell", None, 1548848575203),
        "/api/v1/market/histories",
    ),
    Documented(
        "kucoin",
        derivative("XBTUSDTM", "BTC", "USDT", "USDT", contract_size=0.001),
        {
            "code": "200000",
            "data": [
                {"sequence": 32114961, "side": "buy", "size": 39, "price": "4001.6500000000"}
                | {"takerOrderId": "61c20742f172110001e0ebe4", "makerOrderId": "61c2073fcfc88100010fcb5d"}
                | {"tradeId": "61c2074277a0c473e69029b8", "ts": 1640105794099993896}
            ],
        },
        (4001.65, 0.039, "buy", "61c2074277a0c473e69029b8", 1640105794099),
        "/api/v1/trade/history",
    ),
    Documented(
        "okx",
        spot("ETH-BTC", "ETH", "BTC"),
        {
            **{"code": "0", "msg": ""},
            "data": [
                {"instId": "ETH-BTC", "side": "sell", "sz": "0.119501", "px": "0.07065"}
                | {"tradeId": "15826757", "ts": "1621446178316"},
                {"instId": "ETH-BTC", "side": "sell", "sz": "0.03", "px": "0.07068"}
                | {"tradeId": "15826756", "ts": "1621446178066"},
            ],
        },
        (0.07065, 0.119501, "sell", "15826757", 1621446178316),
        "/api/v5/market/history-trades",
    ),
    Documented(
        "poloniex",
        spot("BTC_USDT", "BTC", "USDT"),
        [
            {"id": "60014521", "price": "23162.94", "quantity": "0.00009", "amount": "2.0846646"}
            | {"takerSide": "SELL", "ts": 1659684602042, "createTime": 1659684602036}
        ],
        (23162.94, 0.00009, "sell", "60014521", 1659684602036),
        "/markets/BTC_USDT/trades",
    ),
    Documented(
        "upbit",
        spot("BTC-ETH", "ETH", "BTC"),
        [
            {"market": "BTC-ETH", "trade_date_utc": "2018-11-22", "trade_time_utc": "13:55:24"}
            | {"timestamp": 1542894924397, "trade_price": 0.02914289, "trade_volume": 0.20074397}
            | {"prev_closing_price": 0.02966, "change_price": -0.00051711, "ask_bid": "ASK"}
            | {"sequential_id": 15428949259430000}
        ],
        (0.02914289, 0.20074397, "sell", "15428949259430000", 1542894924397),
        "/v1/trades/ticks",
    ),
    Documented(
        "ascendex",
        spot("BTC/USDT", "BTC", "USDT"),
        {
            "code": 0,
            "data": {
                **{"m": "trades", "symbol": "BTC/USDT"},
                "data": [
                    {"p": "9128.5", "q": "0.0030", "ts": 1590229002385, "bm": False}
                    | {"seqnum": 180143985289898554}
                ],
            },
        },
        (9128.5, 0.003, "buy", "180143985289898554", 1590229002385),
        "/api/pro/v1/trades",
    ),
]


@pytest.mark.parametrize("case", REPLIES, ids=lambda case: f"{case.exchange}-{case.instrument.kind}")
def test_a_documented_reply_gives_its_trades(case: Documented) -> None:
    adapter = adapters()[case.exchange]()
    request = adapter.trades_request(case.instrument, ANY)
    assert request is not None
    assert request.url.partition("://")[2].partition("/")[2] == case.path.removeprefix("/")
    parser = adapter.parser(InstrumentList([case.instrument]), frozenset({"trade"}))
    trades: list[Trade] = []
    reply = msgspec.json.decode(msgspec.json.encode(case.reply))
    for value in adapter.trade_frames(case.instrument, reply, ANY):
        parsed = parser.parse(Frame(1_780_000_000_000_000_000, msgspec.json.encode(value)))
        assert not [reason for reason in parsed.rejected if reason.is_fault], parsed.detail
        trades += [message for message in parsed.messages if isinstance(message, Trade)]
    price, size, side, identity, milliseconds = case.trade
    newest = trades[-1]
    assert newest.trade_price == price
    assert newest.size == pytest.approx(size, rel=1e-12)
    assert (newest.symbol, newest.side) == (case.instrument.symbol, side)
    assert int(newest.timestamp.timestamp() * 1000 + 0.001) == milliseconds
    if identity is not None:
        assert newest.trade_id == identity


def test_kraken_is_asked_by_the_name_of_its_instrument_list() -> None:
    instrument = packaged("kraken").of_symbol("BTC/USD")
    assert instrument is not None
    request = adapters()["kraken"]().trades_request(instrument, ANY)
    assert request is not None
    assert request.params["pair"] == "XXBTZUSD"


@pytest.mark.parametrize("case", REPLIES, ids=lambda case: f"{case.exchange}-{case.instrument.kind}")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(start=st.integers(0, 2**32))
def test_a_damaged_reply_gives_trades_or_an_error_of_the_feed(case: Documented, start: int) -> None:
    body = msgspec.json.encode(mutated(case.reply, random.Random(start)))
    adapter = adapters()[case.exchange]()
    request = adapter.trades_request(case.instrument, ANY)
    assert request is not None

    async def fetch() -> list[Message]:
        transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
        async with httpx.AsyncClient(transport=transport) as http:
            return await fetch_missing(adapter, http, request, case.instrument, ANY)

    with suppress(FeedError):
        trades = [message for message in asyncio.run(fetch()) if isinstance(message, Trade)]
        assert all(trade.symbol == case.instrument.symbol for trade in trades)
        assert all(trade.trade_price > 0 and trade.size > 0 for trade in trades)
