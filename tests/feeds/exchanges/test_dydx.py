"""dYdX v4: frames as the indexer sends them, crossed books, liquidations."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.dydx import DydxAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Gap, Parser
from coinstream.messages import DerivativeTicker, Level1, Liquidation, Ohlcv, Trade
from tests.feeds.exchanges.recorded import named, parse, subscribed

MARKETS: Final = {
    "markets": {"BTC-USD": {"ticker": "BTC-USD", "status": "ACTIVE"}, "ETH-USD": {"status": "PAUSED"}}
}


def known() -> InstrumentList:
    adapter = DydxAdapter()
    return InstrumentList(
        adapter.parse_instruments(adapter.instruments_urls[0], msgspec.json.encode(MARKETS))
    )


def parser() -> Parser:
    return DydxAdapter().parser(known())


def frame(channel: str, contents: Any, kind: str = "channel_data", **more: Any) -> dict[str, Any]:
    return {"type": kind, "channel": channel, "id": "BTC-USD", "contents": contents, **more}


def test_trades_newest_first_and_liquidations() -> None:
    trades = [
        {"id": "02", "size": "3.9", "price": "22.87", "side": "SELL", "type": "LIQUIDATED"},
        {"id": "01", "size": "0.002", "price": "60397", "side": "BUY", "type": "LIMIT"},
    ]
    rows = [row | {"createdAt": f"2024-08-22T23:59:5{9 - index}.851Z"} for index, row in enumerate(trades)]
    found = parser()
    messages = parse(found, frame("v4_trades", {"trades": rows}, "subscribed")).messages
    told = [message for message in messages if isinstance(message, Trade)]
    assert [(trade.trade_id, trade.side, trade.size) for trade in told] == [
        ("01", "buy", 0.002),
        ("02", "sell", 3.9),
    ]
    (liquidation,) = (message for message in messages if isinstance(message, Liquidation))
    assert (liquidation.symbol, liquidation.side, liquidation.size) == ("BTC/USDC:USDC", "sell", 3.9)
    again = parse(found, frame("v4_trades", [{"trades": rows[:1]}], "channel_batch_data"))
    assert again.rejected == (Reason.DUPLICATE,)


def test_the_level_that_was_set_last_uncrosses_a_book() -> None:
    found = parser()
    state = {
        "bids": [{"price": "9", "size": "3"}, {"price": "8", "size": "1"}],
        "asks": [{"price": "11", "size": "4"}, {"price": "12", "size": "5"}],
    }
    assert parse(found, frame("v4_orderbook", {"bids": [["9", "1"]]})).rejected == (Reason.BOOK_UNSYNCED,)
    parse(found, frame("v4_orderbook", state, "subscribed"))
    quote = parse(found, frame("v4_orderbook", {"bids": [["11.5", "2"]]})).messages[-1]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.best_ask, quote.ask_size) == (11.5, 12, 5)
    quote = parse(found, frame("v4_orderbook", {"asks": [["8.5", "1"]]})).messages[-1]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.best_ask) == (8, 8.5)
    removed = parse(found, frame("v4_orderbook", {"bids": [["11.21", "0"]]}))
    assert removed.rejected == (Reason.TOP_UNCHANGED,)


def test_a_hole_in_the_numbers_of_a_connection_makes_its_books_wait() -> None:
    found = parser()
    state = {"bids": [{"price": "9", "size": "3"}], "asks": [{"price": "11", "size": "4"}]}
    first = frame("v4_orderbook", state, "subscribed", connection_id="a", message_id=1)
    assert parse(found, first).gap is None
    change = frame("v4_orderbook", {"bids": [["10", "1"]]}, connection_id="a", message_id=2)
    assert parse(found, change).messages
    holed = parse(found, change | {"message_id": 5})
    assert (holed.gap, holed.rejected) == (Gap("", 3, 4), (Reason.BOOK_UNSYNCED,))
    assert parse(found, first | {"connection_id": "b", "message_id": 7}).gap is None


def test_markets_are_contract_figures() -> None:
    found = parser()
    row = {
        "ticker": "BTC-USD",
        "oraclePrice": "60387.5",
        "nextFundingRate": "0.0000135",
        "openInterest": "648.2",
    }
    ticker = parse(found, frame("v4_markets", {"markets": {"BTC-USD": row}}, "subscribed")).messages[0]
    assert isinstance(ticker, DerivativeTicker)
    assert (ticker.mark_price, ticker.index_price) == (60387.5, 60387.5)
    assert (ticker.funding_rate, ticker.open_interest) == (0.0000135, 648.2)
    price = {"oraclePrice": "60388.5", "effectiveAt": "2024-08-23T00:00:54.301Z", "marketId": 0}
    later = parse(found, frame("v4_markets", {"oraclePrices": {"BTC-USD": price}})).messages[0]
    assert isinstance(later, DerivativeTicker)
    assert (later.mark_price, later.open_interest) == (60388.5, 648.2)
    assert later.timestamp.isoformat() == "2024-08-23T00:00:54.301000+00:00"
    trading = {"trading": {"BTC-USD": {"nextFundingRate": "-0.00001", "trades24H": 5}}}
    assert parse(found, frame("v4_markets", trading)).messages[0].funding_rate == -0.00001  # type: ignore[attr-defined]


def test_candles() -> None:
    row = {"startedAt": "2024-08-22T23:59:00.000Z", "ticker": "BTC-USD", "resolution": "5MINS"}
    row |= {"open": "1", "high": "4", "low": "0.5", "close": "3", "baseTokenVolume": "7"}
    one = parse(parser(), frame("v4_candles", {"candles": [row]}, "subscribed", id="BTC-USD/5MINS")).messages[
        0
    ]
    assert isinstance(one, Ohlcv)
    assert (one.timeframe, one.open_price, one.low_price, one.close_price, one.volume) == ("5m", 1, 0.5, 3, 7)
    assert parse(parser(), frame("v4_candles", row)).messages == (one,)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"type": "connected", "connection_id": "a", "message_id": 0}, Reason.ACKNOWLEDGED),
        ({"type": "error", "message": "Invalid subscription id"}, Reason.REFUSED),
        (frame("v4_blockheight", {}), Reason.STATUS),
        (frame("nosuch", {}), Reason.UNKNOWN),
        (frame("v4_trades", {}), Reason.BAD_VALUE),
        (frame("v4_trades", {}) | {"id": "NOSUCH"}, Reason.UNKNOWN_SYMBOL),
        (frame("v4_markets", {}), Reason.EMPTY),
    ],
)
def test_a_frame_without_a_message_has_its_reason(value: object, reason: Reason) -> None:
    assert parse(parser(), value).rejected == (reason,)


def test_names_and_subscriptions() -> None:
    assert known().get("ETH-USD").active is False  # type: ignore[union-attr]
    long = "BUFFI,uniswap_v3,0x4c1b1302220d7de5c22b495e78b72f2dd2457d45-USD"
    adapter = DydxAdapter()
    (found,) = adapter.parse_instruments("", msgspec.json.encode({"markets": {long: {"status": "ACTIVE"}}}))
    assert found.symbol == "BUFFI/USDC:USDC"
    types = frozenset({"level1", "trade", "ohlcv", "derivativeticker"})
    requests = subscribed(adapter.connections(named(known(), "BTC-USD"), types))
    assert requests == [
        {"type": "subscribe", "channel": "v4_markets"},
        {"type": "subscribe", "channel": "v4_orderbook", "id": "BTC-USD"},
        {"type": "subscribe", "channel": "v4_trades", "id": "BTC-USD"},
        {"type": "subscribe", "channel": "v4_candles", "id": "BTC-USD/1MIN"},
    ]
