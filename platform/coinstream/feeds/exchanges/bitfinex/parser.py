"""Parse the frames of Bitfinex's websocket v2; see the package's docstring for their format."""

from __future__ import annotations

import zlib
from datetime import datetime
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from coinstream.feeds.exchanges.bitfinex.names import as_javascript, read_pair
from coinstream.feeds.exchanges.order_book import Levels
from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    UnknownSymbolError,
    each,
    moment,
    number,
    optional,
    parsed,
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, InstrumentList
from coinstream.feeds.parser import ACKNOWLEDGED, DEPTH, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected

_EVENTS: Final = {
    **{"conf": ACKNOWLEDGED, "unsubscribed": ACKNOWLEDGED, "info": STATUS, "pong": HEARTBEAT},
}
_TRADES: Final = frozenset({"te", "tu"})
_LENDING: Final = frozenset({"fte", "ftu"})
_RAW: Final = "R0"
_FIRST_TIME: Final = 100_000_000_000
"""Trailing numbers from here on are times in ms; smaller ones are sequence numbers."""
_CHECKED_LEVELS: Final = 25
_LIQUIDATION: Final = "liq:global"


class _Channel(NamedTuple):
    """Meaning of a channel number: `detail` is the timeframe, the precision or the status key."""

    kind: str
    name: str
    detail: str = ""
    depth: int | None = None
    book: str = "book"


class BitfinexParser(ExchangeParser):
    """Parser of Bitfinex's frames: books, trades, tickers, candles, contract figures, liquidations."""

    def __init__(
        self, exchange: str, instruments: InstrumentList, types: frozenset[str] | None = None
    ) -> None:
        super().__init__(exchange, instruments, types)
        self._channels: dict[int, _Channel] = {}
        self._sequence: int | None = None

    def renew(self) -> None:
        """See `ExchangeParser.renew`: channel numbers belong to one connection."""
        super().renew()
        self._channels.clear()
        self._sequence = None

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: a name says its currencies by itself."""
        return read_pair(name[1:]) if name.startswith("t") else None

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if isinstance(value, dict):
            return self._event(value, frame)
        if frame.url is not None:
            return STATUS
        tag = value[1] if isinstance(value[1], str) else ""
        sequence, at, named = _tail(value[3 if tag and tag != "hb" else 2 :])
        gap = self._numbered(sequence)
        found = self._on_channel(value, tag, at or received, received, named)
        return found.with_gaps(gap)

    def _numbered(self, sequence: int | None) -> Gap | None:
        """Return the gap before a frame, after which all books of the connection are out of date."""
        before, self._sequence = self._sequence, sequence if sequence is not None else self._sequence
        if sequence is None or before is None or sequence <= before + 1:
            return None
        self.state.renew()
        return Gap("", before + 1, sequence - 1)

    def _on_channel(
        self, value: Any, tag: str, at: datetime, received: datetime, named: _Channel | None
    ) -> Parsed:
        if tag == "hb":
            return HEARTBEAT
        channel = self._channels.get(value[0]) or named
        if channel is None:
            return rejected(Reason.INCOMPLETE, f"channel {value[0]} was not announced")
        if channel.name.startswith("f"):
            return rejected(Reason.LENDING)
        body = value[2] if tag else value[1]
        if channel.kind == "status":
            return self._status(channel, body, received)
        instrument = self.instrument(channel.name)
        match channel.kind:
            case "trades":
                return self._trades(instrument, tag, body, received)
            case "ticker":
                return parsed(self._ticker(instrument, body, at, received))
            case "book" if channel.detail == _RAW:
                return DEPTH
            case "book":
                return parsed(self._book(channel, instrument, tag, body, at, received))
            case "candles":
                return each(_rows(body), lambda row: self._candle(instrument, channel.detail, row, received))
        return rejected(Reason.UNKNOWN, f"channel {channel.kind!r}")

    def _event(self, value: Any, frame: Frame) -> Parsed:
        event = value.get("event")
        if event == "subscribed":
            kind, key = value["channel"], value.get("key", "")
            if kind == "candles":
                _, detail, name = key.split(":", 2)
            elif kind == "status":
                detail, name = key, key.partition(":")[2]
            else:
                detail, name = value.get("prec", ""), value["symbol"]
            depth = int(value["len"]) if "len" in value else None
            self._channels[value["chanId"]] = _Channel(kind, name, detail, depth, f"book {detail}")
            return ACKNOWLEDGED
        if event == "error":
            return rejected(Reason.REFUSED, str(value.get("msg")))
        known = _EVENTS.get(str(event))
        if known is not None:
            return known
        return STATUS if frame.url is not None else rejected(Reason.UNKNOWN, f"event {event!r}")

    def _ticker(self, instrument: Instrument, row: Any, at: datetime, received: datetime) -> Found:
        # The sizes of a ticker are sums over the best 25 levels, not those of the best bid and ask.
        yield self.state.quote(instrument, number(row[0]), number(row[2]), None, None, at, received)
        change = signed(row[5])
        yield self.state.ticker(
            instrument,
            number(row[6]),
            None if at == received else at,
            received,
            number(row[7]),
            None if change is None else change * 100,
        )

    def _book(
        self, channel: _Channel, instrument: Instrument, tag: str, body: Any, at: datetime, received: datetime
    ) -> Found:
        name = channel.book
        if tag == "cs":
            return self._verify(name, instrument, int(body))
        if body and not isinstance(body[0], list):
            price, count, amount = body[:3]
            level = ((number(price), number(abs(amount)) if count else 0.0),)
            sides: tuple[Levels, Levels] = (level, ()) if amount > 0 else ((), level)
            return self.state.book_change(name, instrument, *sides, at, received)
        bids: list[tuple[float, float]] = []
        asks: list[tuple[float, float]] = []
        for price, count, amount in (row[:3] for row in body):
            side = bids if amount > 0 else asks
            side.append((number(price), number(abs(amount)) if count else 0.0))
        return self.state.book_snapshot(name, instrument, bids, asks, at, received, depth=channel.depth)

    def _verify(self, name: str, instrument: Instrument, wanted: int) -> Found:
        book = self.state.order_book(name, instrument)
        if not book.is_synced:
            yield Reason.BOOK_UNSYNCED
            return
        bids, asks = book.best(_CHECKED_LEVELS)
        parts = [
            as_javascript(figure)
            for bid, ask in zip_longest(bids, asks)
            for level in (bid, ask and (ask[0], -ask[1]))
            if level
            for figure in level
        ]
        if (zlib.crc32(":".join(parts).encode()) ^ wanted) & 0xFFFFFFFF:
            book.unsync()
            yield Gap(instrument.symbol, 0, 0)
            yield Reason.CHECKSUM
        else:
            yield Reason.STATUS

    def _trades(self, instrument: Instrument, tag: str, body: Any, received: datetime) -> Parsed:
        if tag and tag not in _TRADES:
            return rejected(Reason.LENDING if tag in _LENDING else Reason.UNKNOWN, tag)
        rows = sorted(_rows(body), key=lambda row: (row[1], row[0]))
        return each(rows, lambda row: self._trade(instrument, row, received))

    def _trade(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        amount = float(row[2])
        return self.state.trade(
            instrument,
            number(row[3]),
            number(abs(amount)),
            moment(row[1]),
            received,
            side="buy" if amount > 0 else "sell",
            trade_id=row[0],
        )

    def _candle(self, instrument: Instrument, timeframe: str, row: Any, received: datetime) -> Found:
        name = {"7D": "1w", "14D": "2w"}.get(timeframe, timeframe.replace("D", "d"))
        prices = (number(row[1]), number(row[3]), number(row[4]), number(row[2]))
        yield self.state.candle(instrument, name, moment(row[0]), prices, number(row[5]), received)

    def _status(self, channel: _Channel, body: Any, received: datetime) -> Parsed:
        if channel.detail == _LIQUIDATION:
            return each(_rows(body), lambda row: self._liquidation(row, received))
        if not channel.detail.startswith("deriv:"):
            return STATUS
        return parsed(self._derivative(self.instrument(channel.name), body, received))

    def _derivative(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        def at(index: int) -> Any:
            return row[index] if index < len(row) else None

        yield self.state.derivative(
            instrument,
            moment(row[0]),
            received,
            mark_price=optional(at(14)),
            index_price=optional(at(3)),
            funding_rate=signed(at(11)),
            next_funding_time=moment(at(7)) if at(7) else None,
            open_interest=optional(at(17)),
        )

    def _liquidation(self, row: Any, received: datetime) -> Found:
        if row[0] != "pos":
            raise UnknownSymbolError(f"liquidation of kind {row[0]!r}")
        # Column 6 is the price at which the position was opened; 11 the price of the liquidation.
        price = row[11] if len(row) > 11 else None
        amount = float(row[5])
        yield self.state.liquidation(
            self.instrument(row[4]),
            number(price),
            number(abs(amount)),
            "sell" if amount > 0 else "buy",
            moment(row[2]),
            received,
            str(row[1]),
        )


def _rows(body: Any) -> list[Any]:
    return list(body) if body and isinstance(body[0], list) else [body] if body else []


def _tail(extra: Any) -> tuple[int | None, datetime | None, _Channel | None]:
    """Read the fields that flags append to a frame: sequence number, time in ms, channel and symbol."""
    if len(extra) == 1 and type(extra[0]) is int and extra[0] < _FIRST_TIME:
        return extra[0], None, None
    sequence, at = None, None
    words = [item for item in extra if isinstance(item, str)]
    for item in extra:
        if isinstance(item, int):
            if item >= _FIRST_TIME:
                at = moment(item)
            else:
                sequence = item
    if len(words) < 2:
        return sequence, at, None
    kind, name = words[0], words[1]
    if kind == "liquidations":
        return sequence, at, _Channel("status", "global", _LIQUIDATION)
    if kind == "status":
        return sequence, at, _Channel("status", f"t{name}", f"deriv:t{name}")
    return sequence, at, _Channel(kind, name if name[:1] in "tf" else f"t{name}")
