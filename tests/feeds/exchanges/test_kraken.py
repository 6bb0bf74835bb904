"""Kraken spot and futures: books with their checksum and depth, trades, contracts, recorded sessions."""

from __future__ import annotations

from typing import Any

import pytest

from coinstream.feeds import Reason
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.instrument_lists import packaged
from coinstream.feeds.recordings import exchange_of, new_parser
from coinstream.messages import Book, DerivativeTicker, Level1, Liquidation, Price, Trade
from tests.feeds.exchanges.recorded import play, shared
from tests.feeds.frames import RECEIVED_NS, parse, span

LATER_NS = RECEIVED_NS + 200_000_000
# The example of "Book checksum" in the documentation of v2.
ASKS = (
    *("45285.2:0.00100000 45286.4:1.54571953 45286.6:1.54571109 45289.6:1.54560911 45290.2:0.15890660",),
    *("45291.8:1.54553491 45294.7:0.04454749 45296.1:0.35380000 45297.5:0.09945542 45299.5:0.18772827",),
)
BIDS = (
    *("45283.5:0.10000000 45283.4:1.54582015 45282.1:0.10000000 45281.0:0.10000000 45280.3:1.54592586",),
    *("45279.0:0.07990000 45277.6:0.03310103 45277.5:0.30000000 45277.3:1.54602737 45276.6:0.15445238",),
)
CHECKSUM = 3310070434


def rows(texts: tuple[str, ...]) -> list[list[str]]:
    return [level.split(":") for text in texts for level in text.split()]


def v2_book(kind: str, bids: list[list[str]], asks: list[list[str]], checksum: int | None = None) -> bytes:
    sides = [
        ",".join('{"price":%s,"qty":%s}' % (price, qty) for price, qty in side)  # noqa: UP031
        for side in (bids, asks)
    ]
    more = "" if checksum is None else f',"checksum":{checksum}'
    data = f'{{"symbol":"BTC/USD","bids":[{sides[0]}],"asks":[{sides[1]}]{more}}}'
    return f'{{"channel":"book","type":"{kind}","data":[{data}]}}'.encode()


def test_a_v2_book_is_verified_against_the_checksum_of_the_documentation() -> None:
    parser = new_parser("kraken")
    first, *rest = rows(ASKS)
    assert parse(parser, v2_book("snapshot", rows(BIDS), rest)).messages
    good = parse(parser, v2_book("update", [], [first], CHECKSUM), LATER_NS)
    (book,) = [message for message in good.messages if isinstance(message, Book)]
    assert book.asks[0] == (45285.2, 0.001)
    bad = parse(parser, v2_book("update", [], [["45285.2", "0.00200000"]], CHECKSUM), LATER_NS)
    assert (bad.messages, bad.rejected) == ((), (Reason.CHECKSUM,))
    assert bad.gap is not None
    assert bad.gap.symbol == "BTC/USD"
    assert parse(parser, v2_book("update", [], [first])).rejected == (Reason.BOOK_UNSYNCED,)


def test_a_v1_book_is_verified_too() -> None:
    parser = new_parser("kraken")
    asks = [[*level, "1.1"] for level in rows(ASKS)]
    bids = [[*level, "1.1"] for level in rows(BIDS)]
    parse(parser, [0, {"as": asks[1:], "bs": bids}, "book-10", "XBT/USD"])
    good = parse(parser, [0, {"a": asks[:1], "c": str(CHECKSUM)}, "book-10", "XBT/USD"], LATER_NS)
    assert good.messages
    bad = parse(parser, [0, {"a": asks[:1], "c": "1"}, "book-10", "XBT/USD"], LATER_NS)
    assert bad.rejected == (Reason.CHECKSUM,)


def test_a_v2_book_is_cut_to_its_depth() -> None:
    """A bid that fell out of the book is not the best again when those above it go."""
    parser = new_parser("kraken", types=frozenset({"level1"}))
    levels = [[str(100 - at), "1"] for at in range(10)]
    parse(parser, v2_book("snapshot", levels, [["200", "1"]]))
    parse(parser, v2_book("update", [["101", "1"]], []))  # 91 falls out, without a removal
    removals = [[str(price), "0"] for price in range(92, 102)]
    (quote,) = parse(parser, v2_book("update", [*removals, ["50", "2"]], [])).messages
    assert isinstance(quote, Level1)
    assert quote.best_bid == 50.0


def test_the_depth_of_a_v2_book_is_the_one_that_was_subscribed() -> None:
    parser = new_parser("kraken", types=frozenset({"level1"}))
    result = {"channel": "book", "symbol": "BTC/USD", "depth": 25}
    assert parse(parser, {"method": "subscribe", "success": True, "result": result}).rejected == (
        Reason.ACKNOWLEDGED,
    )
    levels = [[str(100 - at), "1"] for at in range(10)]
    parse(parser, v2_book("snapshot", levels, [["200", "1"]]))
    parse(parser, v2_book("update", [["101", "1"]], []))
    removals = [[str(price), "0"] for price in range(92, 102)]
    (quote,) = parse(parser, v2_book("update", removals, [])).messages
    assert quote.best_bid == 91.0  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("pair", "symbol"),
    [("XXBTZUSD", "BTC/USD"), ("USDTZUSD", "USDT/USD"), ("PAXGUSD", "PAXG/USD"), ("ADAEUR", "ADA/EUR")],
)
def test_rest_names_are_resolved_by_the_list(pair: str, symbol: str) -> None:
    book = {"bids": [["1", "2", 3]], "asks": [["2", "1", 3]]}
    url = "https://api.kraken.com/0/public/Depth?pair=x"
    parsed = parse(new_parser("kraken"), {"error": [], "result": {pair: book}}, url=url)
    assert {message.symbol for message in parsed.messages} == {symbol}  # type: ignore[attr-defined]


def test_a_bad_entry_of_a_v1_frame_leaves_the_others() -> None:
    trades = [["5541.2", "0.1", "1534614057.32", "s", "l", ""], ["x", "1", "1534614057.33", "b", "l", ""]]
    parsed = parse(new_parser("kraken"), [0, trades, "trade", "XBT/USD"])
    assert [type(message) for message in parsed.messages] == [Trade, Price]
    assert parsed.rejected == (Reason.BAD_VALUE,)


def test_an_older_v1_book_with_an_empty_part_is_read() -> None:
    """Books of 2019 carried a null between their parts."""
    levels = {"as": [["0.102987", "3.0", "1561939199.99"]], "bs": [["0.102810", "2.0", "1561635364.83"]]}
    parsed = parse(new_parser("kraken"), [923, levels, None, "book-1000", "ADA/CAD"])
    assert {type(message) for message in parsed.messages} == {Book, Level1}


FUTURES_TRADE: dict[str, Any] = {
    **{"feed": "trade", "product_id": "PI_XBTUSD", "uid": "a-1", "side": "sell", "type": "liquidation"},
    **{"seq": 41799, "time": 1593561965283, "qty": 12000, "price": 30000},
}


def test_a_liquidation_at_kraken_futures_is_a_trade_too() -> None:
    trade, price, liquidation = parse(new_parser("krakenfutures"), FUTURES_TRADE).messages
    assert isinstance(trade, Trade)
    assert (trade.symbol, trade.size, trade.side) == ("BTC/USD:BTC", 12000 / 30000, "sell")
    assert isinstance(price, Price)
    assert isinstance(liquidation, Liquidation)
    assert (liquidation.size, liquidation.side) == (0.4, "sell")


def test_a_snapshot_of_trades_is_read_oldest_first() -> None:
    rows = [FUTURES_TRADE | {"seq": 3, "uid": "c"}, FUTURES_TRADE | {"seq": 2, "uid": "b", "price": 1}]
    parsed = parse(new_parser("krakenfutures"), {"feed": "trade_snapshot", "trades": rows})
    trades = [message for message in parsed.messages if isinstance(message, Trade)]
    assert [trade.trade_price for trade in trades] == [1.0, 30000.0]


def test_a_futures_ticker_gives_figures_in_base_currency() -> None:
    ticker = {
        **{"feed": "ticker", "product_id": "FI_LTCUSD_190628", "bid": 60.0, "ask": 60.5, "bid_size": 600},
        **{"ask_size": 121, "volume": 66428, "last": 60.69, "time": 1554076800684, "change": 0.4},
        **{"index": 60.31, "openInterest": 120, "markPrice": 60.0, "suspended": False},
    }
    quote, price, figures = parse(new_parser("krakenfutures"), ticker).messages
    assert isinstance(quote, Level1)
    assert (quote.symbol, quote.bid_size, quote.ask_size) == ("LTC/USD:LTC-190628", 10.0, 2.0)
    assert isinstance(price, Price)
    assert price.volume_24h is None
    assert isinstance(figures, DerivativeTicker)
    assert (figures.mark_price, figures.index_price, figures.open_interest) == (60.0, 60.31, 2.0)


def test_a_hole_in_a_futures_book_is_a_gap() -> None:
    parser = new_parser("krakenfutures", types=frozenset({"level1"}))
    level = {"price": 1.0, "qty": 5.0}
    snapshot = {"feed": "book_snapshot", "product_id": "PI_XBTUSD", "timestamp": 1626994925378, "seq": 5}
    assert parse(parser, snapshot | {"bids": [level], "asks": [level | {"price": 2.0}]}).messages
    change = {"feed": "book", "product_id": "PI_XBTUSD", "side": "buy", "price": 1.5, "qty": 3.0}
    assert parse(parser, change | {"seq": 6, "timestamp": 1626994927744}).messages
    assert span(parse(parser, change | {"seq": 9, "timestamp": 1626994927744}).gap) == ("BTC/USD:BTC", 7, 8)


def test_the_address_tells_spot_from_futures() -> None:
    assert exchange_of("wss://futures.kraken.com/ws/v1") == "krakenfutures"
    assert exchange_of("wss://ws.kraken.com/v2") == "kraken"


SESSIONS = {"kraken": "KRAKEN.ws.49.0.gz", "krakenfutures": "KRAKEN_FUTURES.ws.1.0.head.gz"}


@pytest.mark.parametrize(("exchange", "name"), SESSIONS.items())
def test_a_recorded_session_has_no_fault(exchange: str, name: str) -> None:
    play(adapters()[exchange](), shared(name), packaged(exchange)).check()
