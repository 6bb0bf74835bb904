"""Crypto.com: both generations of its protocol, heartbeats and subscriptions."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.cryptocom import CryptocomAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Frame, Gap, Parser
from coinstream.messages import Book, DerivativeTicker, Level1, Ohlcv, Price, Trade
from tests.feeds.exchanges.recorded import instruments_of, named, parse, subscribed

MS: Final = 1653917168398
V1: Final = {
    "result": {
        "data": [
            {"symbol": "BTCUSD-PERP", "inst_type": "PERPETUAL_SWAP", "base_ccy": "BTC", "quote_ccy": "USD"},
            {"symbol": "BTC_USD", "inst_type": "CCY_PAIR", "base_ccy": "BTC", "quote_ccy": "USD"},
            {
                **{"symbol": "BTCUSD-230630", "inst_type": "FUTURE", "base_ccy": "BTC", "quote_ccy": "USD"},
                **{"expiry_timestamp_ms": 1688112000000, "tradable": True},
            },
        ]
    }
}


def known() -> InstrumentList:
    url = CryptocomAdapter.instruments_urls[0]
    return InstrumentList(CryptocomAdapter().parse_instruments(url, msgspec.json.encode(V1)))


def parser() -> Parser:
    return CryptocomAdapter().parser(known())


def push(channel: str, name: str, *rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    result = {"channel": channel, "instrument_name": name, "data": list(rows), **more}
    return {"id": -1, "code": 0, "method": "subscribe", "result": result}


def test_trades_of_a_frame_are_told_oldest_first_and_none_is_dropped() -> None:
    rows = [
        {"d": 2552833547970376700, "s": "BUY", "p": 0.00737, "q": 6.9, "t": MS + 1, "i": "RSR_USDT"},
        {"d": 2552833531650627600, "s": "SELL", "p": 0.00736, "q": 0.1, "t": MS, "i": "RSR_USDT"},
    ]
    messages = parse(parser(), push("trade", "RSR_USDT", *rows)).messages
    trades = [message for message in messages if isinstance(message, Trade)]
    assert [(trade.trade_id, trade.side, trade.size) for trade in trades] == [
        ("2552833531650627600", "sell", 0.1),
        ("2552833547970376700", "buy", 6.9),
    ]
    assert [price.usd_price for price in messages if isinstance(price, Price)] == [0.00736, 0.00737]


def test_a_ticker_of_version_1_has_sizes_and_a_ratio() -> None:
    row = {
        "a": "4.6",
        "c": "-0.0144",
        "b": "4.5",
        "bs": "25",
        "k": "4.7",
        "ks": "131",
        "t": MS,
        "oi": "55851",
    }
    found = parser()
    quote, price = parse(found, push("ticker", "BTCUSD-PERP", row | {"v": "9"})).messages
    assert isinstance(quote, Level1)
    assert isinstance(price, Price)
    assert (quote.symbol, quote.best_bid, quote.ask_size) == ("BTC/USD:USD", 4.5, 131)
    assert (price.usd_price, price.volume_24h) == (4.6, 9)
    assert price.price_change_24h == pytest.approx(-1.44)
    figures = [parse(found, push(name, "BTCUSD-PERP", {"t": MS, "v": "5"})) for name in ("mark", "funding")]
    figures.append(parse(found, push("index", "BTCUSD-INDEX", {"t": MS, "v": "6"})))
    ticker = figures[-1].messages[0]
    assert isinstance(ticker, DerivativeTicker)
    assert (ticker.mark_price, ticker.index_price, ticker.funding_rate) == (5, 6, 5)
    assert (ticker.last_price, ticker.open_interest) == (4.6, 55851)


def test_a_ticker_of_version_2_has_no_sizes_and_an_amount() -> None:
    row = {"i": "YFI_USDT", "b": 7892.58, "k": 7905.8, "a": 110.0, "t": MS, "v": 16.9967, "c": 10.0}
    parsed = parse(parser(), push("ticker", "YFI_USDT", row))
    (price,) = parsed.messages
    assert isinstance(price, Price)
    assert price.price_change_24h == pytest.approx(10)
    assert parsed.rejected == (Reason.NO_SIZES,)


def test_a_book_is_a_snapshot_and_chained_changes_within_its_depth() -> None:
    found = parser()
    whole = {"bids": [["9", "3", "1"], ["8", "2", "1"]], "asks": [["11", "4", "1"]], "t": MS, "u": 100}
    book, quote = parse(found, push("book", "BTC_USD", whole, depth=2)).messages
    assert isinstance(book, Book)
    assert isinstance(quote, Level1)
    assert (book.bids, book.sequence) == ([(9, 3), (8, 2)], 100)
    update = {"update": {"bids": [["10", "1", "1"]], "asks": []}, "t": MS + 500, "u": 190, "pu": 100}
    assert isinstance(parse(found, push("book.update", "BTC_USD", update)).messages[0], Level1)
    gone = {"update": {"bids": [["10", "0", "0"], ["9", "0", "0"]], "asks": []}, "t": MS + 600}
    parsed = parse(found, push("book.update", "BTC_USD", gone | {"u": 200, "pu": 190}))
    assert parsed.rejected[-1] is Reason.ONE_SIDED, "the level beyond the depth must not come back"
    holed = parse(found, push("book.update", "BTC_USD", gone | {"u": 300, "pu": 290}))
    assert holed.gap == Gap("BTC/USD", 201, 290)


@pytest.mark.parametrize(
    ("interval", "timeframe"), [("1m", "1m"), ("M5", "5m"), ("1D", "1d"), ("7D", "1w"), ("1M", "1M")]
)
def test_candles(interval: str, timeframe: str) -> None:
    row = {"o": "1", "h": "4", "l": "0.5", "c": "3", "v": "7", "t": 1612137600000}
    candle = parse(parser(), push("candlestick", "BTC_USD", row, interval=interval)).messages[0]
    assert isinstance(candle, Ohlcv)
    assert (candle.timeframe, candle.open_price, candle.low_price, candle.close_price) == (
        timeframe,
        1,
        0.5,
        3,
    )


def test_a_heartbeat_is_answered_with_its_id() -> None:
    adapter = CryptocomAdapter()
    beat = Frame(1, b'{"id":1587523073344,"method":"public/heartbeat","code":0}')
    answer = adapter.answer(beat)
    assert answer is not None
    assert msgspec.json.decode(answer) == {"id": 1587523073344, "method": "public/respond-heartbeat"}
    assert adapter.answer(Frame(1, b'{"method":"subscribe"}')) is None
    assert adapter.answer(Frame(1, b"[" * 100_000 + b"public/heartbeat")) is None


def test_names_of_both_instrument_lists() -> None:
    names = {"BTCUSD-PERP": "BTC/USD:USD", "BTC_USD": "BTC/USD", "BTCUSD-230630": "BTC/USD:USD-230630"}
    assert {name: known().get(name).symbol for name in names} == names  # type: ignore[union-attr]
    old = instruments_of(CryptocomAdapter(), "CRYPTO.COM")
    assert old.get("RSR_USDT").symbol == "RSR/USDT"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"id": 1, "method": "public/heartbeat", "code": 0}, Reason.HEARTBEAT),
        ({"id": 1, "method": "subscribe", "code": 0}, Reason.ACKNOWLEDGED),
        ({"id": 1, "method": "subscribe", "code": 40003, "message": "Unknown symbol"}, Reason.REFUSED),
        (push("settlement", "BTCUSD-PERP", {}), Reason.STATUS),
        (push("nosuch", "BTC_USD", {}), Reason.UNKNOWN),
        (push("trade", "nosuch", {"t": 1, "d": 1}), Reason.UNKNOWN_SYMBOL),
        ({"result": 5}, Reason.UNKNOWN),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(parser(), frame).rejected == (reason,)


def test_the_subscription_asks_for_changes_of_books() -> None:
    wanted = named(known(), "BTCUSD-PERP", "BTC_USD")
    types = frozenset({"level1", "trade", "derivativeticker"})
    (request,) = subscribed(CryptocomAdapter().connections(wanted, types))
    assert isinstance(request, dict)
    parameters = request["params"]
    assert parameters["book_subscription_type"] == "SNAPSHOT_AND_UPDATE"
    assert {"book.BTC_USD.50", "trade.BTC_USD", "mark.BTCUSD-PERP", "index.BTCUSD-INDEX"} <= set(
        parameters["channels"]
    )
    assert "mark.BTC_USD" not in parameters["channels"]
