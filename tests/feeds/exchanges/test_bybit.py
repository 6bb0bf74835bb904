"""Bybit: a recorded session of the older protocol, and frames of v5 and of the other channels."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from coinstream.feeds.exchanges.bybit import BybitAdapter
from coinstream.feeds.exchanges.bybit.v2 import BybitParser
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.replay import ReplayFeed
from coinstream.messages import Book, DerivativeTicker, Level1, Liquidation, Ohlcv, Price, Trade
from tests.feeds.exchanges.sessions import excerpt, instruments_of, replayed, shared
from tests.feeds.frames import only, parse

V5 = "wss://stream.bybit.com/v5/public/"
SPOT_LIST = {
    "category": "spot",
    "list": [
        {"symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "status": "Trading"},
        {"symbol": "ARBUSD", "baseCoin": "ARB", "quoteCoin": "USD", "status": "Trading"},
    ],
}


def parser(category: str = "") -> BybitParser:
    known = instruments_of(BybitAdapter(), excerpt("bybit.instruments.gz"))
    url = "https://api.bybit.com/v5/market/instruments-info?category=spot"
    known.add(BybitAdapter().parse_instruments(url, msgspec.json.encode({"result": SPOT_LIST})))
    found = BybitAdapter().parser(known)
    assert isinstance(found, BybitParser)
    if category:
        found.opened(V5 + category)
    return found


def trade(name: str, **more: Any) -> dict[str, Any]:
    row = {"T": 1672304486865, "s": name, "S": "Buy", "v": "100", "p": "20000", "i": "a"} | more
    return {"topic": f"publicTrade.{name}", "type": "snapshot", "data": [row]}


class TestRecording:
    def test_the_excerpt_parses_without_a_fault(self) -> None:
        known = instruments_of(BybitAdapter(), excerpt("bybit.instruments.gz"))
        session = replayed(BybitAdapter(), excerpt("bybit.ws.gz"), known)
        assert session.faults == {}
        assert {type(message) for message in session.messages} == {Level1, Book, Price, Trade}
        assert {message.symbol for message in session.messages} >= {"LTC/USDT:USDT"}  # type: ignore[attr-defined]

    def test_the_whole_session_parses_and_is_never_crossed(self) -> None:
        known = instruments_of(BybitAdapter(), shared("BYBIT.instruments.gz"))
        session = replayed(BybitAdapter(), shared("BYBIT.ws.25.0.gz"), known)
        assert (session.faults, session.stats.flags) == ({}, {})
        assert session.stats.rejected[Reason.ACKNOWLEDGED] == session.stats.rejected[Reason.SENT] == 16
        assert len(session.of(Trade)) == 101
        quotes: Any = session.of(Level1)
        assert all(quote.best_bid < quote.best_ask for quote in quotes)

    def test_a_replay_tells_the_parser_the_address_of_its_session(self, tmp_path: Path) -> None:
        path = tmp_path / "session"
        frame = msgspec.json.encode(trade("BTCUSDT")).decode()
        path.write_text(f"{V5}linear <-> 1672304486.0\n1672304486.9: {frame}\n")
        feed = ReplayFeed(path, rebase=False)
        symbols = {message.symbol for batch in feed.messages(threading.Event()) for message in batch}  # type: ignore[attr-defined]
        assert (feed.exchange, symbols) == ("bybit", {"BTC/USDT:USDT"})


class TestCategories:
    @pytest.mark.parametrize(
        ("category", "name", "symbol", "size"),
        [
            ("spot", "BTCUSDT", "BTC/USDT", 100),
            ("spot", "ARBUSD", "ARB/USD", 100),
            ("linear", "BTCUSDT", "BTC/USDT:USDT", 100),
            ("linear", "BTCPERP", "BTC/USDC:USDC", 100),
            ("linear", "BTC-30JUN23", "BTC/USDC:USDC-230630", 100),
            ("linear", "ETHUSDT-27DEC24", "ETH/USDT:USDT-241227", 100),
            ("inverse", "BTCUSD", "BTC/USD:BTC", 0.005),
            ("inverse", "BTCUSDU23", "BTC/USD:BTC-230929", 0.005),
            ("option", "BTC-30JUN23-45000-P", "BTC/USDC:USDC-230630-45000-P", 100),
        ],
    )
    def test_the_address_tells_the_category(self, category: str, name: str, symbol: str, size: float) -> None:
        found: Any = parse(parser(category), trade(name)).messages[0]
        assert (found.symbol, found.size) == (symbol, pytest.approx(size))

    def test_a_name_of_one_category_needs_no_address(self) -> None:
        found: Any = parse(parser(), trade("BTCUSD", L="PlusTick")).messages[0]
        assert found.symbol == "BTC/USD:BTC"

    def test_a_name_of_two_categories_is_not_guessed(self) -> None:
        data = {"s": "BTCUSDT", "b": [["1", "2"]], "a": [["3", "4"]], "u": 8}
        frame = {"topic": "orderbook.50.BTCUSDT", "type": "snapshot", "ts": 1672304484978, "data": data}
        found = parse(parser(), frame)
        assert found.rejected == (Reason.UNKNOWN_SYMBOL,)
        assert "BTC/USDT, BTC/USDT:USDT" in found.detail

    @pytest.mark.parametrize(
        ("more", "symbol"), [({"L": "PlusTick"}, "BTC/USDT:USDT"), ({}, "BTC/USDT")], ids=["linear", "spot"]
    )
    def test_a_trade_tells_the_category_of_its_connection(self, more: dict[str, Any], symbol: str) -> None:
        read = parser()
        found: Any = parse(read, trade("BTCUSDT", **more)).messages[0]
        assert found.symbol == symbol
        data = {"s": "BTCUSDT", "b": [["1", "2"]], "a": [["3", "4"]], "u": 8}
        frame = {"topic": "orderbook.1.BTCUSDT", "type": "snapshot", "ts": 1672304484978, "data": data}
        assert only(parse(read, frame)).symbol == symbol

    def test_a_spot_name_is_split_by_the_quote_currencies_of_spot(self) -> None:
        found: Any = parse(parser("spot"), trade("PAXGUSDT")).messages[0]
        assert found.symbol == "PAXG/USDT"
        assert parse(parser("spot"), trade("OMGUSD")).rejected == (Reason.UNKNOWN_SYMBOL,)

    def test_a_liquidation_tells_that_a_session_is_of_derivatives(self) -> None:
        read = parser()
        old = {"symbol": "ETHUSD", "side": "Sell", "price": "3384.15", "qty": "3655", "time": 1631608881954}
        assert only(parse(read, {"topic": "liquidation.ETHUSD", "data": old})).symbol == "ETH/USD:ETH"
        new = old | {"symbol": "GALAUSDT", "size": "1637", "updatedTime": 1673251091822}
        found = only(parse(read, {"topic": "liquidation.GALAUSDT", "data": new, "type": "snapshot"}))
        assert found.symbol == "GALA/USDT:USDT"


class TestV5:
    def test_a_delta_ticker_keeps_the_last_value_of_each_field(self) -> None:
        read = parser("inverse")
        frame: dict[str, Any] = {"topic": "tickers.BTCUSD", "type": "snapshot", "ts": 1673272861686}
        early = frame | {"type": "delta", "data": {"symbol": "ETHUSD", "ask1Price": "2"}}
        assert parse(read, early).rejected == (Reason.INCOMPLETE,)
        full = {
            **{"symbol": "BTCUSD", "lastPrice": "20000", "bid1Price": "19999", "bid1Size": "20000"},
            **{"ask1Price": "20001", "ask1Size": "40002", "volume24h": "9", "turnover24h": "3.5"},
            **{"markPrice": "20000", "indexPrice": "20010", "openInterest": "500000"},
            **{"fundingRate": "0.0001", "nextFundingTime": "1673280000000", "price24hPcnt": "0.0287"},
        }
        quote, figures, price = parse(read, frame | {"data": full}).messages
        assert isinstance(quote, Level1)
        assert [quote.bid_size, quote.ask_size] == pytest.approx([20000 / 19999, 2.0])
        assert isinstance(figures, DerivativeTicker)
        assert (figures.mark_price, figures.open_interest, figures.funding_rate) == (20000, 25, 0.0001)
        assert figures.next_funding_time == datetime(2023, 1, 9, 16, tzinfo=UTC)
        assert isinstance(price, Price)
        assert [price.volume_24h, price.price_change_24h] == pytest.approx([3.5, 2.87])
        delta = frame | {"type": "delta", "data": {"symbol": "BTCUSD", "ask1Price": "20002"}}
        changed = only(parse(read, delta))
        assert (changed.best_bid, changed.best_ask) == (19999, 20002)

    def test_an_option_ticker_has_quote_figures_and_price(self) -> None:
        data = {
            **{"symbol": "ETH-30JUN23-200-P", "bidPrice": "0.1", "bidSize": "5", "askPrice": "0.2"},
            **{"askSize": "7", "lastPrice": "1", "markPrice": "0.25", "indexPrice": "1871.27"},
            **{"openInterest": "231.5", "volume24h": "0", "change24h": "0.01"},
        }
        frame = {"topic": "tickers.ETH-30JUN23-200-P", "ts": 1680652859919, "data": data, "type": "snapshot"}
        kinds = [type(message) for message in parse(parser("option"), frame).messages]
        assert kinds == [Level1, DerivativeTicker, Price]

    def test_books_of_different_depth_do_not_mix(self) -> None:
        read = parser("linear")
        frame: dict[str, Any] = {"type": "snapshot", "ts": 1672304484978}
        wide = {"s": "BTCUSDT", "b": [["10", "2"], ["9", "1"]], "a": [["12", "4"]], "u": 8}
        parse(read, frame | {"topic": "orderbook.50.BTCUSDT", "data": wide})
        narrow = {"s": "BTCUSDT", "b": [["11", "2"]], "a": [["12", "4"]], "u": 100}
        best = parse(read, frame | {"topic": "orderbook.1.BTCUSDT", "data": narrow})
        assert only(best).best_bid == 11
        gone = {"s": "BTCUSDT", "b": [["10", "0"]], "a": [], "u": 9}
        delta: dict[str, Any] = {"topic": "orderbook.50.BTCUSDT", "type": "delta", "ts": 1672304484979}
        quote: Any = parse(read, delta | {"data": gone}).messages[-1]
        assert quote.best_bid == 9
        assert parse(read, delta | {"data": gone}).rejected == (Reason.DUPLICATE,)
        assert parse(read, delta | {"data": gone | {"u": 7}}).rejected == (Reason.OUT_OF_DATE,)
        restarted = delta | {"data": wide | {"u": 1}}
        quote = parse(read, restarted).messages[-1]
        assert quote.best_bid == 10

    def test_a_best_level_moves_by_deltas(self) -> None:
        read = parser("linear")
        frame: dict[str, Any] = {"topic": "orderbook.1.BTCUSDT", "ts": 1682092584425}
        first = {"s": "BTCUSDT", "b": [["27994.60", "1"]], "a": [["27994.80", "2"]], "u": 7}
        delta = {"s": "BTCUSDT", "b": [["27994.60", "0"], ["27991.70", "0.777"]], "u": 8}
        delta["a"] = [["27994.40", "0.058"], ["27994.80", "0"]]
        assert parse(read, frame | {"type": "delta", "data": delta}).rejected == (Reason.BOOK_UNSYNCED,)
        parse(read, frame | {"type": "snapshot", "data": first})
        quote = only(parse(read, frame | {"type": "delta", "data": delta}))
        assert (quote.best_bid, quote.best_ask, quote.ask_size) == (27991.7, 27994.4, 0.058)

    def test_candles_of_inverse_contracts_count_turnover(self) -> None:
        row = {
            **{"start": 1672324800000, "end": 1672325099999, "interval": "5", "open": "1", "close": "2"},
            **{"high": "3", "low": "1", "volume": "2000", "turnover": "7", "timestamp": 1672324988882},
        }
        for category, name, volume in (("inverse", "BTCUSD", 7), ("linear", "BTCUSDT", 2000)):
            candle = only(parse(parser(category), {"topic": f"kline.5.{name}", "data": [row]}))
            assert isinstance(candle, Ohlcv)
            assert (candle.timeframe, candle.volume) == ("5m", volume)

    def test_a_liquidated_long_position_is_sold(self) -> None:
        rows = [{"T": 1740480207110, "s": "PIPPINUSDT", "S": "Buy", "v": "2846", "p": "0.02456"}]
        frame = {"topic": "allLiquidation.PIPPINUSDT", "type": "snapshot", "ts": 1, "data": rows}
        found = only(parse(parser("linear"), frame))
        assert isinstance(found, Liquidation)
        assert (found.symbol, found.side, found.size) == ("PIPPIN/USDT:USDT", "sell", 2846)

    def test_replies_and_pongs_are_told_apart(self) -> None:
        read = parser("spot")
        assert parse(read, {"success": True, "ret_msg": "pong", "op": "ping"}).rejected == (Reason.HEARTBEAT,)
        assert parse(read, {"success": True, "op": "subscribe"}).rejected == (Reason.ACKNOWLEDGED,)
        refused = parse(read, {"success": False, "ret_msg": "no such topic", "op": "subscribe"})
        assert (refused.rejected, refused.detail) == ((Reason.REFUSED,), "no such topic")


class TestOlderProtocols:
    def test_scaled_figures_of_an_inverse_contract(self) -> None:
        data = {
            **{"id": 2, "symbol": "ETHUSD", "last_price_e4": 1906500, "mark_price_e4": 1905000},
            **{"index_price_e4": 1904900, "open_interest": 1905000, "turnover_24h_e8": 250000000},
            **{"volume_24h": 475, "funding_rate_e6": 100, "price_24h_pcnt_e6": 16800},
        }
        frame = {"topic": "instrument_info.100ms.ETHUSD", "type": "snapshot", "data": data}
        figures, price = parse(parser(), frame | {"timestamp_e6": 1573044649041458}).messages
        assert isinstance(figures, DerivativeTicker)
        assert (figures.mark_price, figures.open_interest) == (190.5, 10000)
        assert figures.funding_rate == pytest.approx(0.0001)
        assert isinstance(price, Price)
        assert (price.symbol, price.usd_price, price.volume_24h) == ("ETH/USD:ETH", 190.65, 2.5)
        assert price.price_change_24h == pytest.approx(1.68)

    def test_contracts_in_usdc_use_other_names(self) -> None:
        row = {
            **{"symbol": "BTCPERP", "tickDirection": "PlusTick", "price": "21213.00", "size": 0.007},
            **{"tradeTimeMs": "1655804218524", "side": "Sell", "tradeId": "7aad"},
        }
        found: Any = parse(parser(), {"topic": "trade.BTCPERP", "data": [row]}).messages[0]
        assert (found.symbol, found.side, found.trade_id) == ("BTC/USDC:USDC", "sell", "7aad")
        info = {"id": 1, "symbol": "BTCPERP", "markPriceE4": "212094600", "markPrice": "21209.46"}
        frame = {"topic": "instrument_info.100ms.BTCPERP", "type": "delta", "data": {"update": [info]}}
        assert only(parse(parser(), frame)).mark_price == 21209.46

    def test_books_of_inverse_contracts_are_in_base_currency(self) -> None:
        read = parser()
        frame: dict[str, Any] = {"topic": "orderBook_200.100ms.BTCUSD", "timestamp_e6": "1618677786389362"}
        rows = [{"price": "100", "side": "Buy", "size": 700}, {"price": "200", "side": "Sell", "size": 800}]
        quote: Any = parse(read, frame | {"type": "snapshot", "data": rows}).messages[-1]
        assert (quote.symbol, quote.bid_size, quote.ask_size) == ("BTC/USD:BTC", 7, 4)
        change: dict[str, Any] = {"delete": [{"price": "100", "side": "Buy"}], "update": []}
        change["insert"] = [{"price": "50", "side": "Buy", "size": 50}]
        quote = parse(read, frame | {"type": "delta", "data": change}).messages[-1]
        assert (quote.best_bid, quote.bid_size) == (50, 1)

    def test_spot_v1(self) -> None:
        data = {"v": "2280000000007453966", "t": 1659312000103, "p": "1678.54", "q": "1.4", "m": True}
        frame = {"topic": "trade", "params": {"symbol": "BTCUSDT", "binary": "false"}, "data": data}
        found: Any = parse(parser(), frame).messages[0]
        assert (found.symbol, found.side, found.size) == ("BTC/USDT", "buy", 1.4)
        reply = {"topic": "depth", "event": "sub", "params": {"symbol": "BTCUSDT"}, "code": "0", "msg": "ok"}
        assert parse(parser(), reply).rejected == (Reason.ACKNOWLEDGED,)


class TestConnections:
    def test_each_category_has_its_address(self) -> None:
        known = list(parser("").instruments)
        found = BybitAdapter().connections(known, frozenset({"trade", "ohlcv", "level1"}))
        assert [item.url for item in found] == [V5 + "spot", V5 + "linear", V5 + "inverse"]
        arguments = [msgspec.json.decode(request)["args"] for request in found[0].requests]
        assert all(len(some) <= 10 for some in arguments)
        assert {"orderbook.1.BTCUSDT", "kline.1.BTCUSDT", "publicTrade.BTCUSDT"} <= set(arguments[0])

    def test_a_parser_without_a_list_reads_contracts(self) -> None:
        read = BybitAdapter().parser(InstrumentList())
        assert isinstance(read, BybitParser)
        read.opened("wss://stream.bybit.com/realtime_public")
        assert parse(read, trade("LTCUSDT")).messages[0].symbol == "LTC/USDT:USDT"  # type: ignore[attr-defined]
