"""Aster: the protocol of Binance's USD-M futures at its own addresses, in the forms of its documentation."""

from __future__ import annotations

import msgspec
import pytest

from coinstream.feeds.exchanges import adapters
from coinstream.feeds.exchanges.aster import AsterAdapter
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Frame, Gap
from coinstream.feeds.recordings import exchange_of, identify
from coinstream.messages import Book, DerivativeTicker, Level1, Liquidation, Message, Trade
from tests.feeds.exchanges.recorded import RECEIVED_NS, parse

EXCHANGE_INFO = (
    b'{"symbols":[{"symbol":"BTCUSDT","pair":"BTCUSDT","contractType":"PERPETUAL","status":"TRADING",'
    b'"baseAsset":"BTC","quoteAsset":"USDT","marginAsset":"USDT","pricePrecision":1}]}'
)
DEPTH_URL = "https://fapi.asterdex.com/fapi/v1/depth?symbol=BTCUSDT&limit=1000"
SNAPSHOT = {"lastUpdateId": 130, "E": 1, "T": 1, "bids": [["5.0", "1.2"]], "asks": [["5.6", "2.4"]]}
CHANGE = {
    **{"e": "depthUpdate", "E": 1591261236200, "T": 1591261236199, "s": "BTCUSDT", "U": 129, "u": 131},
    **{"pu": 122, "b": [["5.4", "6"]], "a": []},
}
FRAMES = [
    (
        {"e": "bookTicker", "u": 400900217, "E": 1568014460893, "T": 1568014460891, "s": "BTCUSDT"}
        | {"b": "25.35190000", "B": "31.21000000", "a": "25.36520000", "A": "40.66000000"},
        (Level1, {"best_bid": 25.3519, "best_ask": 25.3652, "bid_size": 31.21, "ask_size": 40.66}),
    ),
    (
        {"e": "aggTrade", "E": 1568014460893, "s": "BTCUSDT", "a": 5933014, "p": "0.001", "q": "100"}
        | {"f": 100, "l": 105, "T": 1568014460893, "m": True},
        (Trade, {"trade_price": 0.001, "size": 100, "side": "sell", "trade_id": "5933014"}),
    ),
    (
        {"e": "markPriceUpdate", "E": 1562305380000, "s": "BTCUSDT", "p": "11794.15000000"}
        | {"i": "11784.62659091", "P": "11784.25641265", "r": "0.00038167", "T": 1562306400000},
        (
            DerivativeTicker,
            {"mark_price": 11794.15, "index_price": 11784.62659091, "funding_rate": 0.00038167},
        ),
    ),
    (
        {
            **{"e": "forceOrder", "E": 1568014460893},
            "o": {"s": "BTCUSDT", "S": "SELL", "o": "LIMIT", "f": "IOC", "q": "0.014", "p": "9910"}
            | {"ap": "9910", "X": "FILLED", "l": "0.014", "z": "0.014", "T": 1568014460893},
        },
        (Liquidation, {"side": "sell"}),
    ),
]


@pytest.fixture
def instruments() -> InstrumentList:
    return InstrumentList(
        AsterAdapter().parse_instruments("https://fapi.asterdex.com/fapi/v1/exchangeInfo", EXCHANGE_INFO)
    )


@pytest.mark.parametrize(("frame", "wanted"), FRAMES, ids=[str(frame["e"]) for frame, _ in FRAMES])
def test_a_documented_frame_gives_its_message(
    instruments: InstrumentList, frame: dict[str, object], wanted: tuple[type[Message], dict[str, object]]
) -> None:
    found = parse(AsterAdapter().parser(instruments), frame).messages[0]
    assert isinstance(found, wanted[0])
    assert {name: getattr(found, name) for name in wanted[1]} == wanted[1]
    assert (found.exchange_id, found.symbol) == ("aster", "BTC/USDT:USDT")  # type: ignore[attr-defined]


def test_a_book_starts_from_its_rest_snapshot(instruments: InstrumentList) -> None:
    parser = AsterAdapter().parser(instruments)
    assert not parse(parser, CHANGE).messages
    books = [one for one in parse(parser, SNAPSHOT, DEPTH_URL).messages if isinstance(one, Book)]
    assert books[-1].bids == [(5.4, 6), (5, 1.2)]
    assert books[-1].asks == [(5.6, 2.4)]


def test_a_connection_has_at_most_200_streams(instruments: InstrumentList) -> None:
    adapter = AsterAdapter()
    types = frozenset({kind for channel in adapter.channels for kind in channel.types})
    many = [next(iter(instruments))] * 90
    connections = adapter.connections(many, types)
    assert {one.url for one in connections} == {"wss://fstream.asterdex.com/ws"}
    for one in connections:
        streams = [msgspec.json.decode(request)["params"] for request in one.requests]
        assert 0 < sum(map(len, streams)) <= 200
    request = adapter.trades_request(many[0], Gap("BTC/USDT:USDT", 5, 9, "trades"))
    assert request is not None
    assert request.url == "https://fapi.asterdex.com/fapi/v1/aggTrades"


def test_only_its_address_tells_it_from_binance() -> None:
    assert exchange_of("wss://fstream.asterdex.com/ws") == "aster"
    quote = b'{"e":"bookTicker","u":1,"s":"BTCUSDT","b":"1","B":"1","a":"2","A":"1","T":1568014460891,"E":1}'
    assert "aster" not in identify([Frame(RECEIVED_NS, quote)])
    assert adapters()["aster"].live
