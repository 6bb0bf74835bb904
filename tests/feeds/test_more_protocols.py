"""Exchanges that are read from recordings only, in the forms that their documentation shows."""

from __future__ import annotations

import gzip
from typing import Any

import msgspec
import pytest

from coinstream.feeds import Reason
from coinstream.feeds.parser import Frame
from coinstream.feeds.recordings import exchange_of, identify
from coinstream.messages import Level1, Ohlcv, Price
from tests.feeds.frames import RECEIVED_NS, core_parser, parse, span

AT = "2021-06-24T00:14:27.100Z"
MS = 1624493667100
OKX_TICKER = {
    **{"instId": "BTC-USDT", "last": "10", "askPx": "11", "askSz": "4", "bidPx": "9", "bidSz": "3"},
    **{"open24h": "8", "vol24h": "77", "ts": str(MS)},
}
OKX_OLD = {
    **{"instrument_id": "BTC-USDT", "last": "10", "best_bid": "9", "best_ask": "11", "open_24h": "8"},
    **{"best_bid_size": "3", "best_ask_size": "4", "base_volume_24h": "77", "timestamp": AT},
}
KUCOIN_TICKER = {
    **{"sequence": "1", "price": "10", "size": "1", "bestAsk": "11", "bestAskSize": "4", "bestBid": "9"},
    **{"bestBidSize": "3", "time": MS},
}
HITBTC_TOP = {"t": MS, "a": "11", "A": "4", "b": "9", "B": "3", "c": "10", "o": "8", "v": "77"}
BITMEX_QUOTE = {
    **{"timestamp": AT, "symbol": "XBTUSD", "bidSize": 27, "bidPrice": 9, "askPrice": 11, "askSize": 44}
}
BITMEX_TRADE = {"timestamp": AT, "symbol": "XBTUSD", "price": 10, "size": 1, "side": "Buy"}
DERIBIT = {
    **{"timestamp": MS, "instrument_name": "BTC-PERPETUAL", "best_bid_price": 9, "best_bid_amount": 27},
    **{
        "best_ask_price": 11,
        "best_ask_amount": 44,
        "last_price": 10,
        "stats": {"volume": 77, "price_change": 25},
    },
}
HUOBI_BBO = {
    "seqId": 1,
    "ask": 11,
    "askSize": 4,
    "bid": 9,
    "bidSize": 3,
    "quoteTime": MS,
    "symbol": "btcusdt",
}
CRYPTOCOM = {"i": "BTC_USDT", "b": 9, "bs": 3, "k": 11, "ks": 4, "a": 10, "v": 77, "t": MS}
BOOK = {"bids": [["9", "3"]], "asks": [["11", "4"]]}
DERIBIT_BOOK = {
    **{"type": "snapshot", "timestamp": MS, "instrument_name": "BTC-PERPETUAL", "change_id": 5},
    **{"bids": [["new", 9, 27]], "asks": [["new", 11, 44]]},
}

COIN_M = {"ps": "BTCUSD", "b": "9", "B": "0.27", "a": "11", "A": "0.44", "T": MS}
"""Contracts of 100 dollars: 3 and 4 BTC."""
QUOTES: list[tuple[str, str, list[Any]]] = [
    ("okx", "BTC/USDT", [{"arg": {"channel": "tickers", "instId": "BTC-USDT"}, "data": [OKX_TICKER]}]),
    ("okx", "BTC/USDT", [{"table": "spot/ticker", "data": [OKX_OLD]}]),
    (
        "okx",
        "BTC/USDT",
        [{"arg": {"channel": "bbo-tbt", "instId": "BTC-USDT"}, "data": [BOOK | {"ts": str(MS)}]}],
    ),
    (
        "okcoin",
        "BTC/USDT",
        [{"table": "spot/depth5", "data": [BOOK | {"instrument_id": "BTC-USDT", "timestamp": AT}]}],
    ),
    ("kucoin", "BTC/USDT", [{"type": "message", "topic": "/market/ticker:BTC-USDT", "data": KUCOIN_TICKER}]),
    ("hitbtc", "BTC/USDT", [{"ch": "ticker/1s", "data": {"BTCUSDT": HITBTC_TOP}}]),
    (
        "hitbtc",
        "BTC/USD",
        [
            {
                "method": "snapshotOrderbook",
                "params": {
                    **{"ask": [{"price": "11", "size": "4"}], "bid": [{"price": "9", "size": "3"}]},
                    **{"symbol": "BTCUSD", "sequence": 7, "timestamp": AT},
                },
            }
        ],
    ),
    (
        "bitfinex",
        "DUSK/USDT",
        [
            {"event": "subscribed", "channel": "book", "chanId": 3, "symbol": "tDUSK:UST", "prec": "P0"},
            [3, [[9, 1, 3], [8, 1, 3], [11, 2, -4]]],
        ],
    ),
    ("bitmex", "BTC/USD:BTC", [{"table": "quote", "action": "insert", "data": [BITMEX_QUOTE]}]),
    (
        "deribit",
        "BTC/USD:BTC",
        [{"method": "subscription", "params": {"channel": "ticker.BTC-PERPETUAL.raw", "data": DERIBIT}}],
    ),
    (
        "deribit",
        "BTC/USD:BTC",
        [{"method": "subscription", "params": {"channel": "book.BTC-PERPETUAL.raw", "data": DERIBIT_BOOK}}],
    ),
    ("htx", "BTC/USDT", [{"ch": "market.btcusdt.bbo", "ts": MS, "tick": HUOBI_BBO}]),
    (
        "htx",
        "BTC/USD:BTC",
        [{"ch": "market.BTC-USD.bbo", "ts": MS, "tick": {"bid": [9, 0.27], "ask": [11, 0.44], "mrid": 1}}],
    ),
    ("htx", "BTC/USDT", [{"ch": "market.btcusdt.depth.step0", "ts": MS, "tick": BOOK}]),
    (
        "cryptocom",
        "BTC/USDT",
        [{"method": "subscribe", "result": {"channel": "ticker", "data": [CRYPTOCOM]}}],
    ),
    (
        "binancecoinm",
        "BTC/USD:BTC",
        [{"e": "bookTicker", "u": 1, "s": "BTCUSD_PERP", **COIN_M}],
    ),
    (
        "binancecoinm",
        "BTC/USD:BTC-240628",
        [{"e": "bookTicker", "u": 1, "s": "BTCUSD_240628", **COIN_M}],
    ),
]


@pytest.mark.parametrize(("exchange", "symbol", "frames"), QUOTES)
def test_a_quote(exchange: str, symbol: str, frames: list[Any]) -> None:
    parser = core_parser(exchange)
    *_, last = (parse(parser, frame) for frame in frames)
    quote = last.messages[0]
    assert isinstance(quote, Level1)
    assert (quote.exchange_id, quote.symbol) == (exchange, symbol)
    assert (quote.best_bid, quote.best_ask) == (9, 11)
    assert (quote.bid_size, quote.ask_size) == pytest.approx((3, 4))
    assert not any(reason.is_fault for reason in last.rejected)
    # The same again is no news.
    again = parse(parser, frames[-1])
    assert not [message for message in again.messages if isinstance(message, Level1)]


OKX_TRADE = {"instId": "BTC-USDT", "tradeId": "5", "px": "10", "sz": "1", "side": "buy", "ts": str(MS)}
PRICES: list[tuple[str, list[Any]]] = [
    ("okx", [{"arg": {"channel": "tickers", "instId": "BTC-USDT"}, "data": [OKX_TICKER]}]),
    ("okx", [{"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [OKX_TRADE]}]),
    ("kucoin", [{"type": "message", "topic": "/market/ticker:BTC-USDT", "data": KUCOIN_TICKER}]),
    (
        "kucoin",
        [
            {
                **{"type": "message", "topic": "/market/match:BTC-USDT"},
                "data": {
                    **{"sequence": "5", "price": "10", "size": "1", "side": "buy"},
                    "time": str(MS * 1_000_000),
                },
            }
        ],
    ),
    (
        "hitbtc",
        [{"method": "ticker", "params": {"symbol": "BTCUSD", "last": "10", "open": "8", "timestamp": AT}}],
    ),
    (
        "hitbtc",
        [
            {
                "method": "updateTrades",
                "params": {
                    "symbol": "BTCUSD",
                    "data": [{"id": 5, "price": "10", "quantity": "1", "timestamp": AT}],
                },
            }
        ],
    ),
    (
        "bitfinex",
        [
            {"event": "subscribed", "channel": "trades", "chanId": 2, "symbol": "tBTCUSD"},
            [2, "te", [5, MS, -0.1, 10]],
        ],
    ),
    ("bitmex", [{"table": "trade", "data": [BITMEX_TRADE]}]),
    ("bitmex", [{"table": "instrument", "data": [{"symbol": "XBTUSD", "lastPrice": 10, "timestamp": AT}]}]),
    (
        "deribit",
        [
            {
                "method": "subscription",
                "params": {
                    "channel": "trades.BTC-PERPETUAL.raw",
                    "data": [
                        {
                            **{"instrument_name": "BTC-PERPETUAL", "trade_seq": 5, "price": 10},
                            **{"timestamp": MS, "amount": 1, "direction": "buy"},
                        }
                    ],
                },
            }
        ],
    ),
    (
        "htx",
        [
            {
                **{"ch": "market.btcusdt.trade.detail", "ts": MS},
                "tick": {"data": [{"tradeId": 5, "price": 10, "amount": 1, "direction": "buy", "ts": MS}]},
            }
        ],
    ),
]


@pytest.mark.parametrize(("exchange", "frames"), PRICES)
def test_a_price(exchange: str, frames: list[Any]) -> None:
    parser = core_parser(exchange)
    *_, last = (parse(parser, frame) for frame in frames)
    price = last.messages[-1]
    assert isinstance(price, Price)
    assert (price.usd_price, price.last_updated.isoformat()[:19]) == (10, "2021-06-24T00:14:27")


CANDLES: list[tuple[str, list[Any]]] = [
    (
        "okx",
        [
            {
                "arg": {"channel": "candle1H", "instId": "BTC-USDT"},
                "data": [["1624492800000", "1", "4", "1", "3", "7", "0", "0", "0"]],
            }
        ],
    ),
    (
        "kucoin",
        [
            {
                **{"type": "message", "topic": "/market/candles:BTC-USDT_1hour"},
                "data": {"candles": ["1624492800", "1", "3", "4", "1", "7", "0"], "time": MS},
            }
        ],
    ),
    (
        "hitbtc",
        [
            {
                "method": "updateCandles",
                "params": {
                    "symbol": "BTCUSDT",
                    "period": "H1",
                    "data": [
                        {
                            **{"timestamp": "2021-06-24T00:00:00.000Z", "open": "1", "close": "3"},
                            **{"min": "1", "max": "4", "volume": "7"},
                        }
                    ],
                },
            }
        ],
    ),
    (
        "bitfinex",
        [
            {"event": "subscribed", "channel": "candles", "chanId": 9, "key": "trade:1h:tBTCUST"},
            [9, [1624492800000, 1, 3, 4, 1, 7]],
        ],
    ),
    (
        "htx",
        [
            {
                **{"ch": "market.btcusdt.kline.60min", "ts": MS},
                "tick": {"id": 1624492800, "open": 1, "close": 3, "low": 1, "high": 4, "amount": 7},
            }
        ],
    ),
]


@pytest.mark.parametrize(("exchange", "frames"), CANDLES)
def test_a_candle(exchange: str, frames: list[Any]) -> None:
    parser = core_parser(exchange)
    *_, last = (parse(parser, frame) for frame in frames)
    (candle,) = last.messages
    assert isinstance(candle, Ohlcv)
    assert (candle.symbol, candle.timeframe) == ("BTC/USDT", "1h")
    assert (candle.open_time.isoformat(), candle.close_time.hour) == ("2021-06-24T00:00:00+00:00", 1)
    prices = (candle.open_price, candle.high_price, candle.low_price, candle.close_price, candle.volume)
    assert prices == (1, 4, 1, 3, 7)


def test_holes_in_numbered_books_are_told() -> None:
    okx = core_parser("okx")
    frame = {"arg": {"channel": "books", "instId": "BTC-USDT"}, "action": "snapshot"}
    parse(okx, frame | {"data": [BOOK | {"ts": str(MS), "seqId": 10, "prevSeqId": -1}]})
    update = frame | {"action": "update", "data": [BOOK | {"ts": str(MS), "seqId": 15, "prevSeqId": 12}]}
    assert span(parse(okx, update).gap) == ("BTC/USDT", 11, 12)
    deribit = core_parser("deribit")
    book = {"method": "subscription", "params": {"channel": "book.BTC-PERPETUAL.raw", "data": DERIBIT_BOOK}}
    parse(deribit, book)
    later = DERIBIT_BOOK | {"type": "change", "prev_change_id": 8, "change_id": 9}
    book["params"] = {"channel": "book.BTC-PERPETUAL.raw", "data": later}
    assert span(parse(deribit, book).gap) == ("BTC/USD:BTC", 6, 8)
    hitbtc = core_parser("hitbtc")
    full = {"t": MS, "s": 5, "a": [["11", "4"]], "b": [["9", "3"]]}
    parse(hitbtc, {"ch": "orderbook/full", "snapshot": {"BTCUSDT": full}})
    gap = parse(hitbtc, {"ch": "orderbook/full", "update": {"BTCUSDT": full | {"s": 7}}}).gap
    assert span(gap) == ("BTC/USDT", 6, 6)


CONTROL: list[tuple[str, Any, Reason]] = [
    ("okx", b"pong", Reason.HEARTBEAT),
    ("okx", {"event": "subscribe", "arg": {}}, Reason.ACKNOWLEDGED),
    ("okx", {"event": "error", "msg": "no"}, Reason.REFUSED),
    ("kucoin", {"id": "1", "type": "welcome"}, Reason.ACKNOWLEDGED),
    ("hitbtc", {"jsonrpc": "2.0", "result": True, "id": 1}, Reason.ACKNOWLEDGED),
    ("hitbtc", {"jsonrpc": "2.0", "error": {"code": 2001}}, Reason.REFUSED),
    ("bitfinex", {"event": "info", "version": 2}, Reason.STATUS),
    ("bitfinex", [7, "hb"], Reason.HEARTBEAT),
    ("bitmex", {"info": "Welcome to the BitMEX Realtime API."}, Reason.STATUS),
    ("bitmex", {"success": True, "subscribe": "quote"}, Reason.ACKNOWLEDGED),
    ("deribit", {"jsonrpc": "2.0", "result": ["book"], "id": 1}, Reason.ACKNOWLEDGED),
    ("htx", {"ping": 1492420473027}, Reason.HEARTBEAT),
    ("htx", gzip.compress(b'{"ping":1492420473027}', mtime=0), Reason.HEARTBEAT),
    ("htx", {"id": "id1", "status": "ok", "subbed": "market.btcusdt.bbo"}, Reason.ACKNOWLEDGED),
    ("cryptocom", {"id": 1, "method": "public/heartbeat", "code": 0}, Reason.HEARTBEAT),
]


@pytest.mark.parametrize(("exchange", "frame", "reason"), CONTROL)
def test_what_is_no_message_has_its_reason(exchange: str, frame: Any, reason: Reason) -> None:
    assert tuple(parse(core_parser(exchange), frame).rejected) == (reason,)


@pytest.mark.parametrize(
    ("url", "exchange"),
    [
        ("wss://ws.okex.com:8443/ws/v5/public", "okx"),
        ("wss://api-pub.bitfinex.com/ws/2", "bitfinex"),
        ("wss://stream.crypto.com/v2/market", "cryptocom"),
        ("wss://dstream.binance.com/stream", "binancecoinm"),
        ("wss://api.huobi.pro/ws", "htx"),
        ("wss://example.com/", None),
    ],
)
def test_an_address_tells_the_exchange(url: str, exchange: str | None) -> None:
    assert exchange_of(url) == exchange


@pytest.mark.parametrize(("exchange", "symbol", "frames"), QUOTES)
def test_the_exchange_is_among_those_that_read_its_frames(
    exchange: str, symbol: str, frames: list[Any]
) -> None:
    assert exchange in identify(Frame(RECEIVED_NS, msgspec.json.encode(frame)) for frame in frames)
