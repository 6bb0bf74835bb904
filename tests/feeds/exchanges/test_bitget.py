"""Bitget: a recorded session of v1, and frames of v2 and v3."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from coinstream.feeds.exchanges.bitget import BitgetAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parser import Parser
from coinstream.messages import Book, DerivativeTicker, Level1, Liquidation, Ohlcv, Price, Trade
from tests.feeds.exchanges.sessions import excerpt, instruments_of, replayed, shared
from tests.feeds.frames import only, parse, span

MS = "1730332859905"


def parser() -> Parser:
    adapter = BitgetAdapter()
    return adapter.parser(instruments_of(adapter, excerpt("bitget.instruments.gz")))


def v2(channel: str, name: str, *rows: Any, kind: str = "SPOT", action: str = "snapshot") -> dict[str, Any]:
    argument = {"instType": kind, "channel": channel, "instId": name}
    return {"action": action, "arg": argument, "data": list(rows), "ts": 1730332859917}


class TestRecording:
    def test_the_excerpt_parses_without_a_fault(self) -> None:
        known = instruments_of(BitgetAdapter(), excerpt("bitget.instruments.gz"))
        session = replayed(BitgetAdapter(), excerpt("bitget.ws.gz"), known)
        assert session.faults == {}
        assert {type(message) for message in session.messages} >= {Level1, Book, Price, Trade}

    def test_the_whole_session_parses_and_every_checksum_matches(self) -> None:
        known = instruments_of(BitgetAdapter(), shared("BITGET.instruments.gz"))
        session = replayed(BitgetAdapter(), shared("BITGET.ws.1.0.head.gz"), known)
        assert session.faults == {}
        assert session.stats.rejected == {
            Reason.OPENED: 1,
            Reason.SENT: 1,
            Reason.ACKNOWLEDGED: 32,
            Reason.TOP_UNCHANGED: 3,
        }
        assert session.stats.entries == {Reason.NO_SIZES: 73}
        quotes: Any = session.of(Level1)
        assert all(quote.best_bid < quote.best_ask for quote in quotes)

    def test_trades_of_a_frame_come_oldest_first(self) -> None:
        known = instruments_of(BitgetAdapter(), excerpt("bitget.instruments.gz"))
        trades: Any = replayed(BitgetAdapter(), excerpt("bitget.ws.gz"), known).of(Trade, "CULT/USDT")
        times = [trade.timestamp for trade in trades]
        assert times == sorted(times)
        assert (trades[-1].trade_price, trades[-1].size, trades[-1].side) == (3.507e-05, 271967, "sell")


class TestNames:
    @pytest.mark.parametrize(
        ("kind", "name", "symbol"),
        [
            ("SPOT", "EOSUSDT", "EOS/USDT"),
            ("mc", "BTCUSDT", "BTC/USDT:USDT"),
            ("COIN-FUTURES", "BTCUSD", "BTC/USD:BTC"),
            ("USDT-FUTURES", "BUSDUSDT", "BUSD/USDT:USDT"),
            ("USDC-FUTURES", "BTCPERP", "BTC/USDC:USDC"),
            ("COIN-FUTURES", "BTCUSD_240628", "BTC/USD:BTC-240628"),
        ],
    )
    def test_the_market_tells_what_a_name_means(self, kind: str, name: str, symbol: str) -> None:
        row = {"ts": MS, "price": "5", "size": "2", "side": "sell", "tradeId": "1"}
        trade: Any = parse(parser(), v2("trade", name, row, kind=kind)).messages[0]
        assert (trade.symbol, trade.size) == (symbol, 2)

    def test_a_spot_name_is_split_by_the_quote_currencies_of_spot(self) -> None:
        row = {"ts": MS, "price": "5", "size": "2", "side": "sell", "tradeId": "1"}
        trade: Any = parse(parser(), v2("trade", "RENDERUSDT", row)).messages[0]
        assert trade.symbol == "RENDER/USDT"
        assert parse(parser(), v2("trade", "ARBUSD", row)).rejected == (Reason.UNKNOWN_SYMBOL,)


class TestFrames:
    def test_a_ticker_of_a_future(self) -> None:
        row = {
            **{"instId": "BTCUSDT", "lastPr": "0.4706", "bidPr": "0.4705", "askPr": "0.4708"},
            **{"bidSz": "1367.3", "askSz": "2535.3", "open24h": "0.4737", "change24h": "-0.01569"},
            **{"fundingRate": "0.0001", "nextFundingTime": "1730361600000", "markPrice": "0.4705"},
            **{"indexPrice": "0.47080586", "holdingAmount": "8572031.1", "baseVolume": "2878355.9", "ts": MS},
        }
        found = parse(parser(), v2("ticker", "BTCUSDT", row, kind="USDT-FUTURES")).messages
        quote, figures, price = found
        assert isinstance(quote, Level1)
        assert (quote.bid_size, quote.ask_size) == (1367.3, 2535.3)
        assert isinstance(figures, DerivativeTicker)
        assert (figures.open_interest, figures.index_price) == (8572031.1, 0.47080586)
        assert isinstance(price, Price)
        assert [price.volume_24h, price.price_change_24h] == pytest.approx([2878355.9, -1.569])

    def test_one_sided_best_levels_are_no_quote(self) -> None:
        row = {"asks": [["1.4138", "4.58"]], "bids": [], "checksum": 0, "ts": MS}
        found = parse(parser(), v2("books1", "BTCUSDT", row, kind="USDT-FUTURES"))
        assert found.rejected == (Reason.ONE_SIDED,)

    def test_v3_trades_books_and_liquidations(self) -> None:
        read = parser()
        argument = {"instType": "usdt-futures", "topic": "publicTrade", "symbol": "BTCUSDT"}
        row = {"i": "7", "p": "76631.3", "v": "0.01", "S": "buy", "T": "1777358881008", "isRPI": "no"}
        frame: dict[str, Any] = {"action": "update", "arg": argument, "data": [row], "ts": 1777358881009}
        trade: Any = parse(read, frame).messages[0]
        assert (trade.symbol, trade.trade_id, trade.side) == ("BTC/USDT:USDT", "7", "buy")
        assert parse(read, frame).rejected == (Reason.DUPLICATE,)
        assert parse(read, frame | {"data": [row | {"i": True}]}).rejected == (Reason.BAD_VALUE,)
        book = {"a": [["102", "4"]], "b": [["101", "2"]], "checksum": 0, "seq": 9, "pseq": 0, "ts": MS}
        argument = argument | {"topic": "books"}
        parse(read, {"action": "snapshot", "arg": argument, "data": [book], "ts": 1})
        change = {"a": [], "b": [["101", "0"], ["100", "1"]], "seq": 12, "pseq": 9, "ts": MS}
        quote: Any = parse(read, {"action": "update", "arg": argument, "data": [change]}).messages[-1]
        assert (quote.best_bid, quote.best_ask) == (100, 102)
        lost = change | {"seq": 20, "pseq": 15}
        gap = parse(read, {"action": "update", "arg": argument, "data": [lost]}).gap
        assert span(gap) == ("BTC/USDT:USDT", 13, 15)
        rows = [{"symbol": "APEUSDT", "side": "buy", "price": "0.1649", "amount": "13.7", "ts": MS}]
        argument = {"instType": "usdt-futures", "topic": "liquidation"}
        found = only(parse(read, {"action": "update", "arg": argument, "data": rows}))
        assert isinstance(found, Liquidation)
        assert (found.symbol, found.size) == ("APE/USDT:USDT", 13.7)

    def test_candles_of_all_lengths(self) -> None:
        row = ["1649230080000", "3.454", "3.483", "3.425", "3.483", "33.3"]
        for interval, timeframe in (("1m", "1m"), ("4H", "4h"), ("1Dutc", "1d"), ("1W", "1w"), ("1M", "1M")):
            candle = only(parse(parser(), v2(f"candle{interval}", "EOSUSDT", row)))
            assert isinstance(candle, Ohlcv)
            assert (candle.timeframe, candle.volume) == (timeframe, 33.3)

    def test_replies(self) -> None:
        assert parse(parser(), b"pong").rejected == (Reason.HEARTBEAT,)
        assert parse(parser(), {"event": "subscribe", "arg": {}}).rejected == (Reason.ACKNOWLEDGED,)
        assert parse(parser(), {"event": "error", "code": 30001, "msg": "no"}).rejected == (Reason.REFUSED,)


def test_liquidations_come_over_v3() -> None:
    adapter = BitgetAdapter()
    known = instruments_of(adapter, excerpt("bitget.instruments.gz"))
    some = [item for item in known if item.symbol in ("BTC/USDT:USDT", "BTC/USD:BTC", "EOS/USDT")]
    (connection,) = adapter.connections(some, frozenset({"liquidation"}))
    assert connection.url == "wss://ws.bitget.com/v3/ws/public"
    arguments = msgspec.json.decode(connection.requests[0])["args"]
    assert [item["instType"] for item in arguments] == ["usdt-futures", "coin-futures"]


def test_futures_have_figures_and_spot_has_not() -> None:
    adapter = BitgetAdapter()
    known = instruments_of(adapter, excerpt("bitget.instruments.gz"))
    some = [item for item in known if item.symbol in ("BTC/USDT:USDT", "EOS/USDT")]
    (connection,) = adapter.connections(some, frozenset({"derivativeticker", "trade"}))
    wanted = {tuple(item.values()) for item in msgspec.json.decode(connection.requests[0])["args"]}
    assert wanted == {
        ("USDT-FUTURES", "ticker", "BTCUSDT"),
        ("USDT-FUTURES", "trade", "BTCUSDT"),
        ("SPOT", "trade", "EOSUSDT"),
    }
