"""Write frames and instrument lists of several exchanges, and parse the frames by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import msgspec

from coinstream.feeds.simulated.binance import book_ticker
from coinstream.feeds.simulated.market import Market, RandomWalk, Tick

SYMBOLS: Final = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "XRP/USDT", "ADA/USDT", "DOGE/USDT")
_KRAKEN: Final = ("BTC/USD", "ETH/USD", "XRP/USD", "ADA/USD", "DOGE/USD")
_encode: Final = msgspec.json.Encoder().encode

Quote = tuple[str, float, float, float, float]
"""Symbol, best bid, best ask and their sizes."""


class Venue(NamedTuple):
    """One exchange in the bench.

    Attributes:
        symbols: unified symbols that the feed subscribes to.
        frame: writes the frame of one quote.
        parse: reads that frame by hand.
        listed: writes the reply to the REST request of a path for these symbols; None for other paths.
    """

    symbols: Sequence[str]
    frame: Callable[[Tick], bytes]
    parse: Callable[[bytes], Quote]
    listed: Callable[[str, Sequence[str]], Any]

    def reply(self, path: str) -> bytes | None:
        """Return the reply to a REST request of a path, or None if there is none."""
        found = self.listed(path, self.symbols)
        return None if found is None else _encode(found)


def frames_of(venue: Venue, count: int) -> list[bytes]:
    """Return frames of a random walk over the symbols of an exchange."""
    market = Market(RandomWalk(venue.symbols))
    return [venue.frame(_listed(market.next(1_700_000_000_000 + number))) for number in range(count)]


def _listed(tick: Tick) -> Tick:
    """Return a quote with the decimals that exchanges list prices with; the walk has all of a float."""
    return tick._replace(bid=round(tick.bid, 8), ask=round(tick.ask, 8))


class _BookTicker(msgspec.Struct):
    s: str
    b: float
    B: float
    a: float
    A: float


_binance: Final = msgspec.json.Decoder(_BookTicker, strict=False).decode


def _parse_binance(frame: bytes) -> Quote:
    quote = _binance(frame)
    return quote.s, quote.b, quote.a, quote.B, quote.A


class _KrakenTicker(msgspec.Struct):
    symbol: str
    bid: float
    bid_qty: float
    ask: float
    ask_qty: float


class _KrakenFrame(msgspec.Struct):
    data: list[_KrakenTicker]


_kraken: Final = msgspec.json.Decoder(_KrakenFrame).decode


def _kraken_frame(tick: Tick) -> bytes:
    entry = {
        **{"symbol": tick.symbol, "bid": tick.bid, "bid_qty": tick.bid_size, "ask": tick.ask},
        **{"ask_qty": tick.ask_size, "last": tick.bid, "volume": 1000.5, "vwap": tick.bid, "low": tick.bid},
        **{"high": tick.ask, "change": 0.0, "change_pct": 0.0, "timestamp": _iso(tick.at_ms)},
    }
    return _encode({"channel": "ticker", "type": "update", "data": [entry]})


def _parse_kraken(frame: bytes) -> Quote:
    quote = _kraken(frame).data[0]
    return quote.symbol, quote.bid, quote.ask, quote.bid_qty, quote.ask_qty


class _OkxData(msgspec.Struct):
    asks: list[tuple[float, float, str, str]]
    bids: list[tuple[float, float, str, str]]


class _OkxArg(msgspec.Struct):
    inst: str = msgspec.field(name="instId")


class _OkxFrame(msgspec.Struct):
    arg: _OkxArg
    data: list[_OkxData]


_okx: Final = msgspec.json.Decoder(_OkxFrame, strict=False).decode


def _okx_frame(tick: Tick) -> bytes:
    entry = {
        **{"asks": [[str(tick.ask), str(tick.ask_size), "0", "1"]]},
        **{"bids": [[str(tick.bid), str(tick.bid_size), "0", "1"]]},
        **{"ts": str(int(tick.at_ms)), "seqId": tick.number},
    }
    name = tick.symbol.replace("/", "-")
    return _encode({"arg": {"channel": "bbo-tbt", "instId": name}, "data": [entry]})


def _parse_okx(frame: bytes) -> Quote:
    found = _okx(frame)
    (ask, ask_size, *_), (bid, bid_size, *_) = found.data[0].asks[0], found.data[0].bids[0]
    return found.arg.inst, bid, ask, bid_size, ask_size


class _GateFrame(msgspec.Struct):
    result: _BookTicker


_gate: Final = msgspec.json.Decoder(_GateFrame, strict=False).decode


def _gate_frame(tick: Tick) -> bytes:
    at = int(tick.at_ms)
    result = {
        **{"t": at, "u": tick.number + 1, "s": tick.symbol.replace("/", "_"), "b": str(tick.bid)},
        **{"B": str(tick.bid_size), "a": str(tick.ask), "A": str(tick.ask_size)},
    }
    head = {"time": at // 1000, "time_ms": at, "channel": "spot.book_ticker", "event": "update"}
    return _encode(head | {"result": result})


def _parse_gate(frame: bytes) -> Quote:
    quote = _gate(frame).result
    return quote.s, quote.b, quote.a, quote.B, quote.A


def _iso(milliseconds: float) -> str:
    moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _binance_list(path: str, symbols: Sequence[str]) -> Any:
    if not path.endswith("/exchangeInfo"):
        return None
    return {
        "symbols": [
            {"symbol": base + quote, "baseAsset": base, "quoteAsset": quote, "status": "TRADING"}
            for base, quote in map(_split, symbols)
        ]
    }


def _kraken_list(path: str, symbols: Sequence[str]) -> Any:
    if not path.endswith("/AssetPairs"):
        return None
    pairs = {
        base + quote: {"altname": base + quote, "wsname": f"{base}/{quote}", "base": base, "quote": quote}
        for base, quote in map(_split, symbols)
    }
    return {"error": [], "result": pairs}


def _okx_list(path: str, symbols: Sequence[str]) -> Any:
    if "/public/instruments" not in path:
        return None
    spot = symbols if "instType=SPOT" in path else ()
    return {
        "data": [
            {"instId": f"{base}-{quote}", "instType": "SPOT", "baseCcy": base, "quoteCcy": quote}
            for base, quote in map(_split, spot)
        ]
    }


def _gate_list(path: str, symbols: Sequence[str]) -> Any:
    if not path.endswith(("/currency_pairs", "/contracts")):
        return None
    spot = symbols if path.endswith("/currency_pairs") else ()
    return [
        {"id": f"{base}_{quote}", "base": base, "quote": quote, "trade_status": "tradable"}
        for base, quote in map(_split, spot)
    ]


def _split(symbol: str) -> tuple[str, str]:
    base, _, quote = symbol.partition("/")
    return base, quote


VENUES: Final = {
    "binance": Venue(SYMBOLS, book_ticker, _parse_binance, _binance_list),
    "kraken": Venue(_KRAKEN, _kraken_frame, _parse_kraken, _kraken_list),
    "okx": Venue(SYMBOLS, _okx_frame, _parse_okx, _okx_list),
    "gate": Venue(SYMBOLS, _gate_frame, _parse_gate, _gate_list),
}
