"""Frames of each exchange's documentation give the messages that they show.

The examples are those of the websocket documentation that ccxt 4.5.64 cites (read 2026-11-26).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import pytest

from coinstream.feeds.exchanges import adapters
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot
from coinstream.feeds.parser import Frame
from coinstream.messages import Book, Level1, Message, Ohlcv, Price, Trade

RECEIVED_NS = 1_780_000_000_000_000_000


class Documented(NamedTuple):
    """One documented frame.

    Attributes:
        exchange: its id.
        instrument: the market of the frame.
        frame: the decoded frame.
        messages: type and some fields of each message, in order.
    """

    exchange: str
    instrument: Instrument
    frame: Any
    messages: list[tuple[type[Message], dict[str, Any]]]


def shown(messages: list[Message], wanted: list[tuple[type[Message], dict[str, Any]]]) -> list[Any]:
    """Return the wanted fields of the messages; all types if there are more or fewer messages."""
    if len(messages) != len(wanted):
        return [type(message).__name__ for message in messages]
    return [
        (type(message), {name: getattr(message, name) for name in fields})
        for message, (_, fields) in zip(messages, wanted, strict=True)
    ]


def result(instrument_name: str, channel: str, data: Any, **more: Any) -> Any:
    """Return a frame of Crypto.com."""
    told = {"instrument_name": instrument_name, "channel": channel, "data": data, **more}
    return {"code": 0, "method": "subscribe", "id": -1, "result": told}


def dydx(channel: str, identity: str, contents: Any, kind: str = "subscribed") -> Any:
    """Return a frame of dYdX."""
    head = {"type": kind, "connection_id": "9011edff", "message_id": 1, "channel": channel, "id": identity}
    return {**head, "contents": contents}


BTC_PHEMEX = spot("sBTCUSDT", "BTC", "USDT")
PERP_PHEMEX = derivative("BTCUSDT", "BTC", "USDT", "USDT")
DYDX = derivative("BTC-USD", "BTC", "USD", "USDC")

FRAMES = [
    Documented(
        "cryptocom",
        spot("LTC_USDT", "LTC", "USDT"),
        result(
            "LTC_USDT",
            "book",
            [{"bids": [[122.21, 0.74041, 4]], "asks": [[122.29, 0.00002, 1]], "t": 1648123943803, "u": 75}],
            depth=150,
        ),
        [(Book, {"bids": [(122.21, 0.74041)], "asks": [(122.29, 0.00002)]}), (Level1, {"best_bid": 122.21})],
    ),
    Documented(
        "cryptocom",
        spot("BTC_USDT", "BTC", "USDT"),
        result(
            "BTC_USDT",
            "trade",
            [
                {"dataTime": 1648122434405, "d": "2358394540212355488", "s": "SELL", "p": 42980.85}
                | {"q": 0.002325, "t": 1648122434404, "i": "BTC_USDT"}
            ],
        ),
        [(Trade, {"trade_price": 42980.85, "size": 0.002325, "side": "sell"})],
    ),
    Documented(
        "cryptocom",
        derivative("ETHUSD-PERP", "ETH", "USD", "USD"),
        result(
            "ETHUSD-PERP",
            "ticker",
            [
                {"h": "2400.20", "l": "2277.10", "a": "2335.25", "c": "-0.0022", "b": "2335.10"}
                | {"bs": "5.4000", "k": "2335.16", "ks": "1.9970", "i": "ETHUSD-PERP", "v": "1305697.6462"}
                | {"vv": "3058704939.17", "oi": "161646.3614", "t": 1726069647560}
            ],
        ),
        [
            (Level1, {"best_bid": 2335.1, "best_ask": 2335.16, "bid_size": 5.4, "ask_size": 1.997}),
            (Price, {"usd_price": 2335.25}),
        ],
    ),
    Documented(
        "hyperliquid",
        derivative("BTC", "BTC", "USDC", "USDC"),
        {
            "channel": "l2Book",
            "data": {
                **{"coin": "BTC", "time": 1710131872708},
                "levels": [
                    [{"px": "68674.0", "sz": "0.97139", "n": 4}],
                    [{"px": "68675.0", "sz": "0.04396", "n": 1}],
                ],
            },
        },
        [(Book, {"bids": [(68674, 0.97139)], "asks": [(68675, 0.04396)]}), (Level1, {"best_ask": 68675})],
    ),
    Documented(
        "hyperliquid",
        derivative("BTC", "BTC", "USDC", "USDC"),
        {
            "channel": "trades",
            "data": [
                {"coin": "BTC", "side": "A", "px": "68517.0", "sz": "0.005", "time": 1710125266669}
                | {"hash": "0xc872699f116e", "tid": 981894269203506}
            ],
        },
        [(Trade, {"trade_price": 68517, "size": 0.005, "side": "sell", "trade_id": "981894269203506"})],
    ),
    Documented(
        "hyperliquid",
        derivative("BTC", "BTC", "USDC", "USDC"),
        {
            "channel": "candle",
            "data": {"t": 1710146280000, "T": 1710146339999, "s": "BTC", "i": "1m", "o": "71400.0", "n": 20}
            | {"c": "71411.0", "h": "71422.0", "l": "71389.0", "v": "1.20407"},
        },
        [
            (
                Ohlcv,
                {
                    "open_price": 71400,
                    "high_price": 71422,
                    "low_price": 71389,
                    "close_price": 71411,
                    "volume": 1.20407,
                },
            )
        ],
    ),
    Documented(
        "dydx",
        DYDX,
        dydx(
            "v4_trades",
            "BTC-USD",
            {
                "trades": [
                    {"id": "02b6148d0000000200000005", "side": "BUY", "size": "0.024", "price": "114581"}
                    | {
                        "type": "LIMIT",
                        "createdAt": "2025-08-04T00:42:07.119Z",
                        "createdAtHeight": "45487245",
                    }
                ]
            },
        ),
        [(Trade, {"trade_price": 114581, "size": 0.024, "side": "buy"})],
    ),
    Documented(
        "dydx",
        DYDX,
        dydx(
            "v4_orderbook",
            "BTC-USD",
            {
                "bids": [{"price": "114623", "size": "0.1112"}],
                "asks": [{"price": "114624", "size": "0.0872"}],
            },
        ),
        [(Book, {"bids": [(114623, 0.1112)]}), (Level1, {"best_ask": 114624, "ask_size": 0.0872})],
    ),
    Documented(
        "dydx",
        DYDX,
        dydx(
            "v4_candles",
            "BTC-USD/1MIN",
            {"startedAt": "2025-08-05T03:40:00.000Z", "ticker": "BTC-USD", "resolution": "1MIN", "trades": 9}
            | {"low": "114249", "high": "114262", "open": "114256", "close": "114261"}
            | {"baseTokenVolume": "0.4753", "usdVolume": "54304.6873", "startingOpenInterest": "501.7424"},
            "channel_data",
        ),
        [(Ohlcv, {"open_price": 114256, "close_price": 114261, "volume": 0.4753})],
    ),
    Documented(
        "phemex",
        BTC_PHEMEX,
        {
            "spot_market24h": {"askEp": 958148000000, "bidEp": 957884000000, "highEp": 962000000000}
            | {"lastEp": 958220000000, "lowEp": 928049000000, "openEp": 935597000000, "symbol": "sBTCUSDT"}
            | {"turnoverEv": 146074214388978, "volumeEv": 15492228900},
            "timestamp": 1592847265888272100,
        },
        [(Price, {"usd_price": 9582.2})],
    ),
    Documented(
        "phemex",
        BTC_PHEMEX,
        {
            **{"sequence": 1795484727, "symbol": "sBTCUSDT", "type": "snapshot"},
            "trades": [
                [1592891002064516600, "Buy", 964020000000, 1431000],
                [1592890978987934500, "Sell", 963704000000, 1401800],
            ],
        },
        [
            (Trade, {"trade_price": 9637.04, "size": 0.014018, "side": "sell"}),
            (Trade, {"trade_price": 9640.2, "size": 0.01431, "side": "buy"}),
        ],
    ),
    Documented(
        "phemex",
        PERP_PHEMEX,
        {
            **{"sequence": 1230197759, "symbol": "BTCUSDT", "type": "snapshot"},
            "trades_p": [[1677094244729433000, "Buy", "23800.4", "2.455"]],
        },
        [(Trade, {"trade_price": 23800.4, "size": 2.455, "side": "buy"})],
    ),
    Documented(
        "phemex",
        PERP_PHEMEX,
        {
            **{"sequence": 1230786017, "symbol": "BTCUSDT", "type": "incremental"},
            "kline_p": [
                [
                    1677094560,
                    60,
                    "23746.2",
                    "23746.1",
                    "23757.6",
                    "23736.9",
                    "23754.8",
                    "34.273",
                    "813910.208",
                ]
            ],
        },
        [
            (
                Ohlcv,
                {
                    "open_price": 23746.1,
                    "high_price": 23757.6,
                    "low_price": 23736.9,
                    "close_price": 23754.8,
                    "volume": 34.273,
                },
            )
        ],
    ),
    Documented(
        "phemex",
        BTC_PHEMEX,
        {
            "book": {
                "asks": [[960316000000, 6993800], [960318000000, 13183000]],
                "bids": [[959941000000, 8385300], [959939000000, 10296600]],
            },
            **{"depth": 30, "sequence": 1805784701, "symbol": "sBTCUSDT", "type": "snapshot"},
            "timestamp": 1592908460404461600,
        },
        [(Book, {"depth": 20}), (Level1, {"best_bid": 9599.41, "bid_size": 0.083853, "best_ask": 9603.16})],
    ),
    Documented(
        "phemex",
        PERP_PHEMEX,
        {
            **{"depth": 30, "sequence": 1230347368, "symbol": "BTCUSDT", "type": "snapshot"},
            "orderbook_p": {"asks": [["23788.5", "0.13"]], "bids": [["23787.8", "1.836"]]},
            "timestamp": "1677093457306978852",
        },
        [(Book, {"bids": [(23787.8, 1.836)]}), (Level1, {"best_bid": 23787.8, "ask_size": 0.13})],
    ),
    Documented(
        "htx",
        spot("btcusdt", "BTC", "USDT"),
        {
            **{"ch": "market.btcusdt.bbo", "ts": 1671941599613},
            "tick": {"seqId": 161499562790, "ask": 16829.51, "askSize": 0.707776, "bid": 16829.5}
            | {"bidSize": 1.685945, "quoteTime": 1671941599612, "symbol": "btcusdt"},
        },
        [(Level1, {"best_bid": 16829.5, "best_ask": 16829.51, "bid_size": 1.685945, "ask_size": 0.707776})],
    ),
    Documented(
        "htx",
        spot("btcusdt", "BTC", "USDT"),
        {
            **{"ch": "market.btcusdt.trade.detail", "ts": 1583495834011},
            "tick": {
                **{"id": 105004645372, "ts": 1583495833751},
                "data": [
                    {"id": 1.050046453727319e22, "ts": 1583495833751, "tradeId": 102090727790}
                    | {"amount": 0.003893, "price": 9150.01, "direction": "sell"}
                ],
            },
        },
        [(Trade, {"trade_price": 9150.01, "size": 0.003893, "side": "sell", "trade_id": "102090727790"})],
    ),
    Documented(
        "htx",
        spot("btcusdt", "BTC", "USDT"),
        {
            **{"ch": "market.btcusdt.kline.1min", "ts": 1583501786794},
            "tick": {"id": 1583501760, "open": 9094.5, "close": 9094.51, "low": 9094.5, "high": 9094.51}
            | {"amount": 0.44639786263800907, "vol": 4059.76919054, "count": 16},
        },
        [(Ohlcv, {"open_price": 9094.5, "close_price": 9094.51, "volume": 0.44639786263800907})],
    ),
    Documented(
        "bitget",
        spot("spot.BTCUSDT", "BTC", "USDT"),
        {
            **{"action": "snapshot", "ts": 1701842994341},
            "arg": {"instType": "SPOT", "channel": "ticker", "instId": "BTCUSDT"},
            "data": [
                {"instId": "BTCUSDT", "lastPr": "43528.19", "open24h": "42267.78", "high24h": "44490.00"}
                | {"low24h": "41401.53", "change24h": "0.03879", "bidPr": "43528", "askPr": "43528.01"}
                | {"bidSz": "0.0334", "askSz": "0.1917", "baseVolume": "15002.4216", "ts": "1701842994338"}
            ],
        },
        [(Level1, {"best_bid": 43528, "ask_size": 0.1917}), (Price, {"usd_price": 43528.19})],
    ),
    Documented(
        "bitget",
        spot("spot.BTCUSDT", "BTC", "USDT"),
        {
            **{"action": "snapshot", "ts": 1753230479687},
            "arg": {"instType": "spot", "topic": "ticker", "symbol": "BTCUSDT"},
            "data": [
                {"highPrice24h": "120255.61", "lowPrice24h": "116145.88", "openPrice24h": "118919.38"}
                | {"lastPrice": "119818.83", "turnover24h": "215859996.272276", "volume24h": "1819.756798"}
                | {"bid1Price": "119811.26", "ask1Price": "119831.18", "bid1Size": "0.008732"}
                | {"ask1Size": "0.004297", "price24hPcnt": "0.02002"}
            ],
        },
        [(Level1, {"best_bid": 119811.26, "ask_size": 0.004297}), (Price, {"usd_price": 119818.83})],
    ),
    Documented(
        "bitget",
        spot("spot.BTCUSDT", "BTC", "USDT"),
        {
            **{"action": "snapshot", "ts": 1701901610417},
            "arg": {"instType": "SPOT", "channel": "candle1m", "instId": "BTCUSDT"},
            "data": [["1701871620000", "44080.23", "44080.23", "44028.5", "44028.51", "9.9287", "437404"]],
        },
        [(Ohlcv, {"open_price": 44080.23, "close_price": 44028.51, "volume": 9.9287})],
    ),
    Documented(
        "bitget",
        spot("spot.BTCUSDT", "BTC", "USDT"),
        {
            **{"action": "snapshot", "ts": 1701910980730},
            "arg": {"instType": "SPOT", "channel": "trade", "instId": "BTCUSDT"},
            "data": [
                {"ts": "1701910980366", "price": "43854.01", "size": "0.0535", "side": "buy"}
                | {"tradeId": "1116461060594286593"}
            ],
        },
        [(Trade, {"trade_price": 43854.01, "size": 0.0535, "trade_id": "1116461060594286593"})],
    ),
    Documented(
        "bitget",
        spot("spot.BTCUSDT", "BTC", "USDT"),
        {
            **{"action": "snapshot", "ts": 1701910980730},
            "arg": {"instType": "spot", "topic": "publicTrade", "symbol": "BTCUSDT"},
            "data": [
                {"T": "1756287827920", "P": "110878.5", "v": "0.07", "S": "buy"}
                | {"L": "1344534089797185550", "i": "1344534089797185549"}
            ],
        },
        [(Trade, {"trade_price": 110878.5, "size": 0.07, "side": "buy", "trade_id": "1344534089797185549"})],
    ),
]


@pytest.mark.parametrize("case", FRAMES, ids=lambda case: f"{case.exchange}-{case.messages[0][0].__name__}")
def test_a_documented_frame_gives_its_messages(case: Documented) -> None:
    types = frozenset(kind.__name__.lower() for kind, _ in case.messages)
    parser = adapters()[case.exchange]().parser(InstrumentList([case.instrument]), types)
    parsed = parser.parse(Frame(RECEIVED_NS, msgspec.json.encode(case.frame)))
    assert not [reason for reason in parsed.rejected if reason.is_fault], parsed.detail
    assert {message.symbol for message in parsed.messages} == {case.instrument.symbol}  # type: ignore[attr-defined]
    assert shown(list(parsed.messages), case.messages) == case.messages
