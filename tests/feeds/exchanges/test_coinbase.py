"""Coinbase: a recorded session of the Exchange, and frames of Advanced Trade and International."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from coinstream.errors import FeedError
from coinstream.feeds.exchanges import exchange_at
from coinstream.feeds.exchanges.coinbase import (
    CoinbaseAdapter,
    CoinbaseExchangeAdapter,
    CoinbaseInternationalAdapter,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.live import DirectFeed
from coinstream.feeds.parser import Gap, Parser
from coinstream.messages import Book, DerivativeTicker, Level1, Ohlcv, Price, Trade
from tests.feeds.exchanges.sessions import excerpt, instruments_of, replayed, shared
from tests.feeds.frames import only, parse, span

AT = "2024-11-07T00:00:00.015Z"


def parser() -> Parser:
    return CoinbaseAdapter().parser(InstrumentList())


def match(trade_id: int, **more: Any) -> dict[str, Any]:
    return {
        **{"type": "match", "trade_id": trade_id, "side": "sell", "size": "985", "price": "0.5", "time": AT},
        **{"product_id": "SKL-USD", "sequence": 177100030, **more},
    }


class TestRecording:
    def test_the_excerpt_parses_without_a_fault(self) -> None:
        known = instruments_of(CoinbaseAdapter(), excerpt("coinbase.instruments.gz"))
        session = replayed(CoinbaseAdapter(), excerpt("coinbase.ws.gz"), known)
        assert (session.faults, session.gaps) == ({}, 0)
        assert len(session.of(Trade)) == 107

    def test_the_whole_session_parses_and_is_never_crossed(self) -> None:
        known = instruments_of(CoinbaseAdapter(), shared("COINBASE.instruments.gz"))
        session = replayed(CoinbaseAdapter(), shared("COINBASE.ws.28.0.gz"), known)
        assert (session.faults, session.gaps, session.stats.flags) == ({}, 0, {})
        assert (session.stats.frames, session.stats.accepted) == (9950, 3104)
        assert len(session.of(Trade)) == 107
        quotes: Any = session.of(Level1)
        assert all(quote.best_bid < quote.best_ask for quote in quotes)

    def test_the_taker_is_on_the_other_side_of_the_maker(self) -> None:
        known = instruments_of(CoinbaseAdapter(), excerpt("coinbase.instruments.gz"))
        trades: Any = replayed(CoinbaseAdapter(), excerpt("coinbase.ws.gz"), known).of(Trade, "BAND/GBP")
        # The ticker of the same trade says that its taker bought.
        assert (trades[0].trade_id, trades[0].side, trades[0].size) == ("881613", "buy", 0.04)


class TestExchange:
    def test_a_bad_level_does_not_lose_the_snapshot(self) -> None:
        snapshot = {"type": "snapshot", "product_id": "YFI-USD", "asks": [["40584.89", "0.039985"]]}
        snapshot["bids"] = [["40533.24", "0.020416"], ["40531.19", "0.-10000"]]
        found = parse(parser(), snapshot)
        assert [type(item) for item in found.messages] == [Book, Level1]
        assert list(found.messages[0].bids) == [(40533.24, 0.020416)]  # type: ignore[attr-defined]
        assert found.rejected == (Reason.BAD_VALUE,)
        assert "0.-10000" in found.detail

    def test_a_hole_in_the_trades_of_a_product_is_a_gap(self) -> None:
        read = parser()
        trade: Any = parse(read, match(7)).messages[0]
        assert (trade.side, trade.size) == ("buy", 985)
        assert parse(read, match(7)).rejected == (Reason.DUPLICATE,)
        assert span(parse(read, match(10)).gap) == ("SKL/USD", 8, 9)

    def test_a_product_that_is_not_listed_is_read_from_its_name(self) -> None:
        found: Any = parse(parser(), match(1, product_id="GYEN-USD")).messages[0]
        assert found.symbol == "GYEN/USD"
        assert parse(parser(), match(1, product_id="A-B-C")).rejected == (Reason.UNKNOWN_SYMBOL,)


class TestAdvanced:
    def frame(self, channel: str, *events: Any, number: int = 0) -> dict[str, Any]:
        head = {"channel": channel, "timestamp": "2023-02-09T20:32:50.714964855Z", "sequence_num": number}
        return {**head, "events": list(events)}

    def test_trades_come_newest_first(self) -> None:
        row = {"product_id": "ETH-USD", "price": "1260.01", "size": "0.3", "side": "BUY", "time": AT}
        rows = [row | {"trade_id": "9"}, row | {"trade_id": "8"}]
        frame = self.frame("market_trades", {"type": "snapshot", "trades": rows})
        trades = [item for item in parse(parser(), frame).messages if isinstance(item, Trade)]
        assert [(trade.trade_id, trade.side) for trade in trades] == [("8", "sell"), ("9", "sell")]

    def test_ids_of_real_trades_grow_by_one(self) -> None:
        # Frames of 2025-12-31, see https://github.com/ccxt/ccxt/issues/27606.
        told: tuple[tuple[tuple[str, str, str], ...], ...] = (
            (("929248657", "88355.59", "SELL"),),
            (("929248658", "88355.59", "SELL"),),
            (("929248659", "88355.58", "BUY"),),
            (("929248663", "88355.58", "BUY"), ("929248662", "88355.59", "SELL")),
        )
        found, trades, gaps = parser(), list[Trade](), list[Gap]()
        for number, rows in enumerate(told, 1851):
            entries = [
                {"product_id": "BTC-USD", "trade_id": name, "price": price, "size": "0.001", "side": side}
                | {"time": "2025-12-31T06:00:12.44524Z"}
                for name, price, side in rows
            ]
            frame = self.frame("market_trades", {"type": "update", "trades": entries}, number=number)
            parsed = parse(found, frame)
            trades += [item for item in parsed.messages if isinstance(item, Trade)]
            gaps += parsed.gaps
        assert [trade.trade_id for trade in trades] == [f"9292486{n}" for n in (57, 58, 59, 62, 63)]
        # The lower price is the best bid: its maker buys, so the taker sells.
        assert [trade.side for trade in trades] == ["buy", "buy", "sell", "buy", "sell"]
        assert [(gap.first, gap.last) for gap in gaps] == [(929248660, 929248661)]

    def test_candles_last_five_minutes(self) -> None:
        row = {"start": "1688998200", "high": "1867.72", "low": "1865.63", "open": "1867.38"}
        row |= {"close": "1866.81", "volume": "0.2", "product_id": "ETH-USD"}
        candle = only(parse(parser(), self.frame("candles", {"type": "snapshot", "candles": [row]})))
        assert isinstance(candle, Ohlcv)
        assert (candle.timeframe, candle.volume, candle.close_time.minute) == ("5m", 0.2, 15)

    def test_futures_are_in_the_list(self) -> None:
        details = {"contract_root_unit": "BTC", "contract_size": "0.01"}
        expiry = {"contract_expiry": "2024-06-28T15:00:00Z", "contract_expiry_type": "EXPIRING"}
        product = {
            **{"product_id": "BIT-28JUN24-CDE", "product_type": "FUTURE", "quote_currency_id": "USD"},
            "future_product_details": details | expiry,
        }
        body = msgspec.json.encode({"products": [product]})
        (found,) = CoinbaseAdapter().parse_instruments("https://api.coinbase.com/x", body)
        assert (found.symbol, found.contract_size) == ("BTC/USD:USD-240628", 0.01)


class TestInternational:
    def read(self, frame: dict[str, Any], parser: Parser | None = None) -> Any:
        return parse(parser or CoinbaseInternationalAdapter().parser(InstrumentList()), frame)

    def test_quotes_and_matches(self) -> None:
        frame = {
            **{"sequence": 106920921, "bid_price": "0.19717", "bid_qty": "5116", "ask_price": "0.19724"},
            **{
                "ask_qty": "6000",
                "channel": "LEVEL1",
                "type": "UPDATE",
                "time": AT,
                "product_id": "DOGE-PERP",
            },
        }
        quote = only(self.read(frame))
        assert (quote.symbol, quote.bid_size, quote.ask_size) == ("DOGE/USDC:USDC", 5116, 6000)
        trade = {"match_id": "7", "trade_price": "0.2", "trade_qty": "10", "aggressor_side": "SELL"}
        trade |= {
            "channel": "MATCH",
            "type": "UPDATE",
            "time": AT,
            "product_id": "DOGE-PERP",
            "sequence": "5",
        }
        found = self.read(trade).messages
        assert [type(item) for item in found] == [Trade, Price]
        assert (found[0].side, found[0].trade_id) == ("sell", "7")

    def test_a_book_is_a_snapshot_and_changes(self) -> None:
        read = CoinbaseInternationalAdapter().parser(InstrumentList())
        head = {"channel": "LEVEL2", "time": AT, "product_id": "TON-PERP"}
        change = head | {
            "sequence": 11,
            "type": "UPDATE",
            "changes": [["BUY", "4.9", "2"], ["SELL", "6", "1"]],
        }
        assert self.read(change, read).rejected == (Reason.BOOK_UNSYNCED,)
        whole = head | {"sequence": 10, "type": "SNAPSHOT", "bids": [["4.8", "5"]], "asks": [["6.6", "2"]]}
        assert self.read(whole, read).messages[-1].best_bid == 4.8
        quote = self.read(change, read).messages[-1]
        assert (quote.best_bid, quote.best_ask) == (4.9, 6)
        assert self.read(change, read).rejected == (Reason.OUT_OF_DATE,)

    def test_figures_are_merged(self) -> None:
        read = CoinbaseInternationalAdapter().parser(InstrumentList())
        head = {"time": AT, "product_id": "APE-PERP", "type": "SNAPSHOT"}
        risk = {"channel": "RISK", "index_price": "1.037", "mark_price": "1.0344", "limit_up": "1.0888"}
        only(self.read(head | risk, read))
        figures = only(self.read(head | {"channel": "FUNDING", "funding_rate": "0.000005"}, read))
        assert isinstance(figures, DerivativeTicker)
        assert (figures.mark_price, figures.index_price, figures.funding_rate) == (1.0344, 1.037, 5e-06)

    def test_other_frames_have_their_reason(self) -> None:
        assert self.read({"channel": "SUBSCRIPTIONS", "type": "SNAPSHOT"}).rejected == (Reason.ACKNOWLEDGED,)
        assert self.read({"type": "REJECT", "message": "no key"}).rejected == (Reason.REFUSED,)
        assert self.read({"channel": "NEW", "type": "UPDATE"}).rejected == (Reason.UNKNOWN,)

    def test_candles(self) -> None:
        row = {"time": AT, "low": "1", "high": "4", "open": "2", "close": "3", "volume": "7"}
        frame = {"channel": "CANDLES_ONE_HOUR", "type": "SNAPSHOT", "product_id": "BTC-PERP"}
        assert only(self.read(frame | {"candles": [row]})).timeframe == "1h"


class TestConnections:
    def test_a_feed_of_signed_subscriptions_is_refused(self) -> None:
        with pytest.raises(FeedError, match="signed subscriptions only"):
            DirectFeed(CoinbaseInternationalAdapter(), ["BTC/USDC:USDC"], "intx")

    @pytest.mark.parametrize(
        ("url", "exchange"),
        [
            ("wss://ws-feed.pro.coinbase.com", "coinbase"),
            ("wss://ws-feed.gdax.com", "coinbase"),
            ("wss://advanced-trade-ws.coinbase.com", "coinbase"),
            ("wss://ws-md.international.coinbase.com", "coinbaseinternational"),
        ],
    )
    def test_the_address_tells_the_exchange(self, url: str, exchange: str) -> None:
        assert exchange_at(url) == exchange

    def test_requests_of_each_feed(self) -> None:
        known = list(instruments_of(CoinbaseAdapter(), excerpt("coinbase.instruments.gz")))[:2]
        types = frozenset({"trade", "book", "level1", "price"})
        (advanced,) = CoinbaseAdapter().connections(known, types)
        channels = [msgspec.json.decode(request)["channel"] for request in advanced.requests]
        assert channels == ["ticker", "market_trades", "level2", "heartbeats"]
        (plain,) = CoinbaseExchangeAdapter().connections(known, types)
        assert [msgspec.json.decode(request)["channels"] for request in plain.requests] == [
            ["ticker", "matches", "level2_batch", "heartbeat"]
        ]
