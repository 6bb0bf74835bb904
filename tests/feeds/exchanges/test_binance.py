"""Binance: every segment, by frames, by recordings and by what must not raise."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.feeds import Reason
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.feed_stats import FeedStats
from coinstream.feeds.instrument_lists import packaged
from coinstream.feeds.parser import Frame, Gap, Parser, account_for
from coinstream.feeds.recordings import exchange_of, new_parser
from coinstream.messages import DerivativeTicker, Level1, Message, Ohlcv, Price
from tests.feeds.exchanges.recorded import play, shared
from tests.feeds.frames import RECEIVED_NS, only, parse, span

CORE = frozenset({"level1", "price", "ohlcv"})


def spot() -> Parser:
    return new_parser("binance", types=CORE)


def futures() -> Parser:
    return new_parser("binanceusdm", types=CORE)


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


DEPTH = {"e": "depthUpdate", "E": 1723161255343, "s": "BTCUSDT", "U": 5, "u": 7, "b": [["1", "2"]], "a": []}
ALL = frozenset({"level1", "price", "ohlcv", "trade", "book", "derivativeticker", "liquidation"})


def test_a_spot_quote_takes_the_receipt_time_as_its_own() -> None:
    quote = only(parse(spot(), {"stream": "btcusdt@bookTicker", "data": QUOTE}))
    received = datetime(2024, 8, 8, 23, 54, 14, 87891, tzinfo=UTC)
    assert quote == Level1("binance", "BTC/USDT", 61837.63, 61837.64, 3.78, 1.5, received, received)


def test_a_raw_stream_reads_like_a_combined_one() -> None:
    assert parse(spot(), QUOTE) == parse(spot(), {"stream": "btcusdt@bookTicker", "data": QUOTE})


def test_a_futures_quote_has_the_exchange_time_and_a_settle_currency() -> None:
    quote = only(parse(futures(), QUOTE | {"e": "bookTicker", "T": 1723161256313}))
    assert quote.symbol == "BTC/USDT:USDT"
    assert quote.timestamp == datetime(2024, 8, 8, 23, 54, 16, 313000, tzinfo=UTC)
    assert quote.timestamp > quote.last_updated


def test_a_candle_ends_where_the_next_begins() -> None:
    candle = only(parse(spot(), {"stream": "nknusdt@kline_1m", "data": KLINE}))
    assert isinstance(candle, Ohlcv)
    assert (candle.close_time - candle.open_time).total_seconds() == 60
    assert (candle.symbol, candle.timeframe, candle.high_price) == ("NKN/USDT", "1m", 0.3529)
    assert candle.last_updated == datetime(2021, 10, 12, 0, 28, 43, 963000, tzinfo=UTC)


def test_a_trade_is_a_price_in_dollars_only() -> None:
    assert only(parse(spot(), TRADE)) == Price(
        "binance", "BTC/USDT", 1.5, datetime(2024, 8, 8, 23, 54, 15, 342000, tzinfo=UTC)
    )
    assert parse(spot(), TRADE | {"s": "LRCBTC"}).rejected == (Reason.NOT_DOLLARS,)


def test_trade_numbers_tell_duplicates_and_gaps() -> None:
    parser = spot()
    parse(parser, TRADE)
    assert parse(parser, TRADE).rejected == (Reason.DUPLICATE,)
    assert parse(parser, TRADE | {"t": 11}).gap is None
    jumped = parse(parser, TRADE | {"t": 15})
    assert jumped.messages
    assert span(jumped.gap) == ("BTC/USDT", 12, 14)


def test_the_same_quote_over_two_connections_counts_once() -> None:
    parser = spot()
    assert parse(parser, QUOTE).messages
    assert parse(parser, QUOTE).rejected == (Reason.DUPLICATE,)
    assert parse(parser, QUOTE | {"u": 6}).rejected == (Reason.OUT_OF_DATE,)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"result": None, "id": 1}, Reason.ACKNOWLEDGED),
        (
            {"stream": "btcusdt@depth@100ms", "data": {"e": "depthUpdate", "s": "BTCUSDT", "U": 1, "u": 2}},
            Reason.BAD_VALUE,
        ),
        ({"stream": "btcusdt@depth@100ms", "data": DEPTH}, Reason.BOOK_UNSYNCED),
        ({"stream": "btcusdt@avgPrice", "data": {"e": "avgPrice"}}, Reason.OTHER_CHANNEL),
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
        (b"[" * 100_000, Reason.MALFORMED),
        (b'{"a":' * 100_000, Reason.MALFORMED),
    ],
)
def test_what_is_no_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(spot(), frame).rejected == (reason,)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_raise(payload: bytes) -> None:
    parsed = spot().parse(Frame(RECEIVED_NS, payload))
    assert parsed.rejected or payload.strip() == b"[]"


@pytest.mark.parametrize(
    ("joined", "symbol"),
    [
        *(("ADAEUR", "ADA/EUR"), ("BTCUSDT", "BTC/USDT"), ("BNBUSDT", "BNB/USDT"), ("PAXGBTC", "PAXG/BTC")),
        *(("TUSDBTC", "TUSD/BTC"), ("BUSDUSDT", "BUSD/USDT"), ("USDTBIDR", "USDT/BIDR")),
    ],
)
def test_the_list_of_the_exchange_splits_joined_names(joined: str, symbol: str) -> None:
    assert only(parse(spot(), QUOTE | {"s": joined})).symbol == symbol


def test_a_trade_has_size_side_and_number() -> None:
    parser = new_parser("binance", types=ALL)
    trade, price = parse(parser, TRADE | {"m": True}).messages
    assert (trade.trade_id, trade.size, trade.side) == ("10", 2.0, "sell")  # type: ignore[attr-defined]
    assert isinstance(price, Price)
    (trade,) = parse(parser, TRADE | {"s": "LRCBTC", "m": False}).messages
    assert (trade.symbol, trade.side) == ("LRC/BTC", "buy")  # type: ignore[attr-defined]


def test_single_and_aggregate_trades_of_a_symbol_are_published_once() -> None:
    parser = new_parser("binance", types=frozenset({"trade"}))
    assert parse(parser, TRADE | {"m": True}).messages
    aggregate = TRADE | {"e": "aggTrade", "a": 3, "m": True}
    assert parse(parser, aggregate).rejected == (Reason.NOT_WANTED,)


def test_sizes_of_coin_margined_contracts_are_in_the_base_currency() -> None:
    parser = new_parser("binancecoinm", types=ALL)
    quote = {
        "u": 1,
        "e": "bookTicker",
        "s": "BTCUSD_PERP",
        "ps": "BTCUSD",
        "b": "50000",
        "B": "10",
        "a": "50000.5",
    }
    made = only(parse(parser, quote | {"A": "20", "T": 1622505600000, "E": 1622505600005}))
    assert (made.symbol, made.bid_size) == ("BTC/USD:BTC", 10 * 100 / 50000)
    assert made.ask_size == pytest.approx(20 * 100 / 50000.5)
    candle = KLINE | {"s": "BTCUSD_PERP"}
    candle["k"] = KLINE["k"] | {"v": "500", "q": "1.25"}  # type: ignore[operator]
    assert only(parse(parser, candle)).volume == 1.25


def test_a_book_follows_its_snapshot_and_shows_a_gap() -> None:
    parser = new_parser("binance", types=frozenset({"book"}))
    snapshot = {"lastUpdateId": 5, "bids": [["1", "1"], ["0.9", "3"]], "asks": [["2", "1"]]}
    assert parse(parser, DEPTH).rejected == (Reason.BOOK_UNSYNCED,)
    url = "https://api.binance.com/api/v3/depth?symbol=BTCUSDT&limit=1000"
    (book,) = parse(parser, snapshot, url=url).messages
    assert book.bids == [(1.0, 2.0), (0.9, 3.0)]  # type: ignore[attr-defined]
    assert book.sequence == 7  # type: ignore[attr-defined]
    later = RECEIVED_NS + 200_000_000
    (book,) = parse(parser, DEPTH | {"U": 8, "u": 9, "b": [["1", "0"]]}, later).messages
    assert book.bids == [(0.9, 3.0)]  # type: ignore[attr-defined]
    assert span(parse(parser, DEPTH | {"U": 12, "u": 13}, later).gap) == ("BTC/USDT", 10, 11)


def test_a_futures_book_follows_the_number_before() -> None:
    parser = new_parser("binanceusdm", types=frozenset({"book"}))
    snapshot = {"lastUpdateId": 6, "bids": [["1", "1"]], "asks": [["2", "1"]]}
    assert parse(parser, snapshot, url="https://fapi.binance.com/fapi/v1/depth?symbol=BTCUSDT").messages
    later = RECEIVED_NS + 200_000_000
    assert parse(parser, DEPTH | {"pu": 4}, later).messages
    assert parse(parser, DEPTH | {"U": 9, "u": 20, "pu": 7}, 2 * later).messages
    assert span(parse(parser, DEPTH | {"U": 30, "u": 31, "pu": 25}, later).gap) == ("BTC/USDT:USDT", 21, 25)


def test_mark_price_funding_and_index_are_merged() -> None:
    parser = new_parser("binanceusdm", types=ALL)
    told = {
        "e": "markPriceUpdate",
        "E": 1597536008000,
        "s": "BTCUSDT",
        "p": "11857.56",
        "i": "11851.86949091",
    }
    made = only(parse(parser, told | {"r": "0.0001564", "T": 1597564800000}))
    assert (made.symbol, made.mark_price, made.funding_rate) == ("BTC/USDT:USDT", 11857.56, 0.0001564)
    assert made.next_funding_time == datetime(2020, 8, 16, 8, tzinfo=UTC)


def test_a_forced_order_is_a_liquidation() -> None:
    order = {
        "s": "BTCUSD_200925",
        "ps": "BTCUSD",
        "S": "SELL",
        "o": "LIMIT",
        "f": "IOC",
        "q": "3",
        "p": "9314.5",
    }
    more = {"ap": "9352.7", "X": "FILLED", "l": "3", "z": "3", "T": 1594622954021}
    frame = {"e": "forceOrder", "E": 1594622954023, "o": order | more}
    made = only(parse(new_parser("binancecoinm", types=ALL), frame))
    assert (made.symbol, made.side, made.liquidation_price) == ("BTC/USD:BTC-200925", "sell", 9352.7)
    assert made.size == pytest.approx(3 * 100 / 9352.7)


def test_all_market_streams_are_read_entry_by_entry() -> None:
    good = {"e": "24hrMiniTicker", "E": 1723161255343, "s": "BTCUSDT", "c": "2", "o": "1", "v": "3"}
    rows = [good, good | {"s": "NOSUCHNAME"}, good | {"s": "ETHUSDT"}, good | {"s": "ADAUSDT", "c": "x"}]
    parsed = parse(spot(), {"stream": "!miniTicker@arr", "data": rows})
    assert [message.symbol for message in parsed.messages] == ["BTC/USDT", "ETH/USDT"]  # type: ignore[attr-defined]
    assert parsed.rejected == (Reason.UNKNOWN_SYMBOL, Reason.BAD_VALUE)
    assert parse(spot(), rows).messages == parsed.messages


def test_an_option_is_named_by_its_parts() -> None:
    frame = {
        "e": "bookTicker",
        "u": 1,
        "s": "ETH-251218-3100-C",
        "b": "5.8",
        "B": "38.47",
        "a": "6.4",
        "A": "96",
    }
    quote = only(parse(new_parser("binanceoptions"), frame | {"T": 1765983419927, "E": 1765983419927}))
    assert quote.symbol == "ETH/USDT:USDT-251218-3100-C"


@pytest.mark.parametrize(
    ("url", "exchange"),
    [
        ("wss://stream.binance.com:9443/stream?streams=btcusdt@trade", "binance"),
        ("wss://stream.binance.us:9443/ws", "binanceus"),
        ("wss://stream-cloud.trbinance.com/stream", "binancetr"),
        ("wss://fstream.binance.com/stream", "binanceusdm"),
        ("wss://dstream.binance.com/stream", "binancecoinm"),
        ("wss://nbstream.binance.com/eoptions/stream", "binanceoptions"),
    ],
)
def test_the_address_tells_the_segment(url: str, exchange: str) -> None:
    assert exchange_of(url) == exchange


good_quotes = st.builds(
    lambda u, s, bid, ask: {"u": u, "s": s, "b": bid, "B": "1", "a": ask, "A": "2"},
    st.integers(0, 20),
    st.sampled_from(["BTCUSDT", "ETHUSDT", "NOSUCH", ""]),
    st.sampled_from(["1", "2", "0", "", "x", "1e400"]),
    st.sampled_from(["1", "3", "0", "-1"]),
)
any_frame = st.one_of(
    good_quotes.map(msgspec.json.encode),
    good_quotes.map(lambda quote: msgspec.json.encode({"e": "bookTicker", "T": 1723161255343} | quote)),
    st.just(msgspec.json.encode(TRADE)),
    st.binary(max_size=30).map(lambda noise: b'{"u":' + noise),
)


@pytest.mark.parametrize("exchange", ["binance", "binanceusdm", "binancecoinm"])
@given(st.lists(any_frame, max_size=12))
def test_a_batch_gives_what_its_frames_give_one_by_one(exchange: str, payloads: list[bytes]) -> None:
    batch_stats, single_stats = FeedStats(), FeedStats()
    batch = new_parser(exchange).parse_many(payloads, RECEIVED_NS, batch_stats)  # type: ignore[attr-defined]
    parser, messages, gaps = new_parser(exchange), list[Message](), list[Gap]()
    for payload in payloads:
        frame = Frame(RECEIVED_NS, payload)
        parsed = parser.parse(frame)
        account_for(parsed, frame, exchange, single_stats)
        messages += parsed.messages
        gaps += [parsed.gap] if parsed.gap is not None else []
    assert (batch.messages, batch.gaps) == (messages, gaps)
    assert batch_stats == single_stats


SESSIONS = {
    "binance": "BINANCE.ws.1.0.gz",
    "binanceus": "BINANCE_US.ws.1.0.gz",
    "binancetr": "BINANCE_TR.ws.1.0.head.gz",
    "binanceusdm": "BINANCE_FUTURES.ws.1.0.head.gz",
    "binancecoinm": "BINANCE_DELIVERY.ws.1.0.head.gz",
}


@pytest.mark.parametrize(("exchange", "name"), SESSIONS.items())
def test_a_recorded_session_has_no_fault(exchange: str, name: str) -> None:
    adapter = adapters()[exchange]()
    play(adapter, shared(name), packaged(exchange)).check()


def test_mark_prices_of_options_are_derivative_tickers() -> None:
    parser = new_parser("binanceoptions")
    row = {"s": "BTC-251219-89000-C", "mp": "1450.5", "E": 1765983421000, "e": "markPrice", "i": "104334.6"}
    (found,) = parse(parser, {"stream": "btcusdt@optionMarkPrice", "data": [row]}).messages
    assert isinstance(found, DerivativeTicker)
    assert (found.symbol, found.mark_price, found.index_price) == (
        "BTC/USDT:USDT-251219-89000-C",
        1450.5,
        104334.6,
    )
