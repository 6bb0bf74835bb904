"""Bitfinex: its recording, numbered frames, checksums, lending and contract status."""

from __future__ import annotations

import zlib
from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.bitfinex import BitfinexAdapter
from coinstream.feeds.exchanges.bitfinex.names import as_javascript
from coinstream.feeds.exchanges.bitfinex.parser import BitfinexParser
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Gap, Parser
from coinstream.feeds.recordings import read_lines
from coinstream.messages import Book, DerivativeTicker, Level1, Liquidation, Ohlcv, Price, Trade
from tests.feeds.exchanges.recorded import (
    EXCERPTS,
    instruments_of,
    named,
    parse,
    play,
    shared,
    subscribed,
)

PAIRS: Final = b'[["BTCUSD","DUSK:USD","BTCUST","IOTETH","UDCUSD","BSVUSD"]]'
PERPETUALS: Final = b'[["BTCF0:USTF0","ETHF0:USTF0"]]'


def known() -> InstrumentList:
    adapter = BitfinexAdapter()
    found = adapter.parse_instruments("https://api-pub.bitfinex.com/v2/conf/pub:list:pair:exchange", PAIRS)
    url = "https://api-pub.bitfinex.com/v2/conf/pub:list:pair:futures"
    return InstrumentList([*found, *adapter.parse_instruments(url, PERPETUALS)])


def announced(channel: str, number: int = 2, **fields: Any) -> Parser:
    parser = BitfinexAdapter().parser(known())
    event = {"event": "subscribed", "channel": channel, "chanId": number} | fields
    assert parse(parser, event).rejected == (Reason.ACKNOWLEDGED,)
    return parser


def test_the_excerpt_parses_without_faults() -> None:
    session = play(BitfinexAdapter(), EXCERPTS / "bitfinex.gz")
    session.check()
    assert {"MANA/BTC", "TESTBTC/TESTUSD"} <= {message.symbol for message in session.of(Level1)}
    assert session.gaps == []


def test_the_whole_recording_matches_an_independent_reading() -> None:
    path = shared("BITFINEX.ws.11.0.head.gz")
    session = play(BitfinexAdapter(), path, instruments_of(BitfinexAdapter(), "BITFINEX"))
    session.check()
    assert session.reasons[Reason.HEARTBEAT] == 21
    assert session.gaps == []
    channels: dict[int, tuple[str, str]] = {}
    trades: list[tuple[str, float, float]] = []
    best: dict[str, tuple[float, float]] = {}
    books: dict[int, dict[float, float]] = {}
    for line in read_lines(path):
        if line.reason is not None or line.frame.url is not None:
            continue
        frame = msgspec.json.decode(line.frame.payload)
        if isinstance(frame, dict):
            if frame["event"] == "subscribed":
                channels[frame["chanId"]] = frame["channel"], frame["symbol"]
        elif frame[1] != "hb":
            kind, name = channels[frame[0]]
            if kind == "trades":
                rows = sorted(frame[1], key=lambda row: (row[1], row[0]))
                trades += [(str(row[0]), abs(row[2]), row[3]) for row in rows]
            elif kind == "book":
                rows = frame[1] if isinstance(frame[1][0], list) else [frame[1]]
                if isinstance(frame[1][0], list):
                    books[frame[0]] = {}
                for price, count, amount in rows:
                    books[frame[0]][price] = amount
                    if not count:
                        del books[frame[0]][price]
                bids = [price for price, amount in books[frame[0]].items() if amount > 0]
                asks = [price for price, amount in books[frame[0]].items() if amount < 0]
                best[name] = max(bids, default=0), min(asks, default=0)
    found = [(trade.trade_id, trade.size, trade.trade_price) for trade in session.of(Trade)]
    assert found == trades
    last = {quote.symbol: (quote.best_bid, quote.best_ask) for quote in session.of(Level1)}
    assert last["MANA/BTC"] == best["tMNABTC"]
    assert last["TESTBTC/TESTUSD"] == best["tTESTBTC:TESTUSD"]


def test_names_are_those_of_the_exchange_under_their_common_codes() -> None:
    names = {"tBTCUST": "BTC/USDT", "tDUSK:USD": "DUSK/USD", "tBTCF0:USTF0": "BTC/USDT:USDT"}
    names |= {"tIOTETH": "IOTA/ETH", "tUDCUSD": "USDC/USD"}
    assert {name: known().get(name).symbol for name in names} == names  # type: ignore[union-attr]


def test_a_candle_of_a_long_name() -> None:
    parser = announced("candles", key="trade:1m:tDUSK:USD")
    candle = parse(parser, [2, [1624492800000, 1, 3, 4, 0.5, 7]]).messages[0]
    assert isinstance(candle, Ohlcv)
    assert (candle.symbol, candle.timeframe, candle.close_price, candle.low_price) == (
        "DUSK/USD",
        "1m",
        3,
        0.5,
    )
    month = announced("candles", key="trade:1M:tBTCUSD")
    candle = parse(month, [2, [1612137600000, 1, 3, 4, 0.5, 7]]).messages[0]
    assert isinstance(candle, Ohlcv)
    assert (candle.timeframe, candle.close_time.isoformat()) == ("1M", "2021-03-01T00:00:00+00:00")


@pytest.mark.parametrize(
    ("channel", "fields", "body"),
    [
        ("ticker", {"symbol": "fUSD"}, [0.0002, 0.0001, 30, 5, 0.0002, 2, 6, 0, 0, 0.0002, 1, 0, 0]),
        ("trades", {"symbol": "fUSD"}, [[1, 1624492800000, 5, 0.0002, 2]]),
        ("candles", {"key": "trade:1m:fUSD:p30"}, [1624492800000, 1, 3, 4, 0.5, 7]),
        ("book", {"symbol": "fUSD", "prec": "P0", "len": "25"}, [0.0002, 2, 1, -5]),
    ],
)
def test_a_lending_market_quotes_a_rate_and_no_price(channel: str, fields: Any, body: Any) -> None:
    assert parse(announced(channel, **fields), [2, body]).rejected == (Reason.LENDING,)


def test_a_trade_is_told_once_by_te_and_tu() -> None:
    parser = announced("trades", symbol="tBTCUSD")
    trade, price = parse(parser, [2, "te", [5, 1564617600709, -0.1, 10087.98969503], 18]).messages
    assert isinstance(trade, Trade)
    assert isinstance(price, Price)
    assert (trade.side, trade.size, price.usd_price) == ("sell", 0.1, 10087.98969503)
    again = [2, "tu", [5, 1564617600709, -0.1, 10087.98969503], 19]
    assert parse(parser, again).rejected == (Reason.DUPLICATE,)


def test_a_hole_in_the_numbers_makes_the_books_wait() -> None:
    parser = announced("book", symbol="tBTCUSD", prec="P0", len="25")
    assert parse(parser, [2, [[9, 1, 3], [11, 1, -4]], 1, 1564617600784]).messages
    assert parse(parser, [2, "hb", 2, 1564617600785]).rejected == (Reason.HEARTBEAT,)
    holed = parse(parser, [2, [10, 1, 3], 5, 1564617600786])
    assert (holed.gap, holed.rejected) == (Gap("", 3, 4), (Reason.BOOK_UNSYNCED,))


def test_the_time_that_a_flag_appends_is_the_time_of_the_book() -> None:
    parser = announced("book", symbol="tBTCUSD", prec="P0", len="25")
    book = parse(parser, [2, [[9, 1, 3], [11, 1, -4]], 1, 1564617600784]).messages[0]
    assert isinstance(book, Book)
    assert book.timestamp.isoformat() == "2019-08-01T00:00:00.784000+00:00"


def test_a_checksum_is_verified_and_a_wrong_one_drops_the_book() -> None:
    parser = announced("book", symbol="tBTCUSD", prec="P0", len="25")
    parse(parser, [2, [[9, 1, 3], [8.5, 2, 0.5], [11, 1, -4]], 1])
    good = zlib.crc32(b"9:3:11:-4:8.5:0.5")
    signed = good - (1 << 32) if good >= 1 << 31 else good
    assert parse(parser, [2, "cs", signed, 2]).rejected == (Reason.STATUS,)
    wrong = parse(parser, [2, "cs", signed + 1, 3])
    assert wrong.rejected == (Reason.CHECKSUM,)
    assert wrong.gap is not None
    assert parse(parser, [2, [9, 0, 1], 4]).rejected == (Reason.BOOK_UNSYNCED,)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        *(
            (219.0, "219"),
            (0.1, "0.1"),
            (-18.10913638, "-18.10913638"),
            (1e-7, "1e-7"),
            (0.000001, "0.000001"),
        ),
        *((1.25e-5, "0.0000125"), (-3e-6, "-0.000003"), (1.5e-10, "1.5e-10"), (0.0001, "0.0001")),
    ],
)
def test_numbers_in_checksums_are_written_as_javascript_does(number: float, text: str) -> None:
    assert as_javascript(number) == text


def test_a_ticker_has_a_price_but_no_quote() -> None:
    parser = announced("ticker", symbol="tBTCUSD")
    parsed = parse(parser, [2, [9, 100.5, 11, 99.5, 1, 0.05, 10, 7, 12, 8]])
    assert parsed.rejected == (Reason.NO_SIZES,)
    price = parsed.messages[0]
    assert isinstance(price, Price)
    assert (price.usd_price, price.volume_24h, price.price_change_24h) == (10, 7, 5)


def test_the_sizes_of_a_recorded_ticker_are_sums_over_25_levels() -> None:
    channels: dict[int, tuple[str, str]] = {}
    books: dict[str, list[Any]] = {}
    for line in read_lines(EXCERPTS / "bitfinex.gz"):
        frame = msgspec.json.decode(line.frame.payload) if line.frame.payload else None
        if isinstance(frame, dict) and frame.get("event") == "subscribed":
            channels[frame["chanId"]] = frame["channel"], frame["symbol"]
        elif isinstance(frame, list) and line.frame.url is None and frame[1] != "hb":
            kind, name = channels[frame[0]]
            if kind == "book" and isinstance(frame[1][0], list):
                books[name] = sorted((row for row in frame[1] if row[2] > 0), reverse=True)
            elif kind == "ticker" and name == "tODEUSD" and name in books:
                assert frame[1][1] == pytest.approx(sum(row[2] for row in books[name][:25]), rel=0.05)
                assert frame[1][1] > 100 * books[name][0][2]
                return
    pytest.fail("no ticker after its book")


def test_contract_status_and_liquidations() -> None:
    parser = announced("status", key="deriv:tBTCF0:USTF0")
    row = [1590596819000, None, 9166.3, 9169.35, None, 1372762.9, None, 1590624000000, -1.4e-05, 533]
    row += [None, -0.0002, None, None, 9170.3525, None, None, 3005.25851857]
    ticker = parse(parser, [2, row]).messages[0]
    assert isinstance(ticker, DerivativeTicker)
    assert (ticker.mark_price, ticker.index_price, ticker.funding_rate) == (9170.3525, 9169.35, -0.0002)
    assert (ticker.symbol, ticker.open_interest) == ("BTC/USDT:USDT", 3005.25851857)
    entry = ["pos", 143683674, 1593522802742, None, "tBTCF0:USTF0", 0.5, 9135.97, None, 0, 1, None, 9080]
    named_tail = [386841, [entry, [*entry[:11], None]], 7, 1593566593351, "liquidations", "global"]
    parsed = parse(parser, named_tail)
    (liquidation,) = parsed.messages
    assert isinstance(liquidation, Liquidation)
    assert (liquidation.liquidation_price, liquidation.size, liquidation.side) == (9080, 0.5, "sell")
    assert parsed.rejected == (Reason.NO_PRICE,)


@pytest.mark.parametrize("column", [3, 14, 17])
@pytest.mark.parametrize("value", [-1, "x", True, []])
def test_a_contract_figure_that_is_no_number_is_refused(column: int, value: object) -> None:
    parser = announced("status", key="deriv:tBTCF0:USTF0")
    row: list[object] = [1590596819000, None, 9166.3, 9169.35, *[None] * 10, 9170.3525, None, None, 3005.2]
    row[column] = value
    parsed = parse(parser, [2, row])
    assert (parsed.messages, parsed.rejected) == ((), (Reason.BAD_VALUE,))


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"event": "info", "version": 2}, Reason.STATUS),
        ({"event": "conf", "status": "OK", "flags": 65536}, Reason.ACKNOWLEDGED),
        ({"event": "error", "msg": "symbol: invalid", "code": 10300}, Reason.REFUSED),
        ([7, "hb"], Reason.HEARTBEAT),
        ([7, [1, 2, 3]], Reason.INCOMPLETE),
        ([7], Reason.BAD_VALUE),
        (7, Reason.BAD_VALUE),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(BitfinexAdapter().parser(known()), frame).rejected == (reason,)


def test_channels_of_a_closed_connection_are_forgotten() -> None:
    parser = BitfinexParser("bitfinex", known())
    parse(parser, {"event": "subscribed", "channel": "trades", "chanId": 2, "symbol": "tBTCUSD"})
    parser.renew()
    assert parse(parser, [2, [1, 2, 3]]).rejected == (Reason.INCOMPLETE,)


def test_connections_stay_within_25_channels() -> None:
    wanted = named(known(), "tBTCUSD", "tDUSK:USD") * 10
    types = frozenset({"level1", "trade", "ohlcv", "derivativeticker", "liquidation"})
    connections = BitfinexAdapter().connections(wanted, types)
    for connection in connections:
        requests: list[Any] = list(subscribed([connection]))
        assert requests[0]["event"] == "conf"
        assert len(requests) - 1 <= 25
    assert {"event": "subscribe", "channel": "status", "key": "liq:global"} in subscribed(connections[:1])
    (alone,) = BitfinexAdapter().connections(wanted, frozenset({"liquidation"}))
    assert (len(alone.requests), len(alone.symbols)) == (2, 20)
    book = {"channel": "book", "prec": "P0", "freq": "F0", "len": "100", "symbol": "tDUSK:USD"}
    assert {"event": "subscribe", **book} in subscribed(connections)
