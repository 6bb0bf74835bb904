"""HitBTC, FMFW and Bequant: their recordings, both protocols, their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.hitbtc import BequantAdapter, FmfwAdapter, HitbtcAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList, spot
from coinstream.feeds.parser import Gap, Parser
from coinstream.feeds.recordings import exchange_of, read_lines
from coinstream.messages import Level1, Ohlcv, Price, Trade
from tests.feeds.exchanges.recorded import (
    EXCERPTS,
    instruments_of,
    named,
    parse,
    play,
    shared,
    subscribed,
)

KNOWN: Final = InstrumentList([spot("BTCUSDT", "BTC", "USDT"), spot("ETHBTC", "ETH", "BTC")])
MS: Final = 1633806854642
FAMILY: Final = [
    (HitbtcAdapter, "hitbtc.gz", "HITBTC", "HITBTC.ws.2.0.head.gz"),
    (FmfwAdapter, "fmfw.gz", "FMFW", "FMFW.ws.1.0.head.gz"),
    (BequantAdapter, "bequant.gz", "BEQUANT", "BEQUANT.ws.3.0.head.gz"),
]


def v3() -> Parser:
    return FmfwAdapter().parser(KNOWN)


@pytest.mark.parametrize(("adapter", "excerpt", "name", "session"), FAMILY)
def test_the_excerpt_parses_without_faults(adapter: Any, excerpt: str, name: str, session: str) -> None:
    found = play(adapter(), EXCERPTS / excerpt)
    found.check()
    assert found.gaps == []
    assert {message.exchange_id for message in found.of(Level1)} == {adapter.exchange}
    assert exchange_of(found.urls[0]) == adapter.exchange


@pytest.mark.parametrize(("adapter", "excerpt", "name", "session"), FAMILY)
def test_the_whole_recording_matches_an_independent_reading(
    adapter: Any, excerpt: str, name: str, session: str
) -> None:
    path = shared(session)
    found = play(adapter(), path, instruments_of(adapter(), name))
    found.check()
    assert found.gaps == []
    known = instruments_of(adapter(), name)
    trades, tops = independent(path)
    assert [(trade.trade_price, trade.size, trade.side) for trade in found.of(Trade)] == trades
    last = {quote.symbol: (quote.best_bid, quote.best_ask) for quote in found.of(Level1)}
    assert last == {named(known, identity)[0].symbol: top for identity, top in tops.items()}


def independent(path: Path) -> tuple[list[Any], dict[str, tuple[float, float]]]:
    """Read the trades and the last top of each book with nothing of the parser."""
    trades: list[Any] = []
    books: dict[str, tuple[dict[str, str], dict[str, str]]] = {}
    for line in read_lines(path):
        if line.reason is not None or line.frame.url is not None:
            continue
        frame = msgspec.json.decode(line.frame.payload)
        method, body = frame.get("method", ""), frame.get("params", {})
        if "Trades" in method:
            trades += [(float(row["price"]), float(row["quantity"]), row["side"]) for row in body["data"]]
        elif frame.get("ch") == "trades":
            for rows in frame["update"].values():
                trades += [(float(row["p"]), float(row["q"]), row["s"]) for row in rows]
        elif "Orderbook" in method:
            rows = [[(row["price"], row["size"]) for row in body[side]] for side in ("bid", "ask")]
            change(books, body["symbol"], rows, method.startswith("snapshot"))
        elif frame.get("ch") == "orderbook/full":
            for name, row in (frame.get("snapshot") or frame["update"]).items():
                change(books, name, [row["b"], row["a"]], "snapshot" in frame)
    return trades, {
        name: (max(map(float, bids)), min(map(float, asks))) for name, (bids, asks) in books.items()
    }


def change(books: Any, name: str, rows: Any, begins: bool) -> None:
    if begins:
        books[name] = {}, {}
    for side, levels in zip(books[name], rows, strict=True):
        side.update(levels)
        for price, size in levels:
            if not float(size):
                side.pop(price)


def test_small_prices_keep_their_digits() -> None:
    session = play(HitbtcAdapter(), EXCERPTS / "hitbtc.gz")
    quotes = [quote for quote in session.of(Level1) if quote.symbol == "DNT/BTC"]
    assert quotes
    assert all(quote.best_ask - quote.best_bid > 0 for quote in quotes)
    assert any(round(quote.best_bid, 8) != quote.best_bid for quote in quotes)


def test_names_come_from_the_instrument_list() -> None:
    known = instruments_of(HitbtcAdapter(), "HITBTC")
    pairs = {"USDTUSD": "USD/TUSD", "USDTGUSD": "USD/GUSD", "EURSUSD": "EURS/USD", "XRPUSDT": "XRP/USD"}
    assert {name: known.get(name).symbol for name in pairs} == pairs  # type: ignore[union-attr]
    bequant = instruments_of(BequantAdapter(), "BEQUANT")
    pairs = {"BTCUSDB": "BTC/USDB", "BTCUSD_BQX": "BTC/USDB_BQX", "KNCUSD_BQX": "KNC/USDB"}
    assert {name: bequant.get(name).symbol for name in pairs} == pairs  # type: ignore[union-attr]
    fmfw = instruments_of(FmfwAdapter(), "FMFW").get("BTCUSDT_PERP")
    assert fmfw is not None
    assert (fmfw.symbol, fmfw.kind) == ("BTC/USDT:USDT", "swap")


def test_a_bad_entry_of_a_batch_does_not_lose_the_others() -> None:
    row = {"t": MS, "a": "11", "A": "4", "b": "9", "B": "3"}
    entries = {"BTCUSDT": row, "NOSUCHCOIN": row, "ETHBTC": row | {"a": "x"}}
    parsed = parse(v3(), {"ch": "orderbook/top/100ms/batch", "data": entries})
    (quote,) = parsed.messages
    assert isinstance(quote, Level1)
    assert (quote.symbol, quote.best_bid, quote.ask_size) == ("BTC/USDT", 9, 4)
    assert parsed.rejected == (Reason.UNKNOWN_SYMBOL, Reason.BAD_VALUE)
    assert "NOSUCHCOIN" in parsed.detail


def test_trades_newest_first_are_turned_and_none_is_dropped() -> None:
    rows = [{"t": MS + 1, "i": 6, "p": "10", "q": "1", "s": "sell"}]
    rows.append({"t": MS, "i": 5, "p": "9", "q": "2", "s": "buy"})
    messages = parse(v3(), {"ch": "trades", "snapshot": {"BTCUSDT": rows}}).messages
    trades = [message for message in messages if isinstance(message, Trade)]
    assert [(trade.trade_id, trade.side) for trade in trades] == [("5", "buy"), ("6", "sell")]
    assert [message.usd_price for message in messages if isinstance(message, Price)] == [9, 10]
    again = parse(v3(), {"ch": "trades", "update": {"BTCUSDT": rows + rows}})
    assert again.rejected == (Reason.DUPLICATE, Reason.DUPLICATE)


def test_trades_of_one_millisecond_whose_id_is_the_time_are_two() -> None:
    row = {"t": MS, "i": MS, "p": "10", "q": "1", "s": "sell"}
    parsed = parse(v3(), {"ch": "trades", "update": {"BTCUSDT": [row, row]}})
    assert len([message for message in parsed.messages if isinstance(message, Trade)]) == 2


def test_a_hole_in_a_book_is_a_gap_of_its_symbol() -> None:
    parser = v3()
    full = {"t": MS, "s": 5, "a": [["11", "4"]], "b": [["9", "3"]]}
    parse(parser, {"ch": "orderbook/full", "snapshot": {"BTCUSDT": full}})
    parsed = parse(parser, {"ch": "orderbook/full", "update": {"BTCUSDT": full | {"s": 7}}})
    assert parsed.gap == Gap("BTC/USDT", 6, 6)


def test_books_of_fixed_depth_are_whole_each_time() -> None:
    parser = v3()
    row = {"t": MS, "s": 5, "a": [["11", "4"]], "b": [["9", "3"], ["8", "1"]]}
    parse(parser, {"ch": "orderbook/D5/100ms", "data": {"BTCUSDT": row}})
    later = {"t": MS + 1, "s": 9, "a": [["12", "4"]], "b": [["7", "3"]]}
    quote = parse(parser, {"ch": "orderbook/D5/100ms", "data": {"BTCUSDT": later}}).messages[-1]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.best_ask) == (7, 12)


def test_a_monthly_candle_ends_with_its_month() -> None:
    row = {"t": 1612137600000, "o": "1", "c": "3", "h": "4", "l": "0.5", "v": "7", "q": "0"}
    candle = parse(v3(), {"ch": "candles/1M", "update": {"BTCUSDT": [row]}}).messages[0]
    assert isinstance(candle, Ohlcv)
    assert candle.close_time.isoformat() == "2021-03-01T00:00:00+00:00"
    assert (candle.open_price, candle.high_price, candle.low_price, candle.close_price) == (1, 4, 0.5, 3)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"jsonrpc": "2.0", "result": True, "id": 1}, Reason.ACKNOWLEDGED),
        ({"result": {"ch": "trades", "subscriptions": []}, "id": 1}, Reason.ACKNOWLEDGED),
        ({"jsonrpc": "2.0", "error": {"code": 2001}}, Reason.REFUSED),
        ({"ch": "price/rate/1s", "data": {"BTC": {"t": 1, "r": "2"}}}, Reason.STATUS),
        ({"ch": "nosuch", "data": {"BTCUSDT": [{"t": 1}]}}, Reason.UNKNOWN),
        ({"method": "nosuch", "params": {}}, Reason.UNKNOWN),
        ({}, Reason.UNKNOWN),
        ({"method": "ticker", "params": {"symbol": "NOSUCHCOIN", "timestamp": "x"}}, Reason.UNKNOWN_SYMBOL),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(v3(), frame).rejected == (reason,)


def test_the_subscription_is_that_of_version_3() -> None:
    session = play(FmfwAdapter(), EXCERPTS / "fmfw.gz")
    recorded = [msgspec.json.decode(payload) for payload in session.sent]
    types = frozenset({"level1", "trade", "price", "ohlcv"})
    requests: list[Any] = list(
        subscribed(FmfwAdapter().connections(named(KNOWN, "BTCUSDT", "ETHBTC"), types))
    )
    assert {request["ch"] for request in requests} == {request["ch"] for request in recorded}
    assert all(request["params"] == {"symbols": ["BTCUSDT", "ETHBTC"]} for request in requests)
