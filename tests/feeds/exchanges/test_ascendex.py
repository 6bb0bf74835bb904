"""AscendEX: its recording, numbered books, contracts, answers to pings."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from coinstream.feeds.exchanges.ascendex import AscendexAdapter
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instrument_lists import packaged
from coinstream.feeds.instruments import InstrumentList, derivative, spot
from coinstream.feeds.parser import Frame, Gap, Parser
from coinstream.feeds.recordings import read_lines
from coinstream.messages import DerivativeTicker, Level1, Ohlcv, Trade
from tests.feeds.exchanges.recorded import (
    EXCERPTS,
    instruments_of,
    named,
    parse,
    play,
    shared,
    subscribed,
)

KNOWN: Final = InstrumentList(
    [spot("BTC/USDT", "BTC", "USDT"), derivative("BTC-PERP", "BTC", "USDT", "USDT")]
)
MS: Final = 1618677609116


def parser() -> Parser:
    return AscendexAdapter().parser(KNOWN)


def depth(number: int, kind: str = "depth", **sides: Any) -> dict[str, Any]:
    data = {"ts": MS, "seqnum": number, "asks": [], "bids": []} | sides
    return {"m": kind, "symbol": "BTC/USDT", "data": data}


def test_the_excerpt_parses_without_faults() -> None:
    session = play(AscendexAdapter(), EXCERPTS / "ascendex.gz")
    session.check()
    assert session.gaps == []


def test_the_whole_recording_matches_an_independent_reading() -> None:
    path = shared("ASCENDEX.ws.1.0.head.gz")
    session = play(AscendexAdapter(), path, instruments_of(AscendexAdapter(), "ASCENDEX"))
    session.check()
    assert session.gaps == []
    books: dict[str, dict[str, dict[str, str]]] = {}
    waiting: dict[str, list[Any]] = {}
    for line in read_lines(path):
        frame = msgspec.json.decode(line.frame.payload) if line.reason is None else {}
        if isinstance(frame, dict) and frame.get("m") in ("depth", "depth-snapshot"):
            name, data = frame["symbol"], frame["data"]
            if frame["m"] == "depth-snapshot":
                books[name] = {"bids": dict(data["bids"]), "asks": dict(data["asks"])}
                changes = [old for old in waiting.pop(name, []) if old["seqnum"] > data["seqnum"]]
            else:
                changes = [data]
                if name not in books:
                    waiting.setdefault(name, []).append(data)
                    continue
            for change in changes:
                for side in ("bids", "asks"):
                    for price, size in change[side]:
                        books[name][side][price] = size
                        if not float(size):
                            del books[name][side][price]
    tops = {
        name: (max(map(float, sides["bids"])), min(map(float, sides["asks"])))
        for name, sides in books.items()
    }
    last = {quote.symbol: (quote.best_bid, quote.best_ask) for quote in session.of(Level1)}
    assert last == tops


def test_changes_are_numbered_one_by_one() -> None:
    found = parser()
    assert parse(found, depth(7, bids=[["9.5", "1"]])).rejected == (Reason.BOOK_UNSYNCED,)
    state = depth(6, "depth-snapshot", bids=[["9", "3"]], asks=[["11", "4"]])
    quote = parse(found, state).messages[-1]
    assert isinstance(quote, Level1)
    assert (quote.best_bid, quote.best_ask) == (9.5, 11)
    assert parse(found, depth(9)).gap == Gap("BTC/USDT", 8, 8)


def test_a_snapshot_of_a_quiet_market_has_the_time_of_its_receipt() -> None:
    state = depth(6, "depth-snapshot-realtime", bids=[["9", "3"]], asks=[["11", "4"]], ts=0)
    quote = parse(parser(), state).messages[-1]
    assert isinstance(quote, Level1)
    assert quote.timestamp == quote.last_updated
    url = "https://ascendex.com/api/pro/v1/depth?symbol=BTC%2FUSDT"
    assert parse(parser(), {"code": 0, "data": state}, url).messages


def test_trades_of_spot_markets_and_contracts() -> None:
    rows = [{"p": "34816", "q": "0.0500", "ts": MS, "bm": True, "seqnum": 180143987382487680}]
    rows.append({"p": "34815", "q": "0.1", "ts": MS, "bm": False, "seqnum": 180143987382487679})
    messages = parse(parser(), {"m": "trades", "symbol": "BTC-PERP", "data": rows}).messages
    first, second = (message for message in messages if isinstance(message, Trade))
    assert (first.side, first.size, first.symbol) == ("buy", 0.1, "BTC/USDT:USDT")
    assert (second.side, second.trade_id) == ("sell", "180143987382487680")


def test_best_levels_candles_and_contract_figures() -> None:
    data = {"ts": MS, "bid": ["17.39749", "2"], "ask": ["17.67664", "21"]}
    quote = parse(parser(), {"m": "bbo", "symbol": "PROM/USDT", "data": data}).messages[0]
    assert isinstance(quote, Level1)
    assert (quote.symbol, quote.best_bid, quote.ask_size) == ("PROM/USDT", 17.39749, 21)
    row = {"i": "1m", "ts": 1612137600000, "o": "1", "h": "4", "l": "0.5", "c": "3", "v": "7"}
    candle = parse(parser(), {"m": "bar", "s": "BTC/USDT", "data": row}).messages[0]
    assert isinstance(candle, Ohlcv)
    assert (candle.timeframe, candle.low_price, candle.close_price) == ("1M", 0.5, 3)
    minute = parse(parser(), {"m": "bar", "s": "BTC/USDT", "data": row | {"i": "1"}}).messages[0]
    assert isinstance(minute, Ohlcv)
    assert minute.timeframe == "1m"
    figures = {"t": MS, "s": "BTC-PERP", "mp": "5", "ip": "6", "oi": "7", "r": "-0.0001", "f": MS + 1000}
    ticker = parse(parser(), {"m": "futures-pricing-data", "con": [figures]}).messages[0]
    assert isinstance(ticker, DerivativeTicker)
    assert (ticker.mark_price, ticker.index_price, ticker.funding_rate, ticker.open_interest) == (
        *(5, 6),
        *(-0.0001, 7),
    )


def test_a_ping_is_answered() -> None:
    adapter = AscendexAdapter()
    assert adapter.answer(Frame(1, b'{"m":"ping","hp":3}')) == b'{"op":"pong"}'
    assert adapter.answer(Frame(1, b'{"m":"pong"}')) is None


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"m": "ping", "hp": 3}, Reason.HEARTBEAT),
        ({"m": "connected", "type": "unauth"}, Reason.STATUS),
        ({"m": "sub", "ch": "depth:BTC/USDT", "code": 0}, Reason.ACKNOWLEDGED),
        ({"m": "sub", "ch": "depth:NO", "code": 100002, "reason": "INVALID"}, Reason.REFUSED),
        ({"m": "error", "code": 100005, "reason": "INVALID_WS_REQUEST_DATA"}, Reason.REFUSED),
        ({"m": "nosuch"}, Reason.UNKNOWN),
        ({"m": "depth", "symbol": "NOSUCH", "data": {}}, Reason.UNKNOWN_SYMBOL),
        ({}, Reason.BAD_VALUE),
    ],
)
def test_a_frame_without_a_message_has_its_reason(frame: object, reason: Reason) -> None:
    assert parse(parser(), frame).rejected == (reason,)


def test_the_subscription_is_the_recorded_one() -> None:
    session = play(AscendexAdapter(), EXCERPTS / "ascendex.gz")
    known = instruments_of(AscendexAdapter(), "ASCENDEX")
    names = ["ZIG", "DIVI", "XDAI", "NEO", "ROOM", "EGLD"]
    wanted = named(known, *(f"{name}/USDT" for name in names))
    wanted += named(known, "SRM/BTC", "CHZ/USDT", "ALTBULL/USDT", "CHR/USDT")
    requests = subscribed(AscendexAdapter().connections(wanted, frozenset({"book", "trade"})))
    assert requests == [msgspec.json.decode(sent) for sent in session.sent if b'"pong"' not in sent]
    (contract,) = AscendexAdapter().connections(named(KNOWN, "BTC-PERP"), frozenset({"derivativeticker"}))
    assert contract.url.endswith("/api/pro/v2/stream")


def test_contracts_in_the_list_of_products_are_perpetual() -> None:
    row = {"symbol": "BTC-PERP", "baseAsset": "BTCUSDT", "quoteAsset": "USDT", "status": "Normal"}
    body = msgspec.json.encode({"code": 0, "data": [row, row | {"symbol": "LUSD/USDT", "baseAsset": "LUSD"}]})
    found = AscendexAdapter().parse_instruments("https://ascendex.com/api/pro/v1/products", body)
    assert [(one.symbol, one.kind) for one in found] == [("BTC/USDT:USDT", "swap"), ("LUSD/USDT", "spot")]
    assert {one.kind for one in packaged("ascendex") if one.id.endswith("-PERP")} == {"swap"}
