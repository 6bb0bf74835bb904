"""Phemex: its recording, scaled integers, contract sizes, the USDT contracts."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.phemex import PhemexAdapter
from coinstream.feeds.exchanges.phemex.parser import PhemexParser
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList, derivative, spot
from coinstream.feeds.parser import Parser
from coinstream.feeds.recordings import read_lines
from coinstream.messages import DerivativeTicker, Level1, Ohlcv, Price, Trade
from tests.feeds.exchanges.recorded import (
    EXCERPTS,
    instruments_of,
    named,
    parse,
    play,
    shared,
    subscribed,
)

NS: Final = 1625342240710279103
KNOWN: Final = InstrumentList(
    [
        spot("sGRTUSDT", "GRT", "USDT"),
        derivative("BTCUSD", "BTC", "USD", "BTC", inverse=True),
        derivative("ETHUSD", "ETH", "USD", "USD", contract_size=0.005),
        derivative("BTCUSDT", "BTC", "USDT", "USDT"),
    ]
)


def parser() -> Parser:
    return PhemexAdapter().parser(KNOWN)


def trades(name: str, *rows: list[Any], kind: str = "incremental", field: str = "trades") -> dict[str, Any]:
    return {"sequence": 1, "symbol": name, field: list(rows), "type": kind}


def test_the_excerpt_parses_without_faults() -> None:
    session = play(PhemexAdapter(), EXCERPTS / "phemex.gz")
    session.check()
    assert {trade.symbol for trade in session.of(Trade)} == {"YFI/USD:USD", "SUSHI/USDT"}


def test_the_whole_recording_matches_an_independent_reading() -> None:
    path = shared("PHEMEX.ws.1.0.head.gz")
    known = instruments_of(PhemexAdapter(), "PHEMEX")
    session = play(PhemexAdapter(), path, known)
    session.check()
    sizes = {"YFIUSD": 0.0001, "XMRUSD": 0.01, "ENJUSD": 10.0, "XTZUSD": 0.5, "ATOMUSD": 1.0}
    wanted = []
    for line in read_lines(path):
        frame = msgspec.json.decode(line.frame.payload) if line.reason is None else {}
        if isinstance(frame, dict) and "trades" in frame:
            name = frame["symbol"]
            for _, side, price, size in reversed(frame["trades"]):
                if name.startswith("s"):
                    wanted.append((price / 1e8, size / 1e8, side.lower()))
                else:
                    assert named(known, name)[0].contract_size == sizes[name]
                    wanted.append((price / 1e4, size * sizes[name], side.lower()))
    found = [(trade.trade_price, trade.size, trade.side) for trade in session.of(Trade)]
    assert len(found) == len(wanted)
    assert sorted(found) == sorted(wanted)


def test_scales_and_contract_sizes() -> None:
    found = parser()
    scaled = [
        ("sGRTUSDT", [NS, "Buy", 67556000, 512445000000], (0.67556, 5124.45)),
        ("ETHUSD", [NS, "Sell", 20000000, 100], (2000.0, 0.5)),
        ("BTCUSD", [NS, "Sell", 400000000, 100], (40000.0, 0.0025)),
    ]
    for name, row, (price, size) in scaled:
        trade = parse(found, trades(name, row)).messages[0]
        assert isinstance(trade, Trade)
        assert (trade.trade_price, trade.size) == (price, size)
    text = parse(found, trades("BTCUSDT", [NS, "Buy", "16545.6", "0.7"], field="trades_p")).messages[0]
    assert isinstance(text, Trade)
    assert (text.symbol, text.trade_price, text.size) == ("BTC/USDT:USDT", 16545.6, 0.7)


def test_a_snapshot_after_a_reconnect_repeats_no_trade() -> None:
    found = PhemexParser("phemex", KNOWN)
    rows = [[NS + 2, "Buy", 20000000, 1], [NS + 1, "Buy", 19990000, 1]]
    first = parse(found, trades("ETHUSD", *rows, kind="snapshot")).messages
    prices = [message.usd_price for message in first if isinstance(message, Price)]
    assert prices == [1999, 2000]
    found.renew()
    again = parse(found, trades("ETHUSD", [NS + 3, "Sell", 20010000, 1], *rows, kind="snapshot"))
    assert [one.trade_price for one in again.messages if isinstance(one, Trade)] == [2001]
    assert again.rejected == (Reason.DUPLICATE, Reason.DUPLICATE)


def book(kind: str, bids: list[Any], asks: list[Any]) -> dict[str, Any]:
    body = {"bids": bids, "asks": asks}
    return {"book": body, "depth": 2, "sequence": 1, "symbol": "ETHUSD", "timestamp": NS, "type": kind}


def test_a_level_that_fell_out_of_the_depth_does_not_come_back() -> None:
    found = parser()
    assert parse(found, book("incremental", [], [])).rejected == (Reason.BOOK_UNSYNCED,)
    parse(found, book("snapshot", [[90000, 100], [80000, 100]], [[110000, 200]]))
    quote = parse(found, book("incremental", [[100000, 100]], [])).messages[-1]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.bid_size, quote.ask_size) == (10, 0.5, 1)
    empty = parse(found, book("incremental", [[100000, 0], [90000, 0]], []))
    assert empty.rejected == (Reason.ONE_SIDED,)


def test_candles_of_contracts_count_in_base_currency() -> None:
    row = [1612137600, 2592000, 0, 10000, 40000, 5000, 30000, 100, 0]
    frame = {"kline": [row], "sequence": 1, "symbol": "ETHUSD", "type": "snapshot"}
    candle = parse(parser(), frame).messages[0]
    assert isinstance(candle, Ohlcv)
    assert (candle.open_price, candle.high_price, candle.low_price, candle.close_price) == (1, 4, 0.5, 3)
    assert (candle.volume, candle.timeframe) == (0.5, "1M")
    assert candle.close_time.isoformat() == "2021-03-01T00:00:00+00:00"


def test_figures_over_24_hours() -> None:
    row = ["BTCUSDT", "15713.1", "16626", "15685.7", "16545.6", "1374.476", "22296790.4579", "7"]
    row += ["16553.56998432", "16554.73942506", "0.0001", "0.0002"]
    frame = {"data": [row], "method": "perp_market24h_pack_p.update", "timestamp": NS, "type": "incremental"}
    price, ticker = parse(parser(), frame).messages
    assert isinstance(price, Price)
    assert isinstance(ticker, DerivativeTicker)
    assert (price.usd_price, price.volume_24h) == (16545.6, 1374.476)
    assert (ticker.mark_price, ticker.index_price, ticker.funding_rate) == (
        16554.73942506,
        16553.56998432,
        0.0001,
    )
    assert ticker.open_interest == 7
    contract = {"symbol": "BTCUSD", "close": 87425000, "open": 90710000, "volume": 100, "fundingRate": -10000}
    contract |= {"markPrice": 87453092, "indexPrice": 87450676, "openInterest": 87425, "timestamp": NS}
    price, ticker = parse(parser(), {"market24h": contract, "timestamp": NS}).messages
    assert isinstance(ticker, DerivativeTicker)
    assert (ticker.mark_price, ticker.last_price, ticker.funding_rate) == (8745.3092, 8742.5, -0.0001)
    assert ticker.open_interest == pytest.approx(10)
    spot24 = {"symbol": "sGRTUSDT", "lastEp": 67556000, "openEp": 67556000, "volumeEv": 100000000}
    price = parse(parser(), {"spot_market24h": spot24 | {"timestamp": NS}}).messages[0]
    assert isinstance(price, Price)
    assert (price.usd_price, price.volume_24h) == (0.67556, 1)


def test_names_and_kinds_of_products() -> None:
    known = instruments_of(PhemexAdapter(), "PHEMEX")
    names = {"BTCUSD": "BTC/USD:BTC", "ETHUSD": "ETH/USD:USD", "sBTCUSDT": "BTC/USDT"}
    assert {name: known.get(name).symbol for name in names} == names  # type: ignore[union-attr]
    inverse = {name: known.get(name).inverse for name in names}  # type: ignore[union-attr]
    assert inverse == {"BTCUSD": True, "ETHUSD": False, "sBTCUSDT": False}
    row = {"symbol": "BTCUSDT", "type": "PerpetualV2", "displaySymbol": "BTC / USDT", "status": "Listed"}
    row |= {"baseCurrency": "BTC", "quoteCurrency": "USDT", "settleCurrency": "USDT"}
    row |= {"contractUnderlyingAssets": "BTC"}
    body = msgspec.json.encode({"data": {"products": [], "perpProductsV2": [row]}})
    (found,) = PhemexAdapter().parse_instruments(PhemexAdapter.instruments_urls[0], body)
    assert (found.symbol, found.contract_size, found.inverse) == ("BTC/USDT:USDT", 1, False)


def test_names_differ_by_case_and_new_ones_say_their_market() -> None:
    found = parser()
    names = {"sOLUSDT": "OL/USDT", "SOLUSDT": "SOL/USDT:USDT", "sSOLUSDC": "SOL/USDC"}
    for name, symbol in names.items():
        row = [NS, "Buy", 100000000, 100000000] if name[0] == "s" else [NS, "Buy", "1", "1"]
        field = "trades" if name[0] == "s" else "trades_p"
        trade = parse(found, trades(name, row, field=field)).messages[0]
        assert isinstance(trade, Trade)
        assert (trade.symbol, trade.trade_price, trade.size) == (symbol, 1, 1)
    assert parse(found, trades("u100SHIBUSD", [NS, "Buy", 1, 1])).rejected == (Reason.UNKNOWN_SYMBOL,)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"error": None, "id": 1, "result": {"status": "success"}}, Reason.ACKNOWLEDGED),
        ({"error": None, "id": 0, "result": "pong"}, Reason.HEARTBEAT),
        ({"error": {"code": 6001, "message": "invalid argument"}, "id": 1, "result": None}, Reason.REFUSED),
        ({"tick": {"symbol": ".BTC", "last": 1, "scale": 4, "timestamp": NS}}, Reason.STATUS),
        ({"nosuch": 1}, Reason.UNKNOWN),
        (trades("sNOSUCH", [NS, "Buy", 1, 1]), Reason.UNKNOWN_SYMBOL),
        (trades("ETHUSD", [NS, "Buy", -1, 1]), Reason.BAD_VALUE),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(parser(), frame).rejected == (reason,)


def test_connections_stay_within_20_subscriptions() -> None:
    wanted = named(KNOWN, "sGRTUSDT", "BTCUSD", "ETHUSD", "BTCUSDT") * 6
    types = frozenset({"level1", "trade", "derivativeticker"})
    connections = PhemexAdapter().connections(wanted, types)
    assert all(len(connection.requests) <= 20 for connection in connections)
    requests = subscribed(connections)
    assert {"id": 1, "method": "orderbook.subscribe", "params": ["sGRTUSDT"]} in requests
    assert {"id": 1, "method": "trade_p.subscribe", "params": ["BTCUSDT"]} in requests
    assert requests.count({"id": 1, "method": "market24h.subscribe", "params": []}) == 1
