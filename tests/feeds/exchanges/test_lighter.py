"""Lighter: books, trades, best levels and contract figures in the forms of its documentation."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from coinstream.feeds.exchanges.lighter import LighterAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Frame, Parser
from coinstream.messages import Book, DerivativeTicker, Level1, Price, Trade
from tests.feeds.exchanges.recorded import RECEIVED_NS, parse

URL = "https://mainnet.zklighter.elliot.ai/api/v1/orderBookDetails"
DETAILS = {
    "code": 200,
    "order_book_details": [
        {"symbol": "ETH", "market_id": 0, "market_type": "perp", "status": "active"},
        {"symbol": "BTC", "market_id": 1, "market_type": "perp", "status": "inactive"},
    ],
    "spot_order_book_details": [{"symbol": "ETH/USDC", "market_id": 2048, "status": "active"}],
}
STATS = {
    **{"index_price": "3015.56", "mark_price": "3013.91", "open_interest": "122736286.659423"},
    **{"last_trade_price": "3013.13", "current_funding_rate": "0.0012", "funding_rate": "0.0012"},
    **{"daily_base_token_volume": 643235.2763, "daily_price_change": -0.3061987051035322},
}


@pytest.fixture
def parser() -> Parser:
    adapter = LighterAdapter()
    known = adapter.parse_instruments(URL, msgspec.json.encode(DETAILS))
    return adapter.parser(InstrumentList(known))


def book(kind: str, nonce: int, begin: int | None, bids: list[Any], asks: list[Any]) -> dict[str, Any]:
    sides = {
        name: [{"price": price, "size": size} for price, size in rows]
        for name, rows in (("bids", bids), ("asks", asks))
    }
    told = {"code": 0, "offset": 1, "nonce": nonce, **sides} | (
        {} if begin is None else {"begin_nonce": begin}
    )
    return {"type": kind, "channel": "order_book:0", "timestamp": 1763448665923, "order_book": told}


def test_markets_are_contracts_and_spot() -> None:
    found = LighterAdapter().parse_instruments(URL, msgspec.json.encode(DETAILS))
    assert [(one.id, one.symbol, one.active) for one in found] == [
        ("0", "ETH/USDC:USDC", True),
        ("1", "BTC/USDC:USDC", False),
        ("2048", "ETH/USDC", True),
    ]


def test_a_book_starts_from_its_snapshot_and_notices_gaps(parser: Parser) -> None:
    first = [("2979.36", "4"), ("2979.00", "1")]
    found = parse(parser, book("subscribed/order_book", 100, None, first, [("2979.64", "61.9487")])).messages
    assert isinstance(found[0], Book)
    assert found[0].bids == [(2979.36, 4), (2979, 1)]
    changed = parse(parser, book("update/order_book", 130, 100, [("2979.36", "0.0000")], [])).messages
    assert isinstance(changed[0], Level1)
    assert (changed[0].best_bid, changed[0].bid_size) == (2979, 1)
    assert parse(parser, book("update/order_book", 130, 100, [], [])).rejected == (Reason.OUT_OF_DATE,)
    missed = parse(parser, book("update/order_book", 180, 150, [], [("2979.70", "1")]))
    assert [(gap.symbol, gap.first, gap.last) for gap in missed.gaps] == [("ETH/USDC:USDC", 131, 150)]
    assert parse(parser, book("update/order_book", 190, 180, [], [])).rejected == (Reason.BOOK_UNSYNCED,)


@pytest.mark.parametrize(("is_maker_ask", "side"), [(True, "buy"), (False, "sell")])
def test_the_side_of_a_trade_is_the_takers(parser: Parser, is_maker_ask: bool, side: str) -> None:
    row = {"trade_id": 526801155, "type": "trade", "market_id": 0, "size": "0.0346", "price": "3028.85"}
    row |= {"is_maker_ask": is_maker_ask, "timestamp": 1763623734215}
    frame = {
        "channel": "trade:0",
        "type": "update/trade",
        "liquidation_trades": [],
        "nonce": 1,
        "trades": [row],
    }
    trade = parse(parser, frame).messages[0]
    assert isinstance(trade, Trade)
    assert (trade.trade_price, trade.size, trade.side, trade.trade_id) == (3028.85, 0.0346, side, "526801155")
    assert parse(parser, frame).rejected == (Reason.DUPLICATE,)
    assert parse(parser, {**frame, "trades": []}).rejected == (Reason.STATUS,)


def test_best_levels_come_with_their_time(parser: Parser) -> None:
    best = {"b": {"price": "75524.4", "size": "0.1"}, "a": {"price": "75531.6", "size": "0.52927"}}
    frame: dict[str, Any] = {"type": "update/ticker", "channel": "ticker:1", "timestamp": 1776695867147}
    assert parse(parser, frame).rejected == (Reason.STATUS,)
    found = parse(
        parser, frame | {"ticker": {"s": "BTC", **best, "last_updated_at": 1776695867144750}}
    ).messages[0]
    assert isinstance(found, Level1)
    assert (found.symbol, found.best_bid, found.ask_size) == ("BTC/USDC:USDC", 75524.4, 0.52927)
    assert found.timestamp.microsecond == 144750


def test_contract_figures_are_in_base_currency(parser: Parser) -> None:
    frame = {"type": "update/market_stats", "channel": "market_stats:all", "market_stats": {"0": STATS}}
    price, figures = parse(parser, frame).messages
    assert isinstance(price, Price)
    assert (price.usd_price, price.volume_24h) == (3013.13, 643235.2763)
    assert isinstance(figures, DerivativeTicker)
    assert (figures.mark_price, figures.index_price) == (3013.91, 3015.56)
    assert figures.open_interest == pytest.approx(122736286.659423 / 3013.91)
    assert figures.funding_rate is None


def test_a_ping_is_answered_and_an_error_is_told(parser: Parser) -> None:
    adapter = LighterAdapter()
    assert adapter.answer(Frame(RECEIVED_NS, b'{"type":"ping"}')) == b'{"type":"pong"}'
    assert adapter.answer(Frame(RECEIVED_NS, b'{"type":"update/trade"}')) is None
    assert parse(parser, {"type": "ping"}).rejected == (Reason.HEARTBEAT,)
    assert parse(parser, {"type": "connected", "session_id": "x"}).rejected == (Reason.ACKNOWLEDGED,)
    assert parse(parser, {"error": {"code": 30003, "message": "x"}}).rejected == (Reason.REFUSED,)


def test_a_connection_has_at_most_100_subscriptions() -> None:
    adapter = LighterAdapter()
    many = adapter.parse_instruments(URL, msgspec.json.encode(DETAILS))[:1] * 60
    types = frozenset({kind for channel in adapter.channels for kind in channel.types})
    connections = adapter.connections(many, types)
    assert [len(one.requests) for one in connections] == [100, 100, 40]
    assert connections[0].requests[0] == b'{"type":"subscribe","channel":"order_book/0"}'
    assert adapter.resync(many[0])[0] == b'{"type":"unsubscribe","channel":"order_book/0"}'
