"""Parse OKX's websocket v5.

Source: "OKX API v5" (https://www.okx.com/docs-v5/en/, sections "Public Data" and "Order Book Trading"),
checked against a session of 2022-05-13, whose checksums all match:

- Sizes of derivatives are contracts. `volCcy24h` and a candle's `volCcy` are base currency for derivatives
  and quote currency for spot, whose `vol24h` and `vol` are base currency.
- `books` sends a snapshot and then changes. A change follows the frame whose `seqId` is its `prevSeqId`;
  after maintenance `seqId` may be smaller than `prevSeqId`. Equal numbers mean that nothing changed.
- `checksum` is CRC-32 of the best 25 levels; 0 where the exchange does not compute it.
- `fundingTime` is the time of the next settlement.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from coinstream.feeds.exchanges.okx import instruments as names
from coinstream.feeds.exchanges.order_book import TextBook
from coinstream.feeds.exchanges.parsing import (
    Found,
    ascending,
    each,
    levels,
    moment,
    number,
    optional,
    percent,
    side_of,
    signed,
)
from coinstream.feeds.exchanges.quick import Quick, QuickParser, QuickTimes
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import (
    ACKNOWLEDGED,
    HEARTBEAT,
    STATUS,
    Frame,
    Gap,
    Number,
    Parsed,
    rejected,
)

UNITS: Final = {"s": "s", "m": "m", "H": "h", "D": "d", "W": "w", "M": "M"}
_WHOLE: Final = frozenset({"books5"})
_UNREAD: Final = ("opt-summary", "estimated-price", "price-limit", "mark-price-candle", "index-candle")
_UNREAD_TOO: Final = ("status", "instruments", "option-trades", "economic", "adl-warning", "block-")
_OTHER: Final = ("sprd-", "rfqs", "public-struc")


class _Top(msgspec.Struct, gc=False):
    asks: list[tuple[Number, Number, str, str]]
    bids: list[tuple[Number, Number, str, str]]
    ts: int


class _Argument(msgspec.Struct, gc=False):
    channel: str
    inst_id: str = msgspec.field(name="instId")


class _TopFrame(msgspec.Struct, gc=False):
    arg: _Argument
    data: list[_Top]


_top: Final = msgspec.json.Decoder(_TopFrame, strict=False)


class OkxV5Parser(QuickParser):
    """Read tickers, books, trades, candles, contract figures and liquidations of v5."""

    quick_start = b'{"arg":{"channel":"bbo-tbt"'

    def quick(self, payload: bytes, received: datetime) -> Quick:
        """See `QuickParser.quick`."""
        frame = _top.decode(payload)
        row = frame.data[0]
        bid, bid_size, _, _ = row.bids[0]
        ask, ask_size, _, _ = row.asks[0]
        instrument = self.instruments.get(frame.arg.inst_id)
        if instrument is None or bid >= ask or len(frame.data) > 1:
            return None
        at = self._quick_time(row.ts)
        return self.state.quote(instrument, bid, ask, bid_size, ask_size, at, received, "bbo-tbt")

    def renew(self) -> None:
        """Clear the books and their text."""
        super().renew()
        self._texts.clear()

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._quick_time = QuickTimes()
        self._texts: dict[tuple[str, str], TextBook] = {}
        self._index: dict[str, float] = {}
        self._by_underlying: dict[str, dict[str, Instrument]] = {}

    def instrument(self, name: str) -> Instrument:
        """Return the listed instrument, or the one that the name itself describes."""
        found = self.instruments.get(name)
        if found is None:
            found = names.derived(name, self.instruments)
            if found is None:
                return super().instrument(name)
            self.instruments.add([found])
        return found

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame by its channel."""
        if "event" in value:
            refused = value["event"] == "error"
            return rejected(Reason.REFUSED, str(value.get("msg", value))) if refused else ACKNOWLEDGED
        if "arg" not in value:
            return STATUS if frame.url is not None else rejected(Reason.UNKNOWN, "neither event nor data")
        argument, rows = value["arg"], value["data"]
        channel = argument["channel"]
        if channel.startswith(_OTHER):
            return rejected(Reason.OTHER_INSTRUMENT)
        if channel.startswith((*_UNREAD, *_UNREAD_TOO)):
            return rejected(Reason.OTHER_CHANNEL)
        if channel == "bbo-tbt" or channel.startswith("books"):
            instrument = self.instrument(argument["instId"])
            whole = channel in _WHOLE or value.get("action", "snapshot") == "snapshot"
            return each(rows, lambda row: self._book(channel, instrument, row, received, whole=whole))
        if channel.startswith("trades"):
            rows = ascending(rows, lambda row: (int(row["ts"]), int(row["tradeId"])))
            return each(rows, lambda row: self._trade(row, received))
        if channel.startswith("candle"):
            instrument = self.instrument(argument["instId"])
            return each(rows, lambda row: self._candle(channel, instrument, row, received))
        read = {
            "tickers": self._ticker,
            "mark-price": self._mark,
            "index-tickers": self._index_ticker,
            "open-interest": self._open_interest,
            "funding-rate": self._funding,
        }.get(channel)
        if read is not None:
            return each(rows, lambda row: read(row, received))
        if channel in ("liquidation-orders", "liquidations"):
            orders = [
                (row.get("instId") or argument["instId"], order)
                for row in rows
                for order in row.get("details", (row,))
            ]
            return each(orders, lambda pair: self._liquidation(pair[0], pair[1], received))
        return rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def read(self, frame: Frame) -> Parsed:
        """Read a frame; `ping` and `pong` are plain text."""
        return HEARTBEAT if frame.payload.strip() in (b"pong", b"ping") else super().read(frame)

    def _ticker(self, row: Any, received: datetime) -> Found:
        instrument, at, last = self.instrument(row["instId"]), moment(row["ts"]), number(row["last"])
        bid, ask = number(row["bidPx"]), number(row["askPx"])
        sizes = optional(row["bidSz"]), optional(row["askSz"])
        yield self.state.quote(instrument, bid, ask, *sizes, at, received, "tickers")
        is_spot = instrument.kind == "spot"
        volume = optional(row.get("vol24h" if is_spot else "volCcy24h"))
        change = percent(last, optional(row.get("open24h")))
        yield self.state.ticker(instrument, last, at, received, volume, change)
        if not is_spot:
            yield self._figures(instrument, at, received, last_price=last or None)

    def _book(
        self, channel: str, instrument: Instrument, row: Any, received: datetime, *, whole: bool
    ) -> Found:
        at, bids, asks = moment(row["ts"]), levels(row["bids"]), levels(row["asks"])
        if channel == "bbo-tbt":
            bid, ask = (bids or [(0.0, 0.0)])[0], (asks or [(0.0, 0.0)])[0]
            yield self.state.quote(instrument, bid[0], ask[0], bid[1], ask[1], at, received, channel)
            return
        number_, before = row.get("seqId"), row.get("prevSeqId")
        book = self.state.order_book(channel, instrument)
        if whole:
            book.unsync()
            sequence = -1 if number_ is None else number_
            found: Found = self.state.book_snapshot(
                channel, instrument, bids, asks, at, received, sequence=sequence
            )
        else:
            if before is not None and before == number_:
                yield Reason.TOP_UNCHANGED
                return
            first = None if before is None or before < 0 else before + 1
            if first is not None and book.sequence == before > number_:
                book.sequence = number_ - 1
                first = None
            found = self.state.book_change(
                channel, instrument, bids, asks, at, received, first=first, last=number_
            )
        yield from self.verified(channel, instrument, row, found, whole=whole)

    def verified(self, channel: str, instrument: Instrument, row: Any, found: Found, *, whole: bool) -> Found:
        """Yield what a change of a book gave, unless the book does not match the row's checksum."""
        given = list(found)
        wanted = row.get("checksum")
        if not wanted:
            yield from given
            return
        text = self._texts.setdefault((channel, instrument.symbol), TextBook())
        book = self.state.order_book(channel, instrument)
        if whole:
            text.clear()
        text.apply(row["bids"], row["asks"])
        if not book.is_synced or text.crc32() == wanted:
            yield from given
            return
        sequence = book.sequence
        book.unsync()
        yield Gap(instrument.symbol, sequence, sequence)
        yield Reason.CHECKSUM

    def _trade(self, row: Any, received: datetime) -> Found:
        yield from self.state.trade(
            self.instrument(row["instId"]),
            number(row["px"]),
            number(row["sz"]),
            moment(row["ts"]),
            received,
            side=side_of(row["side"]),
            sequence=int(row["tradeId"]),
            consecutive=True,
            count=int(row.get("count") or 1),
        )

    def _candle(self, channel: str, instrument: Instrument, row: Any, received: datetime) -> Found:
        text = channel.removeprefix("candle").removesuffix("utc")
        prices = number(row[1]), number(row[2]), number(row[3]), number(row[4])
        volume = number(row[5]) if instrument.kind == "spot" else number(row[6])
        timeframe = text[:-1] + UNITS[text[-1]]
        yield self.state.candle(instrument, timeframe, moment(row[0]), prices, volume, received)

    # Contract figures

    def _figures(self, instrument: Instrument, at: datetime, received: datetime, **figures: Any) -> Any:
        underlying = "-".join(instrument.id.split("-")[:2])
        self._by_underlying.setdefault(underlying, {})[instrument.symbol] = instrument
        index = self._index.get(underlying)
        return self.state.derivative(instrument, at, received, index_price=index, **figures)

    def _mark(self, row: Any, received: datetime) -> Found:
        instrument = self.instrument(row["instId"])
        if instrument.kind == "spot":  # margin trading has a mark price of spot pairs
            yield Reason.OTHER_INSTRUMENT
            return
        yield self._figures(instrument, moment(row["ts"]), received, mark_price=number(row["markPx"]))

    def _index_ticker(self, row: Any, received: datetime) -> Found:
        underlying, at = row["instId"], moment(row["ts"])
        self._index[underlying] = number(row["idxPx"])
        instruments: Iterable[Instrument] = self._by_underlying.get(underlying, {}).values()
        for instrument in instruments:
            yield self._figures(instrument, at, received)
        if not instruments:
            yield Reason.INCOMPLETE

    def _open_interest(self, row: Any, received: datetime) -> Found:
        interest = optional(row.get("oiCcy"))
        instrument = self.instrument(row["instId"])
        yield self._figures(instrument, moment(row["ts"]), received, open_interest=interest)

    def _funding(self, row: Any, received: datetime) -> Found:
        due = row.get("fundingTime")
        yield self._figures(
            self.instrument(row["instId"]),
            moment(row["ts"]) if row.get("ts") else received,
            received,
            funding_rate=signed(row.get("fundingRate")),
            next_funding_time=moment(due) if due else None,
        )

    def _liquidation(self, name: str, row: Any, received: datetime) -> Found:
        yield self.state.liquidation(
            self.instrument(name),
            number(row["bkPx"]),
            number(row["sz"]),
            side_of(row["side"]),
            moment(row["ts"]),
            received,
        )
