"""Parse the frames of Gemini's three protocols; see the package's docstring for their sources."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal

from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    UnknownSymbolError,
    ascending,
    each,
    levels,
    moment,
    number,
    parsed,
    signed,
)
from coinstream.feeds.exchanges.rest import path_after
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected

_ACKNOWLEDGEMENTS: Final = frozenset({"subscribed", "unsubscribed", "subscription_ack"})
_PERPETUAL: Final = "PERP"
_NEWER_QUOTES: Final = frozenset({"RLUSD", "USDT", "USDC"})
"""Quote currencies that the packaged instrument list, of 2021, does not have yet."""
_NEWS: Final = ("auction", "block_trade", "funding_amount")
_TAKER: Final[dict[str, Literal["buy", "sell"]]] = {"buy": "buy", "sell": "sell", "ask": "buy", "bid": "sell"}
"""Side of the taker, from the taker's side (v2) or the maker's (v1)."""


class GeminiParser(ExchangeParser):
    """Parser of Gemini's frames: books, trades, candles, mark prices."""

    def __init__(
        self, exchange: str, instruments: InstrumentList, types: frozenset[str] | None = None
    ) -> None:
        super().__init__(exchange, instruments, types)
        self._sequence: int | None = None
        self._market = ""

    def opened(self, url: str) -> None:
        """Set the market of a connection to `v1/marketdata` from its URL."""
        self._market = path_after(url, "/v1/marketdata/").upper()

    def renew(self) -> None:
        """See `ExchangeParser.renew`."""
        super().renew()
        self._sequence = None

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: the one split into a listed currency and a quote currency."""
        joined = name.upper()
        pair = joined.removesuffix(_PERPETUAL)
        bases = {instrument.base for instrument in self.instruments}
        splits = [
            (pair.removesuffix(quote), quote)
            for quote in self.instruments.quotes | _NEWER_QUOTES
            if pair.endswith(quote) and pair.removesuffix(quote) in bases
        ]
        if len(splits) != 1:
            return None if splits else super().unlisted(name)
        base, quote = splits[0]
        return spot(joined, base, quote) if pair == joined else derivative(joined, base, quote, quote)

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return self._reply(value, frame.url, received)
        if "stream" in value and "data" in value:
            name = value["stream"].partition("@")[0]
            value = {"s": name} | value["data"]
        kind = value.get("type", "")
        if kind == "heartbeat":
            return self._numbered(value) or HEARTBEAT
        if value.get("result") == "error" or kind == "error" or "error" in value:
            return rejected(Reason.REFUSED, str(value)[:200])
        if kind in _ACKNOWLEDGEMENTS or (not kind and "result" in value) or value.get("status") == 200:
            return ACKNOWLEDGED
        if kind == "update":
            return self._numbered(value) or each((value,), lambda row: self._update_v1(row, received))
        if not kind:
            return parsed(self._stream(value, received))
        return self._v2(kind, value, received)

    # Version 2

    def _v2(self, kind: str, value: Any, received: datetime) -> Parsed:
        if kind.startswith(_NEWS) or (kind.startswith("l2_") and kind != "l2_updates"):
            return STATUS
        if kind == "l2_updates":
            return self._l2(value, received)
        if kind == "trade":
            return parsed(self._trade(self.instrument(value["symbol"]), value, received))
        if kind.startswith("candles_"):
            timeframe = kind.removeprefix("candles_").removesuffix("_updates")
            instrument = self.instrument(value["symbol"])
            return each(
                ascending(value["changes"], lambda row: row[0]),
                lambda row: self._candle(instrument, timeframe, row, received),
            )
        if kind == "mark_price_updates":
            instrument = self.instrument(value["symbol"])
            return each(value["changes"], lambda row: self._mark(instrument, row, received))
        return rejected(Reason.UNKNOWN, f"type {kind!r}")

    def _l2(self, value: Any, received: datetime) -> Parsed:
        instrument = self.instrument(value["symbol"])
        trades = value.get("trades")
        sides: dict[str, list[tuple[float, float]]] = {"buy": [], "sell": []}
        for side, price, size in value["changes"]:
            sides[side].append((number(price), number(size)))
        update = self.state.book_change if trades is None else self.state.book_snapshot
        book = update("l2", instrument, sides["buy"], sides["sell"], received, received)
        if not trades:
            return parsed(book)
        oldest_first = sorted(trades, key=lambda row: (row["timestamp"], _trade_id(row)))
        return each(
            [None, *oldest_first],
            lambda row: book if row is None else self._trade(instrument, row, received),
        )

    def _trade(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        return self.state.trade(
            instrument,
            number(row["price"]),
            number(row["quantity"]),
            moment(row["timestamp"]),
            received,
            side=_TAKER.get(row.get("side", "")),
            trade_id=_trade_id(row) or None,
        )

    def _candle(self, instrument: Instrument, timeframe: str, row: Any, received: datetime) -> Found:
        prices = (number(row[1]), number(row[2]), number(row[3]), number(row[4]))
        yield self.state.candle(instrument, timeframe, moment(row[0]), prices, number(row[5]), received)

    def _mark(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        yield self.state.derivative(
            instrument,
            moment(row["timestamp"]),
            received,
            mark_price=number(row["mark_price"]),
            index_price=signed(row.get("spot_index")),
        )

    # Version 1

    def _numbered(self, value: Any) -> Parsed | None:
        """Return the gap before a frame of v1, whose books are then out of date."""
        sequence = value.get("socket_sequence")
        before, self._sequence = self._sequence, sequence if sequence is not None else self._sequence
        if sequence is None or before is None or sequence == before + 1 or sequence == 0:
            return None
        self.state.renew()
        return Parsed((), (Reason.BOOK_UNSYNCED,), "", Gap("", before + 1, sequence - 1))

    def _update_v1(self, value: Any, received: datetime) -> Found:
        at = moment(value.get("timestampms") or value.get("timestamp") or received.timestamp())
        changes: dict[str, list[Any]] = {}
        for event in value["events"]:
            name = event.get("symbol") or self._market
            if not name:
                raise UnknownSymbolError("v1/marketdata names its symbol in the address only")
            if event["type"] == "change":
                changes.setdefault(name, []).append(event)
            elif event["type"] == "trade":
                yield from self._trade_v1(self.instrument(name), event, at, received)
            else:
                yield Reason.STATUS
        for name, events in changes.items():
            yield from self._changes_v1(self.instrument(name), events, at, received)

    def _trade_v1(self, instrument: Instrument, event: Any, at: datetime, received: datetime) -> Found:
        return self.state.trade(
            instrument,
            number(event["price"]),
            number(event["amount"]),
            at,
            received,
            side=_TAKER.get(event.get("makerSide", "")),
            trade_id=str(event["tid"]) if "tid" in event else None,
        )

    def _changes_v1(self, instrument: Instrument, events: Any, at: datetime, received: datetime) -> Found:
        bids, asks = (
            [(number(row["price"]), number(row["remaining"])) for row in events if row["side"] == side]
            for side in ("bid", "ask")
        )
        begins = any(row.get("reason") == "initial" for row in events)
        update = self.state.book_snapshot if begins else self.state.book_change
        return update("v1", instrument, bids, asks, at, received)

    # Streams

    def _stream(self, value: Any, received: datetime) -> Found:
        name = value.get("s") or value.get("symbol")
        if not name:
            raise UnknownSymbolError("the frame names no symbol")
        instrument = self.instrument(name)
        at = moment(value["E"]) if "E" in value else received
        if value.get("e") == "depthUpdate":
            sides = levels(value["b"]), levels(value["a"])
            return self.state.book_change(
                "depth", instrument, *sides, at, received, first=int(value["U"]), last=int(value["u"])
            )
        if "lastUpdateId" in value:
            sides = levels(value["bids"]), levels(value["asks"])
            return self.state.book_snapshot(
                "depth", instrument, *sides, at, received, sequence=int(value["lastUpdateId"])
            )
        if "t" in value:
            return self.state.trade(
                instrument,
                number(value["p"]),
                number(value["q"]),
                at,
                received,
                side="sell" if value["m"] else "buy",
                trade_id=value["t"],
            )
        top = number(value["b"]), number(value["a"]), number(value["B"]), number(value["A"])
        return (self.state.quote(instrument, *top, at, received, "bookTicker"),)

    def _reply(self, value: Any, url: str, received: datetime) -> Parsed:
        name = path_after(url, "/book/")
        if not (name and isinstance(value, dict)):
            return STATUS
        if "bids" not in value:
            return rejected(Reason.REFUSED, str(value)[:200])
        bids, asks = (
            [(number(row["price"]), number(row["amount"])) for row in value[side]]
            for side in ("bids", "asks")
        )
        return parsed(self.state.book_snapshot("l2", self.instrument(name), bids, asks, received, received))


def _trade_id(row: Any) -> str:
    return str(row.get("tid") or row.get("event_id") or row.get("eventid") or "")
