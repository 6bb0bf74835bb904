"""Trades that a feed missed are fetched over REST: after a dropped frame, and after a broken connection."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import pytest

from coinstream.feeds.exchanges import adapters
from coinstream.feeds.feed_stats import Anomaly
from coinstream.feeds.live import DirectFeed, Timeouts
from coinstream.messages import Trade
from tests.feeds.running import Running
from tests.feeds.trade_server import TradeServer

COUNT = 12
LOST = (6, 7)
START_MS = 1_780_000_000_000
LONG_TIMEOUTS = Timeouts(frozen_after_s=600, silent_after_s=600, first_retry_s=0.02, longest_retry_s=0.2)


@dataclass(frozen=True)
class Venue:
    """Trades of one exchange: frames of the stream, and the reply over REST.

    Attributes:
        exchange: its id.
        symbol: unified symbol.
        frame: returns the frame of a trade.
        row: returns a trade as REST lists it.
        reply: returns the reply with these rows.
        path: of the request.
        is_numbered: whether a dropped frame shows in the numbers of the trades.
        newest_first: order of the rows over REST.
        instruments: reply with the list of instruments, where none is packaged.
    """

    exchange: str
    symbol: str
    frame: Callable[[int], Any]
    row: Callable[[int], Any]
    reply: Callable[[list[Any]], Any]
    path: str
    is_numbered: bool = False
    newest_first: bool = True
    instruments: Any = None

    def rest(self, numbers: Sequence[int]) -> Any:
        """Return the reply with these trades."""
        ordered: Iterable[int] = reversed(numbers) if self.newest_first else numbers
        return self.reply([self.row(number) for number in ordered])


def ms(number: int) -> int:
    return START_MS + number * 1000


def iso(number: int) -> str:
    return datetime.fromtimestamp(ms(number) / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def price(number: int) -> str:
    return f"{100 + number}.5"


def okx_row(number: int) -> Any:
    return {
        **{"instId": "BTC-USDT", "tradeId": str(number), "px": price(number), "sz": "2"},
        **{"side": "sell", "ts": str(ms(number))},
    }


def binance_row(number: int) -> Any:
    return {"a": number, "p": price(number), "q": "2", "f": number, "l": number, "T": ms(number), "m": True}


def kraken_row(number: int) -> Any:
    row = {"symbol": "BTC/USD", "side": "sell", "price": 100.5 + number, "qty": 2, "trade_id": number}
    return row | {"timestamp": iso(number)}


def coinbase_row(number: int) -> Any:
    row = {"trade_id": number, "price": price(number), "size": "2", "side": "buy", "time": iso(number)}
    return row | {"product_id": "BTC-USD"}


def advanced_row(number: int) -> Any:
    return {**coinbase_row(number), "trade_id": str(number), "side": "BUY"}


def deribit_row(number: int) -> Any:
    return {
        **{"trade_seq": number, "trade_id": str(number), "timestamp": ms(number), "price": 100.5 + number},
        **{"instrument_name": "BTC_USDC-PERPETUAL", "direction": "sell", "amount": 2},
    }


def gate_row(number: int) -> Any:
    return {
        **{"id": str(number * 10), "create_time_ms": str(ms(number)), "create_time": str(ms(number) // 1000)},
        **{"currency_pair": "BTC_USDT", "side": "sell", "amount": "2", "price": price(number)},
    }


def kucoin_row(number: int) -> Any:
    row = {"sequence": str(number * 10), "price": price(number), "size": "2", "side": "sell"}
    return row | {"time": ms(number) * 1_000_000}


def bitmex_row(number: int) -> Any:
    row = {"timestamp": iso(number), "symbol": "XBTUSD", "side": "Sell", "size": 2 * (100.5 + number)}
    return row | {"price": 100.5 + number, "trdMatchID": f"m{number}"}


def poloniex_row(number: int) -> Any:
    row = {"id": str(number), "price": price(number), "quantity": "2", "takerSide": "sell"}
    return row | {"createTime": ms(number), "ts": ms(number)}


def bitget_row(number: int) -> Any:
    row = {"tradeId": str(number), "price": price(number), "size": "2", "side": "sell", "ts": str(ms(number))}
    return row | {"symbol": "BTCUSDT"}


def cryptocom_row(number: int) -> Any:
    row = {"d": str(number), "t": ms(number), "p": price(number), "q": "2", "s": "SELL"}
    return row | {"i": "BTC_USDT"}


def upbit_row(number: int) -> Any:
    row = {"timestamp": ms(number), "trade_price": 100.5 + number, "trade_volume": 2.0, "ask_bid": "ASK"}
    return row | {"sequential_id": number, "market": "USDT-BTC"}


def bitflyer_row(number: int) -> Any:
    row = {"id": number, "side": "SELL", "price": 100.5 + number, "size": 2.0}
    return row | {"exec_date": iso(number).removesuffix("Z")}


def htx_row(number: int) -> Any:
    return {"amount": 2, "ts": ms(number), "price": 100.5 + number, "direction": "sell"}


def ascendex_row(number: int) -> Any:
    return {"seqnum": number * 10, "p": price(number), "q": "2", "ts": ms(number), "bm": True}


def bybit_row(number: int) -> Any:
    row = {"execId": f"e{number}", "symbol": "BTCUSDT", "price": price(number), "size": "2"}
    return row | {"side": "Sell", "time": str(ms(number)), "isBlockTrade": False}


def bybit_frame(number: int) -> Any:
    row = {"i": f"e{number}", "T": ms(number), "p": price(number), "v": "2", "S": "Sell", "s": "BTCUSDT"}
    return {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": ms(number), "data": [row | {"L": "x"}]}


VENUES = [
    Venue(
        "binance",
        "BTC/USDT",
        lambda n: {"e": "aggTrade", "E": ms(n), "s": "BTCUSDT", **binance_row(n)},
        binance_row,
        lambda rows: rows,
        "/api/v3/aggTrades",
        is_numbered=True,
        newest_first=False,
    ),
    Venue(
        "kraken",
        "BTC/USD",
        lambda n: {"channel": "trade", "type": "update", "data": [kraken_row(n)]},
        lambda n: [price(n), "2", ms(n) / 1000, "s", "m", "", n],
        lambda rows: {"error": [], "result": {"XXBTZUSD": rows, "last": "1"}},
        "/0/public/Trades",
        is_numbered=True,
        newest_first=False,
    ),
    Venue(
        "coinbaseexchange",
        "BTC/USD",
        lambda n: {"type": "match", **coinbase_row(n)},
        coinbase_row,
        lambda rows: rows,
        "/products/BTC-USD/trades",
        is_numbered=True,
        instruments=[{"id": "BTC-USD", "base_currency": "BTC", "quote_currency": "USD", "status": "online"}],
    ),
    Venue(
        "coinbase",
        "BTC/USD",
        lambda n: {
            **{"channel": "market_trades", "timestamp": iso(n), "sequence_num": n},
            "events": [{"type": "update", "trades": [advanced_row(n)]}],
        },
        advanced_row,
        lambda rows: {"trades": rows},
        "/api/v3/brokerage/market/products/BTC-USD/ticker",
        is_numbered=True,
    ),
    Venue(
        "okx",
        "BTC/USDT",
        lambda n: {"arg": {"channel": "trades", "instId": "BTC-USDT"}, "data": [okx_row(n)]},
        okx_row,
        lambda rows: {"code": "0", "data": rows},
        "/api/v5/market/history-trades",
        is_numbered=True,
    ),
    Venue(
        "deribit",
        "BTC/USDC:USDC",
        lambda n: {
            "method": "subscription",
            "params": {"channel": "trades.BTC_USDC-PERPETUAL.100ms", "data": [deribit_row(n)]},
        },
        deribit_row,
        lambda rows: {"result": {"trades": rows}},
        "/api/v2/public/get_last_trades_by_instrument",
        is_numbered=True,
        newest_first=False,
    ),
    Venue(
        "htx",
        "BTC/USDT",
        lambda n: {
            **{"ch": "market.btcusdt.trade.detail", "ts": ms(n)},
            "tick": {"ts": ms(n), "data": [htx_row(n) | {"id": f"1{n}", "tradeId": n}]},
        },
        lambda n: {"id": n, "ts": ms(n), "data": [htx_row(n) | {"id": f"1{n}", "trade-id": n}]},
        lambda rows: {"status": "ok", "ts": ms(COUNT), "data": rows},
        "/market/history/trade",
        is_numbered=True,
    ),
    Venue(
        "bybit",
        "BTC/USDT:USDT",
        bybit_frame,
        bybit_row,
        lambda rows: {"retCode": 0, "result": {"category": "linear", "list": rows}},
        "/v5/market/recent-trade",
    ),
    Venue(
        "bitstamp",
        "BTC/USD",
        lambda n: {
            **{"event": "trade", "channel": "live_trades_btcusd"},
            "data": {
                **{"id": n, "timestamp": str(ms(n) // 1000), "price": price(n), "amount": "2", "type": 1},
                "microtimestamp": str(ms(n) * 1000),
            },
        },
        lambda n: {"date": str(ms(n) // 1000), "tid": str(n), "price": price(n), "amount": "2", "type": "1"},
        lambda rows: rows,
        "/api/v2/transactions/btcusd/",
    ),
    Venue(
        "gate",
        "BTC/USDT",
        lambda n: {"channel": "spot.trades", "event": "update", "result": gate_row(n)},
        gate_row,
        lambda rows: rows,
        "/api/v4/spot/trades",
    ),
    Venue(
        "kucoin",
        "BTC/USDT",
        lambda n: {
            **{"type": "message", "topic": "/market/match:BTC-USDT", "subject": "trade.l3match"},
            "data": {**kucoin_row(n), "symbol": "BTC-USDT", "tradeId": f"t{n}"},
        },
        kucoin_row,
        lambda rows: {"code": "200000", "data": rows},
        "/api/v1/market/histories",
    ),
    Venue(
        "bitmex",
        "BTC/USD:BTC",
        lambda n: {"table": "trade", "action": "insert", "data": [bitmex_row(n)]},
        bitmex_row,
        lambda rows: rows,
        "/api/v1/trade",
        newest_first=False,
    ),
    Venue(
        "poloniex",
        "BTC/USDT",
        lambda n: {"channel": "trades", "data": [{"symbol": "BTC_USDT", **poloniex_row(n)}]},
        poloniex_row,
        lambda rows: rows,
        "/markets/BTC_USDT/trades",
    ),
    Venue(
        "bitget",
        "BTC/USDT",
        lambda n: {
            **{"action": "update", "arg": {"instType": "SPOT", "channel": "trade", "instId": "BTCUSDT"}},
            "data": [bitget_row(n)],
        },
        bitget_row,
        lambda rows: {"code": "00000", "data": rows},
        "/api/v2/spot/market/fills",
    ),
    Venue(
        "cryptocom",
        "BTC/USDT",
        lambda n: {
            **{"code": 0, "method": "subscribe"},
            "result": {"channel": "trade", "instrument_name": "BTC_USDT", "data": [cryptocom_row(n)]},
        },
        cryptocom_row,
        lambda rows: {"code": 0, "result": {"data": rows}},
        "/exchange/v1/public/get-trades",
    ),
    Venue(
        "upbit",
        "BTC/USDT",
        lambda n: {"type": "trade", "code": "USDT-BTC", **upbit_row(n), "trade_timestamp": ms(n)},
        upbit_row,
        lambda rows: rows,
        "/v1/trades/ticks",
    ),
    Venue(
        "bitflyer",
        "BTC/JPY",
        lambda n: {
            "method": "channelMessage",
            "params": {"channel": "lightning_executions_BTC_JPY", "message": [bitflyer_row(n)]},
        },
        bitflyer_row,
        lambda rows: rows,
        "/v1/executions",
    ),
    Venue(
        "ascendex",
        "BTC/USDT",
        lambda n: {"m": "trades", "symbol": "BTC/USDT", "data": [ascendex_row(n)]},
        ascendex_row,
        lambda rows: {"code": 0, "data": {"data": rows}},
        "/api/pro/v1/trades",
        newest_first=False,
    ),
    Venue(
        "bitfinex",
        "BTC/USD",
        lambda n: (
            {"event": "subscribed", "channel": "trades", "chanId": 7, "symbol": "tBTCUSD"}
            if n in (1, max(LOST) + 1)
            else [7, "te", [n, ms(n), -2, 100.5 + n]]
        ),
        lambda n: [n, ms(n), -2, 100.5 + n],
        lambda rows: rows,
        "/v2/trades/tBTCUSD/hist",
    ),
]


def served(venue: Venue, *, breaks: bool) -> TradeServer:
    replies = {venue.path: venue.rest(range(1, COUNT + 1))}
    if venue.instruments is not None:
        url = adapters()[venue.exchange].instruments_urls[0]
        replies[urlsplit(url).path] = venue.instruments
    return TradeServer(venue.frame, replies, COUNT, LOST, breaks=breaks)


def feed_of(venue: Venue, server: TradeServer) -> DirectFeed:
    adapter = adapters()[venue.exchange](server.ws_url, server.rest_url)
    return DirectFeed(adapter, [venue.symbol], "trades", ("trade",), LONG_TIMEOUTS)


def check(venue: Venue, server: TradeServer, *, breaks: bool) -> None:
    """Run the feed until it has the lost trades, and compare them with what the exchange has."""
    feed = feed_of(venue, server)
    wanted = {100.5 + number for number in LOST}
    with Running(feed) as running:
        running.wait(
            lambda: wanted <= {m.trade_price for m in list(running.messages) if isinstance(m, Trade)},
            "the missing trades",
        )
        last = 100.5 + COUNT
        running.wait(
            lambda: last in {m.trade_price for m in list(running.messages) if isinstance(m, Trade)},
            "the last trade",
        )
        running.wait(lambda: feed.stats.flags[Anomaly.RECOVERED], "the recovery")
    trades = [message for message in running.messages if isinstance(message, Trade)]
    prices = [trade.trade_price for trade in trades]
    assert len(prices) == len(set(prices))
    assert {(trade.size, trade.side, trade.symbol) for trade in trades} == {(2.0, "sell", venue.symbol)}
    recovered = [trade for trade in trades if trade.trade_price in wanted]
    assert [round(trade.timestamp.timestamp()) for trade in recovered] == [ms(n) // 1000 for n in LOST]
    assert venue.path in server.asked
    events = feed.stats.symbols[venue.symbol]
    assert (events.gaps, events.recovered, events.unrecovered) == (1, 1, 0)
    assert events.reconnects == int(breaks)


@pytest.mark.parametrize("venue", [v for v in VENUES if v.is_numbered], ids=lambda v: v.exchange)
def test_a_dropped_frame_is_recovered_where_trades_are_numbered(venue: Venue) -> None:
    with served(venue, breaks=False) as server:
        check(venue, server, breaks=False)


@pytest.mark.parametrize("venue", VENUES, ids=lambda v: v.exchange)
def test_trades_during_a_broken_connection_are_recovered(venue: Venue) -> None:
    with served(venue, breaks=True) as server:
        check(venue, server, breaks=True)


def test_a_gap_that_cannot_be_filled_is_reported() -> None:
    venue = next(venue for venue in VENUES if venue.exchange == "okx")
    with served(replace(venue, reply=lambda rows: {"data": []}), breaks=False) as server:
        feed = feed_of(venue, server)
        with Running(feed) as running:
            running.wait(lambda: feed.stats.flags[Anomaly.UNRECOVERED], "the report")
    assert feed.stats.symbols[venue.symbol].unrecovered == 1
    assert feed.stats.flags[Anomaly.RECOVERED] == 0


def test_an_exchange_without_old_trades_reports_the_gap_after_a_reconnect() -> None:
    def frame(number: int) -> Any:
        row = [ms(number) * 1_000_000, "Sell", (100 + number) * 10**8, 2 * 10**8]
        return {"symbol": "sBTCUSDT", "trades": [row], "type": "incremental", "sequence": number}

    venue = Venue("phemex", "BTC/USDT", frame, lambda n: n, lambda rows: rows, "")
    with served(venue, breaks=True) as server:
        feed = feed_of(venue, server)
        with Running(feed) as running:
            running.wait(lambda: feed.stats.flags[Anomaly.UNRECOVERED], "the report")
    assert feed.stats.symbols[venue.symbol].unrecovered == 1
