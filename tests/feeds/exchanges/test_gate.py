"""Gate: recorded sessions of spot and futures, and frames of the channels that they lack."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from coinstream.feeds.exchanges.gate import GateAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Parser
from coinstream.messages import Book, DerivativeTicker, Level1, Liquidation, Ohlcv, Price, Trade
from tests.feeds.exchanges.sessions import excerpt, instruments_of, replayed, shared
from tests.feeds.frames import only, parse, span

CONTRACTS = "https://api.gateio.ws/api/v4/futures/btc/contracts"
INVERSE = b'[{"name":"BTC_USD","type":"inverse","quanto_multiplier":"0"}]'


def instruments() -> InstrumentList:
    adapter = GateAdapter()
    found = instruments_of(adapter, excerpt("gate.instruments.gz"))
    found.add(adapter.parse_instruments(CONTRACTS, INVERSE))
    return found


def parser() -> Parser:
    return GateAdapter().parser(instruments())


def push(channel: str, result: Any, event: str = "update") -> dict[str, Any]:
    return {
        "time": 1684930165,
        "time_ms": 1684930165254,
        "channel": channel,
        "event": event,
        "result": result,
    }


class TestRecording:
    @pytest.mark.parametrize("name", ["gate.ws.gz", "gate-futures.ws.gz"])
    def test_the_excerpts_parse_without_a_fault(self, name: str) -> None:
        session = replayed(GateAdapter(), excerpt(name), instruments())
        assert session.faults == {}
        assert session.messages

    def test_the_spot_session_parses(self) -> None:
        known = instruments_of(GateAdapter(), shared("GATEIO.instruments.gz"))
        session = replayed(GateAdapter(), shared("GATEIO.ws.1.0.gz"), known)
        assert session.faults == {}
        assert session.stats.rejected == {
            Reason.OPENED: 1,
            Reason.SENT: 22,
            Reason.ACKNOWLEDGED: 22,
            Reason.BOOK_UNSYNCED: 172,
            Reason.NOT_DOLLARS: 11,
        }
        assert {kind: len(session.of(kind)) for kind in (Ohlcv, Price, Trade)} == {
            Ohlcv: 14,
            Price: 14,
            Trade: 9,
        }
        candle: Any = session.of(Ohlcv, "FAST/USDT")[0]
        assert (candle.volume, candle.close_price) == (1.964, 10.46)

    def test_the_futures_session_parses(self) -> None:
        known = instruments_of(GateAdapter(), shared("GATEIO_FUTURES.instruments.gz"))
        session = replayed(GateAdapter(), shared("GATEIO_FUTURES.ws.1.0.head.gz"), known)
        assert session.faults == {}
        assert session.stats.rejected[Reason.BOOK_UNSYNCED] == 187
        quotes: Any = session.of(Level1)
        assert len(quotes) == 50
        assert all(quote.best_bid < quote.best_ask for quote in quotes)


class TestFutures:
    def test_sizes_are_contracts(self) -> None:
        rows = [
            {"size": -3, "id": 8, "create_time_ms": 1593561616002, "price": "217.2", "contract": "BCH_USDT"},
            {"size": 1, "id": 7, "create_time": 1593561616, "price": "217", "contract": "BCH_USDT"},
        ]
        found = parse(parser(), push("futures.trades", rows))
        trades = [message for message in found.messages if isinstance(message, Trade)]
        assert [(trade.trade_id, trade.side) for trade in trades] == [("7", "buy"), ("8", "sell")]
        size = instruments().get("futures.BCH_USDT")
        assert size is not None
        assert size.contract_size != 1
        assert trades[1].size == pytest.approx(3 * size.contract_size)

    def test_a_ticker_gives_figures_and_a_price(self) -> None:
        row = {
            **{"contract": "BTC_USD", "last": "20000", "change_percentage": "1.5", "total_size": "50000"},
            **{"volume_24h": "9", "volume_24h_base": "3", "mark_price": "25000", "index_price": "24999"},
            "funding_rate": "-0.0001",
        }
        figures, price = parse(parser(), push("futures.tickers", [row])).messages
        assert isinstance(figures, DerivativeTicker)
        assert (figures.symbol, figures.open_interest, figures.funding_rate) == ("BTC/USD:BTC", 2, -0.0001)
        assert isinstance(price, Price)
        assert (price.volume_24h, price.price_change_24h) == (3, 1.5)

    def test_an_empty_best_level_is_no_fault(self) -> None:
        row = {"t": 0, "u": 0, "s": "BSW_USDT", "b": "", "B": 0, "a": "", "A": 0}
        assert parse(parser(), push("futures.book_ticker", row)).rejected == (Reason.ONE_SIDED,)
        empty = {"asks": [], "bids": [], "contract": "BSW_USDT", "id": 0, "t": 0}
        assert parse(parser(), push("futures.order_book", empty, "all")).rejected == (Reason.ONE_SIDED,)

    def test_changes_of_2020_have_negative_sizes_for_asks(self) -> None:
        read = parser()
        book = {"contract": "BTC_USDT", "asks": [{"p": "12", "s": 93}], "bids": [{"p": "10", "s": 17}]}
        parse(read, push("futures.order_book", book, "all"))
        rows = [
            {"p": "12", "s": 0, "c": "BTC_USDT", "id": 1},
            {"p": "11", "s": -5, "c": "BTC_USDT", "id": 2},
            {"p": "10.5", "s": 7, "c": "BTC_USDT", "id": 3},
        ]
        quote: Any = parse(read, push("futures.order_book", rows)).messages[-1]
        assert (quote.best_bid, quote.best_ask) == (10.5, 11)

    def test_candles_and_liquidations(self) -> None:
        row = {"t": 1684930140, "v": 20, "c": "10", "h": "10", "l": "10", "o": "10", "n": "7d_BTC_USD"}
        candle = only(parse(parser(), push("futures.candlesticks", [row])))
        assert isinstance(candle, Ohlcv)
        assert (candle.timeframe, candle.volume) == ("1w", 2)
        order = {"price": 215.1, "size": -124, "time": 1541486601, "contract": "BTC_USD"}
        found = only(parse(parser(), push("futures.public_liquidates", [order])))
        assert isinstance(found, Liquidation)
        assert found.side == "sell"
        assert found.size == pytest.approx(124 / 215.1)

    def test_a_contract_that_is_not_listed_is_unknown(self) -> None:
        row = {"size": 1, "id": 7, "create_time": 1593561616, "price": "217", "contract": "XYZ_USDT"}
        assert parse(parser(), push("futures.trades", [row])).rejected == (Reason.UNKNOWN_SYMBOL,)


class TestSpot:
    def test_a_book_needs_its_rest_snapshot(self) -> None:
        read = parser()
        row = {"t": 1682689045398, "s": "BTC_USDT", "U": 11, "u": 12, "b": [["5", "1"]], "a": []}
        change = push("spot.order_book_update", row)
        assert parse(read, change).rejected == (Reason.BOOK_UNSYNCED,)
        reply = {"id": 10, "current": 1682689045300, "asks": [["7", "2"]], "bids": [["4", "2"]]}
        url = "https://api.gateio.ws/api/v4/spot/order_book?currency_pair=BTC_USDT&with_id=true"
        quote: Any = parse(read, reply, url=url).messages[-1]
        assert (quote.best_bid, quote.best_ask) == (5, 7)
        lost = push("spot.order_book_update", row | {"U": 15, "u": 16})
        assert span(parse(read, lost).gap) == ("BTC/USDT", 13, 14)

    def test_obu_starts_with_a_full_book(self) -> None:
        read = parser()
        row: dict[str, Any] = {"t": 1754006400261, "full": True, "s": "ob.BTC_USDT.400", "u": 5}
        full = row | {"b": [["4", "1"], ["3", "1"]], "a": [["7", "1"]]}
        kinds = [type(message) for message in parse(read, push("spot.obu", full)).messages]
        assert kinds == [Book, Level1]
        change = {"t": 1754006400361, "s": "ob.BTC_USDT.400", "U": 6, "u": 6, "b": [["4", "0"]], "a": []}
        quote: Any = parse(read, push("spot.obu", change)).messages[-1]
        assert quote.best_bid == 3

    def test_trades_of_both_versions(self) -> None:
        row = {"id": 5, "create_time_ms": "1619093543708.2642", "side": "sell", "currency_pair": "DIS_USDT"}
        row |= {"amount": "0.201", "price": "121.58"}
        for channel in ("spot.trades", "spot.trades_v2"):
            trade: Any = parse(parser(), push(channel, row)).messages[0]
            assert (trade.symbol, trade.side, trade.size) == ("DIS/USDT", "sell", 0.201)
            assert trade.timestamp.microsecond == 708264

    def test_the_best_levels_are_numbered(self) -> None:
        read = parser()
        row = {
            "t": 1682689046131,
            "u": 5,
            "s": "ETC_ETH",
            "b": "0.010326",
            "B": "0.001",
            "a": "0.011",
            "A": "1",
        }
        assert only(parse(read, push("spot.book_ticker", row))).symbol == "ETC/ETH"
        assert parse(read, push("spot.book_ticker", row)).rejected == (Reason.DUPLICATE,)
        assert parse(read, push("spot.book_ticker", row | {"u": 4})).rejected == (Reason.OUT_OF_DATE,)

    def test_the_older_protocol_sends_the_newest_trade_first(self) -> None:
        read = parser()
        rows = [
            {"id": 9, "time": 1593561600.775, "price": "9137", "amount": "2", "type": "buy"},
            {"id": 8, "time": 1593561600.655, "price": "9138", "amount": "1", "type": "sell"},
        ]
        found = parse(read, {"method": "trades.update", "params": ["BTC_USDT", rows], "id": None})
        trades = [message for message in found.messages if isinstance(message, Trade)]
        assert [trade.trade_id for trade in trades] == ["8", "9"]
        book = {"asks": [["10.95", "14.4"]], "bids": [["10.53", "26"]]}
        frame = {"method": "depth.update", "params": [True, book, "BTG_USDT"], "id": None}
        quote: Any = parse(read, frame).messages[-1]
        assert (quote.symbol, quote.best_ask) == ("BTG/USDT", 10.95)


def test_each_settlement_currency_has_its_address() -> None:
    known = instruments()
    some = [known.get(name) for name in ("spot.NEO_BTC", "futures.BTC_USDT", "futures.BTC_USD")]
    types = frozenset({"trade", "book", "ohlcv", "derivativeticker", "liquidation"})
    found = GateAdapter().connections([item for item in some if item is not None], types)
    assert [item.url for item in found] == [
        "wss://api.gateio.ws/ws/v4/",
        "wss://fx-ws.gateio.ws/v4/ws/usdt",
        "wss://fx-ws.gateio.ws/v4/ws/btc",
    ]
    requests = [msgspec.json.decode(request) for request in found[0].requests]
    assert {(item["channel"], *item["payload"]) for item in requests} == {
        ("spot.trades", "NEO_BTC"),
        ("spot.order_book", "NEO_BTC", "20", "100ms"),
        ("spot.candlesticks", "1m", "NEO_BTC"),
    }
