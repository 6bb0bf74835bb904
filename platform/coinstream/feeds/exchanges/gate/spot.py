"""Parse Gate's websocket v4 for spot, and the older protocol of methods.

Source: "Gate API: Spot WebSocket v4" (https://www.gate.com/docs/developers/apiv4/ws/en/):

- `spot.order_book_update` numbers its changes `U` to `u` without holes per pair, on top of the REST book
  whose `id` they follow. `spot.order_book` is always whole, `spot.obu` where `full` is true.
- `spot.book_ticker` has the best levels with sizes; `spot.tickers` has bid and ask without sizes.
- `v` of a candle is in quote currency; `a`, the base volume, was added in 2022. Before, the base volume is
  `v` at the closing price.
- Trades of the older protocol come newest first.
"""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from coinstream.feeds.exchanges.gate import instruments as names
from coinstream.feeds.exchanges.parsing import (
    Found,
    UnknownSymbolError,
    ascending,
    each,
    moment,
    number,
    optional,
    parsed,
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
    Number,
    Parsed,
    rejected,
)

_ALIASES: Final = {"7d": "1w", "30d": "1M"}
_UNREAD: Final = ("announcement.", "spot.cross", "futures.contract_stats", "options.contracts", "options.ul_")


class _Best(msgspec.Struct, gc=False):
    t: int
    u: int
    s: str
    b: Number
    B: Number
    a: Number
    A: Number


class _BestFrame(msgspec.Struct, gc=False):
    channel: Literal["spot.book_ticker"]
    event: Literal["update"]
    result: _Best
    error: Any = None


_BOOK_TICKER: Final = b'"channel":"spot.book_ticker",'
_CHANNEL_START: Final = len('{"time":1700000000,"time_ms":1700000000000,')
_CHANNEL_AT: Final = slice(_CHANNEL_START, _CHANNEL_START + len(_BOOK_TICKER))
"""Position of the channel, which is compared faster than it is searched."""
_best: Final = msgspec.json.Decoder(_BestFrame, strict=False)


class GateSpotParser(QuickParser):
    """Read the channels of spot markets."""

    # Frames without `time_ms`, as before 2021, use the general path.
    quick_start = b'{"time":'

    def quick(self, payload: bytes, received: datetime) -> Quick:
        """See `QuickParser.quick`."""
        if payload[_CHANNEL_AT] != _BOOK_TICKER:
            return None
        frame = _best.decode(payload)
        row = frame.result
        bid, ask, update, instrument = row.b, row.a, row.u, self._by_name.get(row.s)
        if instrument is None:
            instrument = self.instruments.get(f"spot.{row.s}")
            if instrument is None:
                return None
            self._by_name[row.s] = instrument
        if not 0 < bid < ask or update <= 0 or frame.error:
            return None
        symbol, updates = instrument.symbol, self._updates["spot.book_ticker"]
        at, last = self._quick_time(row.t), updates.get(symbol, -1)
        if update <= last:
            return Reason.DUPLICATE if update == last else Reason.OUT_OF_DATE
        updates[symbol] = update
        return self.state.quote(instrument, bid, ask, row.B, row.A, at, received, "spot.book_ticker")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._quick_time = QuickTimes()
        self._by_name: dict[str, Instrument] = {}
        self._updates: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame by its channel."""
        if isinstance(value, list):
            return STATUS if frame.url is not None else rejected(Reason.UNKNOWN, "a list")
        if value.get("error"):
            return rejected(Reason.REFUSED, str(value["error"]))
        if "method" in value:
            return self._older(value["method"], value["params"], received)
        channel, event = value.get("channel") or "", value.get("event")
        if channel.endswith((".pong", ".ping")):
            return HEARTBEAT
        if event in ("subscribe", "unsubscribe"):
            return ACKNOWLEDGED
        if channel.startswith(_UNREAD):
            return rejected(Reason.OTHER_CHANNEL)
        if channel:
            return self.on_channel(channel, value, received)
        if frame.url is not None:
            if "bids" in value:
                return self._reply(value, frame.url, received)
            refused = rejected(Reason.REFUSED, str(value.get("message")))
            return refused if value.get("label") else STATUS
        known = "result" in value and "id" in value
        return ACKNOWLEDGED if known else rejected(Reason.UNKNOWN, "neither channel nor method")

    def on_channel(self, channel: str, value: Any, received: datetime) -> Parsed:
        """Return the result of a frame of a spot channel."""
        rows = value["result"] if isinstance(value["result"], list) else [value["result"]]
        at = moment(value.get("time_ms") or value["time"]) if value.get("time") else received
        if channel == "spot.tickers":
            return each(rows, lambda row: self._ticker(row, at, received))
        if channel in ("spot.trades", "spot.trades_v2"):
            return each(ascending(rows, lambda row: row["id"]), lambda row: self._trade(row, received))
        if channel == "spot.book_ticker":
            return each(rows, lambda row: self.best("spot", channel, row, received))
        if channel == "spot.order_book_update":
            return each(rows, lambda row: self.change("spot", channel, row, received))
        if channel == "spot.order_book":
            return each(rows, lambda row: self.whole("spot", channel, row["s"], row, received))
        if channel == "spot.obu":
            return each(rows, lambda row: self.updated("spot", channel, row, received))
        if channel == "spot.candlesticks":
            return each(rows, lambda row: self._candle(row, received))
        return rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def named(self, market: str, name: str) -> Instrument:
        """Return the instrument of a name in a market (`spot`, `futures`, `options`).

        Raises:
            UnknownSymbolError: the list does not contain it, and the name is ambiguous.
        """
        identity = f"{market}.{name}"
        found = self.instruments.get(identity)
        if found is None:
            found = names.instrument_named(identity)
            if found is None:
                raise UnknownSymbolError(f"{name!r} is not in the {market} instruments of {self.exchange}")
            self.instruments.add([found])
        return found

    def _ticker(self, row: Any, at: datetime, received: datetime) -> Found:
        instrument, volume = self.named("spot", row["currency_pair"]), optional(row.get("base_volume"))
        change = signed(row.get("change_percentage"))
        yield self.state.ticker(instrument, number(row["last"]), at, received, volume, change)

    def _trade(self, row: Any, received: datetime) -> Found:
        yield from self.state.trade(
            self.named("spot", row["currency_pair"]),
            number(row["price"]),
            number(row["amount"]),
            moment(row.get("create_time_ms") or row["create_time"]),
            received,
            side=side_of(row["side"]),
            sequence=int(row["id"]),
        )

    def best(self, market: str, channel: str, row: Any, received: datetime) -> Found:
        """Yield the quote of a `book_ticker`, whose numbers `u` rise."""
        instrument, update = self.named(market, row["s"]), int(row["u"])
        last = self._updates[channel].get(instrument.symbol, -1)
        if 0 < update <= last:
            yield Reason.DUPLICATE if update == last else Reason.OUT_OF_DATE
            return
        self._updates[channel][instrument.symbol] = update
        at = moment(row["t"]) if row.get("t") else received
        bid, ask, sizes = number(row["b"]), number(row["a"]), (number(row["B"]), number(row["A"]))
        yield self.state.quote(instrument, bid, ask, *sizes, at, received, channel)

    def change(self, market: str, channel: str, row: Any, received: datetime) -> Found:
        """Yield the messages of a numbered change of a book."""
        instrument, at = self.named(market, row["s"]), moment(row["t"]) if row.get("t") else received
        bids, asks = pairs(row.get("b") or ()), pairs(row.get("a") or ())
        if row.get("full"):
            yield from self.state.book_snapshot(
                channel, instrument, bids, asks, at, received, sequence=int(row["u"])
            )
            return
        yield from self.state.book_change(
            channel, instrument, bids, asks, at, received, first=int(row["U"]), last=int(row["u"])
        )

    def updated(self, market: str, channel: str, row: Any, received: datetime) -> Found:
        """Yield the messages of a frame of `obu`, whose stream is named like `ob.BTC_USDT.400`."""
        _, name, depth = row["s"].split(".")
        yield from self.change(market, f"{channel}.{depth}", {**row, "s": name}, received)

    def whole(self, market: str, channel: str, name: str, row: Any, received: datetime) -> Found:
        """Yield the messages of a whole book."""
        instrument, stamp = self.named(market, name), row.get("t") or row.get("current")
        at = moment(stamp) if stamp else received
        sequence = row.get("lastUpdateId") or row.get("id") or -1
        bids, asks = pairs(row["bids"]), pairs(row["asks"])
        yield from self.state.book_snapshot(
            channel, instrument, bids, asks, at, received, sequence=int(sequence)
        )

    def _candle(self, row: Any, received: datetime) -> Found:
        timeframe, _, pair = row["n"].partition("_")
        instrument = self.named("spot", pair)
        prices = number(row["o"]), number(row["h"]), number(row["l"]), number(row["c"])
        base = optional(row.get("a"))
        volume = base if base is not None else (number(row["v"]) / prices[3] if prices[3] else 0.0)
        opened = moment(row["t"])
        yield self.state.candle(
            instrument, _ALIASES.get(timeframe, timeframe), opened, prices, volume, received
        )

    def _reply(self, value: Any, url: str, received: datetime) -> Parsed:
        is_spot = "currency_pair=" in url
        name = url.partition("currency_pair=" if is_spot else "contract=")[2].partition("&")[0]
        market = "spot" if is_spot else "futures"
        return parsed(self.whole(market, f"{market}.order_book_update", name, value, received))

    # The protocol before v4

    def _older(self, method: str, params: Any, received: datetime) -> Parsed:
        if method == "trades.update":
            rows = ascending(params[1], lambda row: row["id"])
            return each(rows, lambda row: self._older_trade(params[0], row, received))
        if method == "depth.update":
            return parsed(self._older_depth(params, received))
        if method == "ticker.update":
            return parsed(self._older_ticker(params, received))
        known = method in ("kline.update", "price.update")
        return rejected(Reason.OTHER_CHANNEL if known else Reason.UNKNOWN, f"method {method!r}")

    def _older_trade(self, name: str, row: Any, received: datetime) -> Found:
        price, size, at = number(row["price"]), number(row["amount"]), moment(row["time"])
        yield from self.state.trade(
            *(self.named("spot", name), price, size, at, received),
            side=side_of(row["type"]),
            sequence=int(row["id"]),
        )

    def _older_depth(self, params: Any, received: datetime) -> Found:
        clean, row, name = params[0], params[1], params[2]
        instrument = self.named("spot", name)
        at = moment(row["current"]) if row.get("current") else received
        bids, asks = pairs(row.get("bids") or ()), pairs(row.get("asks") or ())
        give = self.state.book_snapshot if clean else self.state.book_change
        yield from give("depth", instrument, bids, asks, at, received)

    def _older_ticker(self, params: Any, received: datetime) -> Found:
        name, row = params[0], params[1]
        instrument, last = self.named("spot", name), number(row["last"])
        volume, change = optional(row.get("baseVolume")), signed(row.get("change"))
        yield self.state.ticker(instrument, last, None, received, volume, change)


def pairs(rows: Any) -> list[tuple[float, float]]:
    """Return price and size of levels `["1.5", "2"]` or `{"p": "1.5", "s": 2}`."""
    return [
        (number(row["p"]), number(row["s"])) if isinstance(row, dict) else (number(row[0]), number(row[1]))
        for row in rows
    ]
