from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.feeds import Reason
from coinstream.feeds.parsers import BinanceParser, Frame
from coinstream.messages import Level1, Ohlcv, Price
from tests.feeds.frames import RECEIVED_NS, only, parse

QUOTE = {"u": 7, "s": "BTCUSDT", "b": "61837.63", "B": "3.78", "a": "61837.64", "A": "1.5"}
TRADE = {"e": "trade", "E": 1723161255343, "s": "BTCUSDT", "t": 10, "p": "1.5", "q": "2", "T": 1723161255342}
KLINE = {
    "e": "kline",
    "E": 1633998523963,
    "s": "NKNUSDT",
    "k": {
        **{"t": 1633998480000, "T": 1633998539999, "s": "NKNUSDT", "i": "1m", "n": 30, "x": False},
        **{"o": "0.3527", "c": "0.3528", "h": "0.3529", "l": "0.3522", "v": "25877.0"},
    },
}


def test_a_spot_quote_takes_the_receipt_time_as_its_own() -> None:
    quote = only(parse(BinanceParser(), {"stream": "btcusdt@bookTicker", "data": QUOTE}))
    received = datetime(2024, 8, 8, 23, 54, 14, 87891, tzinfo=UTC)
    assert quote == Level1("binance", "BTC/USDT", 61837.63, 61837.64, 3.78, 1.5, received, received)


def test_a_raw_stream_reads_like_a_combined_one() -> None:
    assert parse(BinanceParser(), QUOTE) == parse(
        BinanceParser(), {"stream": "btcusdt@bookTicker", "data": QUOTE}
    )


def test_a_futures_quote_has_the_exchange_time_and_a_settle_currency() -> None:
    quote = only(parse(BinanceParser("binanceusdm"), QUOTE | {"e": "bookTicker", "T": 1723161256313}))
    assert quote.symbol == "BTC/USDT:USDT"
    assert quote.timestamp == datetime(2024, 8, 8, 23, 54, 16, 313000, tzinfo=UTC)
    assert quote.timestamp > quote.last_updated


def test_a_candle_ends_where_the_next_begins() -> None:
    candle = only(parse(BinanceParser(), {"stream": "nknusdt@kline_1m", "data": KLINE}))
    assert isinstance(candle, Ohlcv)
    assert (candle.close_time - candle.open_time).total_seconds() == 60
    assert (candle.symbol, candle.timeframe, candle.high_price) == ("NKN/USDT", "1m", 0.3529)
    assert candle.last_updated == datetime(2021, 10, 12, 0, 28, 43, 963000, tzinfo=UTC)


def test_a_trade_is_a_price_in_dollars_only() -> None:
    assert only(parse(BinanceParser(), TRADE)) == Price(
        "binance", "BTC/USDT", 1.5, datetime(2024, 8, 8, 23, 54, 15, 342000, tzinfo=UTC)
    )
    assert parse(BinanceParser(), TRADE | {"s": "LRCBTC"}).rejected == (Reason.NOT_DOLLARS,)


def test_trade_numbers_tell_duplicates_and_gaps() -> None:
    parser = BinanceParser()
    parse(parser, TRADE)
    assert parse(parser, TRADE).rejected == (Reason.DUPLICATE,)
    assert parse(parser, TRADE | {"t": 11}).gap is None
    jumped = parse(parser, TRADE | {"t": 15})
    assert jumped.messages
    assert jumped.gap == ("BTC/USDT", 12, 14)


def test_the_same_quote_over_two_connections_counts_once() -> None:
    parser = BinanceParser()
    assert parse(parser, QUOTE).messages
    assert parse(parser, QUOTE).rejected == (Reason.DUPLICATE,)
    assert parse(parser, QUOTE | {"u": 6}).rejected == (Reason.OUT_OF_DATE,)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"result": None, "id": 1}, Reason.ACKNOWLEDGED),
        ({"stream": "btcusdt@depth@100ms", "data": {"e": "depthUpdate"}}, Reason.DEPTH),
        ({"lastUpdateId": 1, "bids": [], "asks": []}, Reason.DEPTH),
        ({"code": -1121, "msg": "Invalid symbol."}, Reason.REFUSED),
        ({"error": {"code": 2, "msg": "Invalid request"}, "id": 1}, Reason.REFUSED),
        (QUOTE | {"b": ""}, Reason.ONE_SIDED),
        (QUOTE | {"a": "0.00000000"}, Reason.ONE_SIDED),
        (TRADE | {"p": "0"}, Reason.NO_PRICE),
        (QUOTE | {"b": "abc"}, Reason.BAD_VALUE),
        (QUOTE | {"b": "-1"}, Reason.BAD_VALUE),
        (QUOTE | {"b": "NaN"}, Reason.BAD_VALUE),
        (QUOTE | {"a": "inf"}, Reason.BAD_VALUE),
        (QUOTE | {"s": "WHATISTHIS"}, Reason.UNKNOWN_SYMBOL),
        ({"e": "somethingNew"}, Reason.UNKNOWN),
        (b'{"stream":"btcusdt@bookTicker","data":{"u":50', Reason.MALFORMED),
        (b"", Reason.MALFORMED),
        (b"<html>502 Bad Gateway</html>", Reason.MALFORMED),
        (b"\xff\xfe\x00", Reason.MALFORMED),
        (b"[]", Reason.BAD_VALUE),
    ],
)
def test_what_is_no_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(BinanceParser(), frame).rejected == (reason,)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_raise(payload: bytes) -> None:
    assert BinanceParser().parse(Frame(RECEIVED_NS, payload)).rejected
