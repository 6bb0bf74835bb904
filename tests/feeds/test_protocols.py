"""Each exchange's frames, in the forms that its documentation shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.feeds import FeedStats, Reason
from coinstream.feeds.feed_stats import Anomaly
from coinstream.feeds.parser import Frame, account_for
from coinstream.feeds.recordings import PARSERS
from coinstream.messages import Analytics, Level1, Ohlcv, Price
from tests.feeds.frames import RECEIVED_NS, core_parser, only, parse, span

RECEIVED = datetime(2024, 8, 8, 23, 54, 14, 87891, tzinfo=UTC)


def top(message: Any) -> tuple[float, float, float, float]:
    assert isinstance(message, Level1), message
    return message.best_bid, message.best_ask, message.bid_size, message.ask_size


TICKER1: dict[str, Any] = {
    "a": ["13.2539", 35, "35.7"],
    "b": ["13.2329", 185, "185.2"],
    "c": ["13.25", "3.7"],
    "v": ["1", "72035.05"],
    "o": ["13.8", "12.5"],
}


class TestKraken:
    def test_a_v1_ticker_is_a_quote_and_a_price(self) -> None:
        quote, price = parse(core_parser("kraken"), [1668, TICKER1, "ticker", "XBT/USD"]).messages
        assert quote == Level1("kraken", "BTC/USD", 13.2329, 13.2539, 185.2, 35.7, RECEIVED, RECEIVED)
        assert isinstance(price, Price)
        assert price.price_change_24h == pytest.approx(6.0)
        assert price == Price("kraken", "BTC/USD", 13.25, RECEIVED, 72035.05, price.price_change_24h)

    def test_a_v1_book_is_a_snapshot_and_updates_also_of_both_sides_at_once(self) -> None:
        parser = core_parser("kraken")
        book = {"as": [["2.0", "1", "1.1"]], "bs": [["1.0", "5", "1.1"]]}
        update = {"b": [["1.5", "2", "1.2", "r"]]}
        assert parse(parser, [1, update, "book-10", "ETH/USD"]).rejected == (Reason.BOOK_UNSYNCED,)
        assert top(only(parse(parser, [1, book, "book-10", "ETH/USD"]))) == (1, 2, 5, 1)
        assert top(only(parse(parser, [1, update, "book-10", "ETH/USD"]))) == (1.5, 2, 2, 1)
        both = [
            1,
            {"a": [["1.9", "3", "1.3"]]},
            {"b": [["1.5", "0.0", "1.3"]]},
            "book-10",
            "ETH/USD",
        ]
        assert top(only(parse(parser, both))) == (1, 1.9, 5, 3)
        assert parse(parser, [1, {"a": []}, "book-10", "ETH/USD"]).rejected == (Reason.TOP_UNCHANGED,)

    def test_v1_trades_candles_and_spreads(self) -> None:
        trades = [
            ["5541.2", "0.1", "1534614057.32", "s", "l", ""],
            ["6060", "0.02", "1534614057.33", "b", "l", ""],
        ]
        parsed = parse(core_parser("kraken"), [0, trades, "trade", "XBT/USD"])
        assert [message.usd_price for message in parsed.messages] == [5541.2, 6060]  # type: ignore[attr-defined]
        candle = ["1542057314.7", "1542057360.0", "1", "3", "0.5", "2", "1.5", "7.5", 14]
        ohlcv = only(parse(core_parser("kraken"), [42, candle, "ohlc-5", "XBT/USD"]))
        assert (ohlcv.timeframe, ohlcv.close_time - ohlcv.open_time) == ("5m", timedelta(minutes=5))
        spread = ["5698.4", "5700", "1542057299.5", "1.01", "0.98"]
        assert top(only(parse(core_parser("kraken"), [0, spread, "spread", "XBT/USD"]))) == (
            5698.4,
            5700,
            1.01,
            0.98,
        )

    def test_a_v2_delta_keeps_what_it_does_not_tell(self) -> None:
        parser = core_parser("kraken")
        full = {"symbol": "ALGO/USD", "bid": 0.1, "bid_qty": 7, "ask": 0.2, "ask_qty": 4, "last": 0.15}
        parse(parser, {"channel": "ticker", "type": "snapshot", "data": [full | {"volume": 9.0}]})
        delta = {"symbol": "ALGO/USD", "bid": 0.11, "timestamp": "2023-09-25T09:04:31.742648Z"}
        quote = only(parse(parser, {"channel": "ticker", "type": "update", "data": [delta]}))
        assert top(quote) == (0.11, 0.2, 7, 4)
        assert quote.timestamp == datetime(2023, 9, 25, 9, 4, 31, 742648, tzinfo=UTC)

    def test_v2_books_trades_and_candles(self) -> None:
        parser = core_parser("kraken")
        book = {"symbol": "BTC/USD", "bids": [{"price": 1, "qty": 2}], "asks": [{"price": 3e0, "qty": 4}]}
        assert top(only(parse(parser, {"channel": "book", "type": "snapshot", "data": [book]}))) == (
            1,
            3,
            2,
            4,
        )
        change = {"symbol": "BTC/USD", "bids": [{"price": 2, "qty": 1}], "asks": []}
        assert top(only(parse(parser, {"channel": "book", "type": "update", "data": [change]}))) == (
            2,
            3,
            1,
            4,
        )
        trade = {"symbol": "BTC/USD", "price": 5, "timestamp": "2023-09-25T07:49:37Z", "trade_id": 10}
        parse(parser, {"channel": "trade", "type": "update", "data": [trade]})
        jumped = parse(parser, {"channel": "trade", "type": "update", "data": [trade | {"trade_id": 13}]})
        assert span(jumped.gap) == ("BTC/USD", 11, 12)
        candle = {
            "symbol": "BTC/USD",
            "open": 1,
            "high": 2,
            "low": 1,
            "close": 2,
            "volume": 3,
            "interval": 60,
        }
        candle["interval_begin"] = "2023-10-04T16:00:00Z"
        ohlcv = only(parse(parser, {"channel": "ohlc", "type": "update", "data": [candle]}))
        assert (ohlcv.timeframe, ohlcv.close_time.hour) == ("1h", 17)


class TestCoinbase:
    TICKER: ClassVar[dict[str, Any]] = {
        **{"type": "ticker", "sequence": 10, "product_id": "BTC-USD", "price": "100", "open_24h": "80"},
        **{"volume_24h": "5", "best_bid": "99", "best_ask": "101", "time": "2022-10-19T23:28:22.061769Z"},
    }

    def test_a_ticker_with_sizes_is_a_quote_and_a_price_one_without_only_a_price(self) -> None:
        sized = self.TICKER | {"best_bid_size": "1", "best_ask_size": "2"}
        quote, price = parse(core_parser("coinbase"), sized).messages
        assert top(quote) == (99, 101, 1, 2)
        assert (price.usd_price, price.price_change_24h) == (100, 25)  # type: ignore[attr-defined]
        parsed = parse(core_parser("coinbase"), self.TICKER)
        assert (len(parsed.messages), parsed.rejected) == (1, (Reason.NO_SIZES,))

    def test_the_same_ticker_over_two_connections_counts_once(self) -> None:
        parser = core_parser("coinbase")
        parse(parser, self.TICKER)
        assert parse(parser, self.TICKER).rejected == (Reason.DUPLICATE,)
        assert parse(parser, self.TICKER | {"sequence": 9}).rejected == (Reason.OUT_OF_DATE,)

    def test_a_book_is_a_snapshot_and_updates(self) -> None:
        parser = core_parser("coinbase")
        update = {"type": "l2update", "product_id": "BTC-USD", "changes": [["sell", "9.5", "7"]]}
        assert parse(parser, update).rejected == (Reason.BOOK_UNSYNCED,)
        snapshot = {"type": "snapshot", "product_id": "BTC-USD", "bids": [["9", "1"]], "asks": [["10", "2"]]}
        assert top(only(parse(parser, snapshot))) == (9, 10, 1, 2)
        assert top(only(parse(parser, update))) == (9, 9.5, 1, 7)
        gone = update | {"changes": [["sell", "9.5", "0.00"]], "time": "2022-08-04T15:25:05.010758Z"}
        assert top(only(parse(parser, gone))) == (9, 10, 1, 2)

    def test_a_hole_in_the_advanced_feed_unsyncs_all_its_books(self) -> None:
        parser = core_parser("coinbase")
        level = {"side": "bid", "event_time": "1970-01-01T00:00:00Z", "price_level": "1", "new_quantity": "2"}
        ask = level | {"side": "offer", "price_level": "3"}
        frame = {"channel": "l2_data", "timestamp": "2023-02-09T20:32:50.714964855Z", "sequence_num": 0}
        event = {"type": "snapshot", "product_id": "BTC-USD", "updates": [level, ask]}
        assert top(only(parse(parser, frame | {"events": [event]}))) == (1, 3, 2, 2)
        later = frame | {"sequence_num": 3, "events": [event | {"type": "update"}]}
        parsed = parse(parser, later)
        assert (span(parsed.gap), parsed.rejected) == (("", 1, 2), (Reason.BOOK_UNSYNCED,))

    def test_an_advanced_ticker(self) -> None:
        ticker = {"type": "ticker", "product_id": "BTC-USD", "price": "21932.98", "volume_24_h": "16038.2"}
        ticker |= {"price_percent_chg_24_h": "-4.2", "best_bid": "21931.9", "best_bid_quantity": "8000.2"}
        ticker |= {"best_ask": "21933.1", "best_ask_quantity": "8038.0"}
        frame = {"channel": "ticker", "timestamp": "2023-02-09T20:30:37.167359596Z", "sequence_num": 0}
        quote, price = parse(core_parser("coinbase"), frame | {"events": [{"tickers": [ticker]}]}).messages
        assert top(quote) == (21931.9, 21933.1, 8000.2, 8038.0)
        assert price.price_change_24h == -4.2  # type: ignore[attr-defined]


class TestBitstamp:
    CHANGE: ClassVar[dict[str, Any]] = {
        "timestamp": "1",
        "microtimestamp": "1641343691244908",
        "bids": [],
        "asks": [],
    }

    def test_changes_wait_for_the_book_that_rest_gives(self) -> None:
        parser = core_parser("bitstamp")
        change = self.CHANGE | {"bids": [["1.5", "2"]]}
        frame = {"event": "data", "channel": "diff_order_book_btcusd", "data": change}
        assert parse(parser, frame).rejected == (Reason.BOOK_UNSYNCED,)
        rest = {
            "timestamp": "1",
            "microtimestamp": "1641343691244900",
            "bids": [["1", "1"]],
            "asks": [["2", "1"]],
        }
        url = "https://www.bitstamp.net/api/v2/order_book/btcusd/"
        quote = only(parse(parser, rest, url=url))
        assert (quote.symbol, top(quote)) == ("BTC/USD", (1.5, 2, 2, 1))

    def test_a_whole_book_needs_no_snapshot(self) -> None:
        book = self.CHANGE | {"bids": [["1", "1"]], "asks": [["2", "3"]]}
        frame = {"event": "data", "channel": "order_book_ethusd", "data": book}
        assert top(only(parse(core_parser("bitstamp"), frame))) == (1, 2, 1, 3)


class TestGate:
    UPDATE: ClassVar[dict[str, Any]] = {"t": 1606294781123, "s": "BTC_USDT", "b": [["1.5", "2"]], "a": []}

    def update(self, first: int, last: int) -> dict[str, Any]:
        result = self.UPDATE | {"U": first, "u": last}
        return {"channel": "spot.order_book_update", "event": "update", "result": result}

    def test_a_hole_is_told_and_only_that_symbol_waits(self) -> None:
        parser = core_parser("gate")
        rest = {"id": 10, "current": 1606294781000, "bids": [["1", "1"]], "asks": [["2", "1"]]}
        url = "https://api.gateio.ws/api/v4/spot/order_book?currency_pair=BTC_USDT&with_id=true"
        assert parse(parser, self.update(9, 9)).rejected == (Reason.BOOK_UNSYNCED,)
        assert top(only(parse(parser, rest, url=url))) == (1, 2, 1, 1)
        assert top(only(parse(parser, self.update(10, 11)))) == (1.5, 2, 2, 1)
        holed = parse(parser, self.update(14, 15))
        assert (holed.messages, span(holed.gap)) == ((), ("BTC/USDT", 12, 13))
        ticker = {"t": 1606293275123, "u": 3, "s": "ETH_USDT", "b": "1", "B": "2", "a": "3", "A": "4"}
        frame = {"channel": "spot.book_ticker", "event": "update", "result": ticker}
        assert top(only(parse(parser, frame))) == (1, 3, 2, 4)

    def test_a_candle_of_quote_volume_is_told_in_base(self) -> None:
        candle = {"t": "1606292580", "v": "20", "c": "10", "h": "12", "l": "8", "o": "9", "n": "1m_BTC_USDT"}
        frame = {"channel": "spot.candlesticks", "event": "update", "result": candle}
        assert only(parse(core_parser("gate"), frame)).volume == 2
        assert only(parse(core_parser("gate"), frame | {"result": candle | {"a": "2.5"}})).volume == 2.5


class TestCoingecko:
    URL = "https://api.coingecko.com/api/v3"

    def test_global_data_with_plain_and_e_notation(self) -> None:
        body = (
            b'{"data":{"active_cryptocurrencies":17111,"total_market_cap":{"usd":2.51526835e+12},'
            b'"total_volume":{"usd":198293501804.3288},"market_cap_percentage":{"btc":60.7},"updated_at":1744025333}}'
        )
        message = only(parse(core_parser("coingecko"), body, url=f"{self.URL}/global"))
        assert message == Analytics(
            *("coingecko", 2.51526835e12, 198293501804.3288, 60.7),
            datetime(2025, 4, 7, 11, 28, 53, tzinfo=UTC),
            None,
            17111,
        )

    def test_a_market_teaches_the_symbol_of_its_id(self) -> None:
        parser = core_parser("coingecko")
        market = {
            "id": "pepe",
            "symbol": "pepe",
            "current_price": 1.2e-06,
            "last_updated": "2024-04-07T16:49:31.736Z",
        }
        price = only(
            parse(parser, [market | {"symbol": "pep"}], url=f"{self.URL}/coins/markets?vs_currency=usd")
        )
        assert (price.symbol, price.usd_price) == ("PEP/USD", 1.2e-06)
        simple = only(parse(parser, {"pepe": {"usd": 1.25e-06}}, url=f"{self.URL}/simple/price"))
        assert simple.symbol == "PEP/USD"
        parsed = parse(parser, [market], url=f"{self.URL}/coins/markets?vs_currency=eur")
        assert parsed.rejected == (Reason.NOT_DOLLARS,)

    def test_candles_get_their_length_from_their_distance(self) -> None:
        rows = [[1709395200000, 1, 3, 0.5, 2], [1709409600000, 2, 4, 1, 3]]
        first, _ = parse(core_parser("coingecko"), rows, url=f"{self.URL}/coins/bitcoin/ohlc").messages
        assert isinstance(first, Ohlcv)
        assert (first.symbol, first.timeframe) == ("BTC/USD", "4h")
        assert first.close_time == datetime(2024, 3, 2, 16, 0, tzinfo=UTC)


def test_locked_is_valid_and_flagged_crossed_is_flagged() -> None:
    stats, parser = FeedStats(), core_parser("gemini")
    for number, ask in enumerate(("1", "0.5", "2")):
        changes = [["buy", "1", str(number + 1)], ["sell", ask, "4"]]
        body = {"type": "l2_updates", "symbol": "BTCUSD", "changes": changes, "trades": []}
        account_for(parse(parser, body), Frame(RECEIVED_NS, b""), "gemini", stats)
    assert stats.flags == {Anomaly.LOCKED: 1, Anomaly.CROSSED: 1}
    assert stats.accepted == 3


FRAMES: list[tuple[str, Any, Reason]] = [
    ("kraken", {"event": "heartbeat"}, Reason.HEARTBEAT),
    ("kraken", {"event": "systemStatus", "status": "online"}, Reason.STATUS),
    ("kraken", {"event": "subscriptionStatus", "status": "error", "errorMessage": "no"}, Reason.REFUSED),
    ("kraken", {"method": "subscribe", "success": True, "result": {}}, Reason.ACKNOWLEDGED),
    ("kraken", {"method": "subscribe", "success": False, "error": "Currency pair"}, Reason.REFUSED),
    ("kraken", [1, TICKER1, "ticker", "NOSLASH"], Reason.UNKNOWN_SYMBOL),
    ("kraken", [1, TICKER1, "new", "XBT/USD"], Reason.UNKNOWN),
    ("kraken", [1, {"a": 5}, "ticker", "XBT/USD"], Reason.BAD_VALUE),
    ("kraken", [1], Reason.BAD_VALUE),
    ("coinbase", {"type": "subscriptions", "channels": []}, Reason.ACKNOWLEDGED),
    ("coinbase", {"type": "error", "message": "Failed to subscribe"}, Reason.REFUSED),
    ("coinbase", {"type": "heartbeat"}, Reason.HEARTBEAT),
    ("coinbase", {"type": "done"}, Reason.DEPTH),
    ("coinbase", {"type": "new"}, Reason.UNKNOWN),
    ("bybit", {"success": True, "ret_msg": "", "op": "subscribe"}, Reason.ACKNOWLEDGED),
    ("bybit", {"success": False, "ret_msg": "error:handler not found"}, Reason.REFUSED),
    ("bybit", {"success": True, "ret_msg": "pong", "op": "ping"}, Reason.HEARTBEAT),
    ("bybit", {"topic": "new.BTCUSDT"}, Reason.UNKNOWN),
    ("bitstamp", {"event": "bts:subscription_succeeded", "channel": "x", "data": {}}, Reason.ACKNOWLEDGED),
    ("bitstamp", {"event": "bts:error", "channel": "", "data": {"message": "Bad"}}, Reason.REFUSED),
    ("gate", {"time": 1, "channel": "spot.pong", "event": "", "result": None}, Reason.HEARTBEAT),
    ("gate", {"channel": "spot.tickers", "event": "subscribe", "error": {"code": 2}}, Reason.REFUSED),
    ("gemini", {"type": "heartbeat", "timestamp": 1}, Reason.HEARTBEAT),
    ("gemini", {"result": "error", "reason": "InvalidSymbol"}, Reason.REFUSED),
    ("coingecko", {"status": {"error_code": 429}}, Reason.REFUSED),
]


@pytest.mark.parametrize(("exchange", "frame", "reason"), FRAMES)
def test_what_is_no_message_has_its_reason(exchange: str, frame: Any, reason: Reason) -> None:
    assert tuple(parse(core_parser(exchange), frame).rejected) == (reason,)


@pytest.mark.parametrize("exchange", sorted(PARSERS))
@pytest.mark.parametrize("body", [b"", b"<html>502</html>", b"\xff\xfe", b'{"type":', b"null"])
def test_what_is_no_json_is_a_fault(exchange: str, body: bytes) -> None:
    (reason,) = core_parser(exchange).parse(Frame(RECEIVED_NS, body)).rejected
    assert reason.is_fault


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(sorted(PARSERS)), json_values | st.binary(max_size=80))
def test_nothing_makes_a_parser_raise(exchange: str, value: Any) -> None:
    assert parse(core_parser(exchange), value).rejected


@given(st.floats(width=64) | st.integers() | st.text(max_size=3), st.sampled_from(["T", "E"]))
def test_no_time_makes_a_parser_raise(value: Any, field: str) -> None:
    trade = {"e": "trade", "E": 1, "s": "BTCUSDT", "t": 1, "p": "1", "q": "1", "T": 1} | {field: value}
    parsed = parse(core_parser("binance"), trade)
    assert parsed.messages or parsed.rejected
