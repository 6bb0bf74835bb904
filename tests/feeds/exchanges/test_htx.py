"""HTX: recorded sessions of spot and swaps, and frames of the channels that they lack."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from coinstream.feeds.exchanges.htx import HtxAdapter
from coinstream.feeds.exchanges.htx.instruments import expiry
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Frame, Parser
from coinstream.messages import DerivativeTicker, Level1, Liquidation, Ohlcv, Price, Trade
from tests.feeds.exchanges.sessions import excerpt, instruments_of, replayed, shared
from tests.feeds.frames import only, parse, span

TRADE = {"amount": 62, "ts": 1572912028237, "id": 7, "price": 200.0, "direction": "sell"}


def instruments() -> InstrumentList:
    return instruments_of(HtxAdapter(), excerpt("htx.instruments.gz"))


def parser() -> Parser:
    return HtxAdapter().parser(instruments())


def push(channel: str, tick: Any, ts: int = 1572912028352) -> dict[str, Any]:
    return {"ch": f"market.{channel}", "ts": ts, "tick": tick}


class TestRecording:
    @pytest.mark.parametrize("name", ["htx.ws.gz", "htx-swap.ws.gz"])
    def test_the_excerpts_parse_without_a_fault(self, name: str) -> None:
        session = replayed(HtxAdapter(), excerpt(name), instruments())
        assert session.faults == {}
        assert session.of(Trade)
        assert session.of(Level1)

    def test_the_spot_session_parses(self) -> None:
        known = instruments_of(HtxAdapter(), shared("HUOBI.instruments.gz"))
        session = replayed(HtxAdapter(), shared("HUOBI.ws.44.0.head.gz"), known)
        assert (session.faults, session.stats.accepted, len(session.of(Trade))) == ({}, 187, 53)
        assert session.stats.rejected[Reason.HEARTBEAT] == 3
        trade: Any = session.of(Trade, "TRIO/ETH")[0]
        assert (trade.trade_id, trade.trade_price, trade.size) == ("100045088885", 9.2e-07, 20995.88)
        quotes: Any = session.of(Level1)
        assert all(quote.best_bid < quote.best_ask for quote in quotes)

    def test_the_swap_session_parses(self) -> None:
        known = instruments_of(HtxAdapter(), shared("HUOBI_SWAP.instruments.gz"))
        session = replayed(HtxAdapter(), shared("HUOBI_SWAP.ws.1.0.head.gz"), known)
        assert (session.faults, session.stats.accepted, len(session.of(Trade))) == ({}, 439, 7)
        trade: Any = session.of(Trade, "ATOM/USD:ATOM")[0]
        assert trade.size == pytest.approx(2.2569881997133625)  # as the exchange computed it itself


class TestNames:
    @pytest.mark.parametrize(
        ("period", "at", "wanted"),
        [
            ("CW", "2019-11-05T00:00:00", "2019-11-08"),
            ("CW", "2019-11-08T08:00:00", "2019-11-15"),
            ("CW", "2019-11-08T07:59:59", "2019-11-08"),
            ("NW", "2021-07-22T22:00:00", "2021-07-30"),
            ("CQ", "2021-07-22T22:00:00", "2021-09-24"),
            ("NQ", "2021-07-22T22:00:00", "2021-12-31"),
            ("CQ", "2020-03-20T12:00:00", "2020-06-26"),
        ],
    )
    def test_a_period_and_a_time_tell_the_expiry(self, period: str, at: str, wanted: str) -> None:
        found = expiry(period, datetime.fromisoformat(at).replace(tzinfo=UTC))
        assert f"{found:%Y-%m-%d}" == wanted

    @pytest.mark.parametrize(
        ("name", "symbol", "size"),
        [
            ("BTC_CW", "BTC/USD:BTC-191108", 31),
            ("ETH_CQ", "ETH/USD:ETH-191227", 3.1),
            ("BTC200703", "BTC/USD:BTC-200703", 31),
            ("BTC-USD", "BTC/USD:BTC", 31),
            ("BTC-USDT", "BTC/USDT:USDT", 0.062),
            ("BTC-USDT-CW", "BTC/USDT:USDT-191108", 0.062),
            ("BTC-USDT-210521-P-42000", "BTC/USDT:USDT-210521-42000-P", 0.062),
            ("btcusdt", "BTC/USDT", 62),
            ("qtumhusd", "QTUM/HUSD", 62),
        ],
    )
    def test_names_of_all_markets(self, name: str, symbol: str, size: float) -> None:
        found: Any = parse(parser(), push(f"{name}.trade.detail", {"data": [TRADE]})).messages[0]
        assert (found.symbol, found.side) == (symbol, "sell")
        assert found.size == pytest.approx(size)

    def test_unknown_names_are_told(self) -> None:
        for name in ("arbusd", "XYZ-USDT", "XYZ-USDT-210521-P-1"):
            found = parse(parser(), push(f"{name}.trade.detail", {"data": [TRADE]}))
            assert found.rejected == (Reason.UNKNOWN_SYMBOL,)


class TestFrames:
    def test_trades_of_a_frame_come_oldest_first(self) -> None:
        rows = [TRADE | {"id": 9, "ts": TRADE["ts"]}, TRADE | {"id": 8}, TRADE | {"id": 7}]
        found = parse(parser(), push("ETH_CQ.trade.detail", {"data": rows}))
        trades = [message.trade_id for message in found.messages if isinstance(message, Trade)]
        assert trades == ["7", "8", "9"]
        assert found.rejected == ()

    def test_changes_follow_their_numbers(self) -> None:
        read = parser()
        channel = "btcusdt.mbp.150"
        change = {"seqNum": 20, "prevSeqNum": 15, "bids": [[10.5, 2]], "asks": []}
        assert parse(read, push(channel, change)).rejected == (Reason.BOOK_UNSYNCED,)
        whole = {"seqNum": 15, "bids": [[10, 1]], "asks": [[11, 1]]}
        reply = {"rep": f"market.{channel}", "status": "ok", "data": whole, "ts": 1572912028352}
        quote: Any = parse(read, reply).messages[-1]
        assert (quote.best_bid, quote.best_ask) == (10.5, 11)
        lost = change | {"seqNum": 40, "prevSeqNum": 30}
        assert span(parse(read, push(channel, lost)).gap) == ("BTC/USDT", 21, 30)

    def test_high_frequency_depth_starts_with_a_snapshot(self) -> None:
        read, channel = parser(), "BTC_CQ.depth.size_150.high_freq"
        whole = {"asks": [[12000, 6]], "bids": [[10000, 5]], "event": "snapshot", "version": 7}
        quote: Any = parse(read, push(channel, whole)).messages[-1]
        assert (quote.bid_size, quote.ask_size) == (0.05, 0.05)
        change = {"asks": [], "bids": [[10000, 0], [9000, 9]], "event": "update", "version": 8}
        quote = parse(read, push(channel, change)).messages[-1]
        assert (quote.best_bid, quote.bid_size) == (9000, 0.1)
        lost = parse(read, push(channel, change | {"version": 10}))
        assert span(lost.gap) == ("BTC/USD:BTC-191227", 9, 9)

    def test_a_merged_depth_has_no_best_price(self) -> None:
        whole = {"asks": [[12000, 6]], "bids": [[10000, 5]], "ts": 1572912028352}
        for step in ("step1", "step5", "step7"):
            assert parse(parser(), push(f"btcusdt.depth.{step}", whole)).rejected == (Reason.OTHER_CHANNEL,)
        for step in ("step0", "step6"):
            assert parse(parser(), push(f"BTC-USD.depth.{step}", whole)).messages

    def test_best_levels_of_spot_and_contracts(self) -> None:
        spot = {"ask": 9434.09, "askSize": 0.3, "bid": 9422.13, "bidSize": 0.2, "quoteTime": 1588227079007}
        assert only(parse(parser(), push("btcusdt.bbo", spot))).ask_size == 0.3
        swap = {"bid": [10000, 5], "ask": [10001, 68], "ts": 1593561603500}
        assert only(parse(parser(), push("BTC-USD.bbo", swap))).bid_size == 0.05
        assert parse(parser(), push("BTC-USD.bbo", swap | {"ask": None})).rejected == (Reason.ONE_SIDED,)

    def test_tickers_and_candles_have_base_volumes(self) -> None:
        tick = {"id": 1572912000, "open": 8, "close": 10, "high": 11, "low": 7, "amount": 45.5, "vol": 4260}
        price = only(parse(parser(), push("BTC_CW.detail", tick)))
        assert isinstance(price, Price)
        assert (price.volume_24h, price.price_change_24h) == (45.5, 25)
        candle = only(parse(parser(), push("BTC_CW.kline.60min", tick)))
        assert isinstance(candle, Ohlcv)
        assert (candle.timeframe, candle.volume) == ("1h", 45.5)

    def test_figures_are_merged(self) -> None:
        read = parser()
        tick = {"id": 1, "open": "1", "close": "9582.9", "high": "1", "low": "1"}
        only(parse(read, push("BTC-USD.mark_price.1min", tick)))
        row = {
            **{"contract_code": "BTC-USD", "funding_time": "1592904780000", "funding_rate": "0.0001"},
            **{"estimated_rate": "0.0002", "settlement_time": "1592913600000"},
        }
        notice = {"op": "notify", "topic": "public.BTC-USD.funding_rate", "ts": 1592904820339, "data": [row]}
        figures = only(parse(read, notice))
        assert isinstance(figures, DerivativeTicker)
        assert (figures.mark_price, figures.funding_rate) == (9582.9, 0.0001)
        assert figures.next_funding_time == datetime(2020, 6, 23, 12, tzinfo=UTC)
        interest = {"volume": 684, "amount": 0.684, "contract_code": "BTC-USD"}
        frame = {"ch": "market.BTC-USD.open_interest", "data": [interest], "ts": 1592904820400}
        assert only(parse(read, frame)).open_interest == 0.684

    def test_liquidations(self) -> None:
        row = {
            **{"contract_code": "BTC200703", "direction": "sell", "offset": "close", "volume": 1450},
            **{"price": 10000, "created_at": 1593561769833},
        }
        topic = "public.BTC.liquidation_orders"
        found = only(parse(parser(), {"op": "notify", "topic": topic, "ts": 1593561769911, "data": [row]}))
        assert isinstance(found, Liquidation)
        assert (found.symbol, found.side, found.size) == ("BTC/USD:BTC-200703", "sell", 14.5)

    def test_a_frame_that_is_cut_off_is_malformed(self) -> None:
        packed = gzip.compress(msgspec.json.encode(push("BTC-USD.trade.detail", {"data": [TRADE]})))
        assert parse(parser(), packed).messages
        assert parse(parser(), packed[:-9]).rejected == (Reason.MALFORMED,)


class TestConnections:
    def test_pings_are_answered(self) -> None:
        adapter = HtxAdapter()
        packed = gzip.compress(b'{"ping":1618678073643}')
        assert adapter.answer(Frame(0, packed)) == b'{"pong":1618678073643}'
        assert adapter.answer(Frame(0, b'{"op":"ping","ts":"7"}')) == b'{"op":"pong","ts":"7"}'
        assert adapter.answer(Frame(0, b'{"ch":"x"}')) is None
        assert adapter.answer(Frame(0, b"\x1f\x8b")) is None

    def test_each_product_line_has_its_addresses(self) -> None:
        known = instruments()
        names = ("trioeth", "ATOM-USD", "BTC-USDT", "BTC210723")
        some = [item for item in (known.get(name) for name in names) if item is not None]
        types = frozenset({"trade", "book", "derivativeticker", "liquidation"})
        found = {item.url: item.requests for item in HtxAdapter().connections(some, types)}
        assert set(found) == {
            "wss://api.huobi.pro/ws",
            *(f"wss://api.hbdm.com/{path}" for path in ("ws", "swap-ws", "linear-swap-ws", "ws_index")),
            *(f"wss://api.hbdm.com/{line}notification" for line in ("", "swap-", "linear-swap-")),
        }
        notices = [msgspec.json.decode(item) for item in found["wss://api.hbdm.com/notification"]]
        assert [item["topic"] for item in notices] == ["public.BTC.liquidation_orders"]
