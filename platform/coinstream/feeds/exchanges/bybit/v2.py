"""Parse the websockets that Bybit had before v5.

Source: "Bybit API: Inverse Perpetual v2, USDT Perpetual, Spot v1" (https://bybit-exchange.github.io/docs/,
archived pages), checked
against a session of 2021-04-17:

- `realtime` carries inverse contracts, `realtime_public` contracts in USDT; names of the former end in USD
  or in a month code. Sizes of inverse contracts are dollars.
- Numbers come as scaled integers: `_e4` (prices), `_e6` (rates), `_e8` (sizes and turnover).
- Contracts in USDC use camelCase for the same fields.
- `m` of a spot trade says that the buyer was the taker.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from coinstream.feeds.exchanges.bybit import instruments as names
from coinstream.feeds.exchanges.bybit.v5 import BybitV5Parser, timeframe
from coinstream.feeds.exchanges.parsing import Found, each, levels, moment, number, parsed, side_of, signed
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import ACKNOWLEDGED, Frame, Parsed, rejected

_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[a-z])(?=\d)")
_SCALES: Final = (("", 1.0), ("_e4", 1e4), ("_e6", 1e6), ("_e8", 1e8))
_TOPICS: Final = frozenset(
    ("orderBookL2_25", "orderBook_200", "instrument_info", "trade", "candle", "klineV2", "insurance")
)
_SPOT_TOPICS: Final = frozenset(("trade", "depth", "bookTicker", "realtimes", "kline", "mergedDepth"))


class BybitParser(BybitV5Parser):
    """Read v5 and the protocols before it."""

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame of an older protocol by its topic."""
        topic = value.get("topic") or ""
        if topic in _SPOT_TOPICS and "params" in value:
            return self._spot(topic, value, received)
        kind, _, rest = topic.partition(".")
        if kind not in _TOPICS:
            return super().on_json(value, frame, received)
        detail, _, name = rest.rpartition(".")
        data = value["data"]
        if kind == "insurance":
            return rejected(Reason.OTHER_CHANNEL)
        if kind == "trade":
            return each(data, lambda row: self._old_trade(row, received))
        instrument = self.contract(name)
        stamp = value.get("timestamp_e6") or value.get("timestampE6")
        at = moment(stamp) if stamp else received
        if kind.startswith("orderBook"):
            return parsed(self._old_book(kind, instrument, data, value.get("type"), at, received))
        if kind == "instrument_info":
            rows = [data] if value.get("type") == "snapshot" else data.get("update", [])
            return each(rows, lambda row: self._info(instrument, row, at, received))
        return each(data, lambda row: self._old_candle(instrument, detail, row, received))

    def contract(self, name: str) -> Instrument:
        """Return the contract of a name: of the address's category first, else of the one that has it."""
        first = "inverse" if self.category == "inverse" else "linear"
        for category in (first, "linear", "inverse"):
            found = names.found_in(self.instruments, name, category)
            if found is not None:
                return found
        return self.named(name)

    def _old_trade(self, row: Any, received: datetime) -> Found:
        row = _snake(row)
        yield from self.state.trade(
            self.contract(row["symbol"]),
            number(row["price"]),
            number(row["size"]),
            moment(row["trade_time_ms"]),
            received,
            side=side_of(row["side"]),
            trade_id=row.get("trade_id"),
        )

    def _old_book(
        self, channel: str, instrument: Instrument, data: Any, kind: Any, at: datetime, received: datetime
    ) -> Found:
        if kind == "snapshot":
            rows = data if isinstance(data, list) else data.get("order_book", data.get("orderBook", []))
            yield from self.state.book_snapshot(channel, instrument, *_sides(rows), at, received)
            return
        rows = [{**row, "size": 0.0} for row in data.get("delete", [])]
        rows += [*data.get("update", []), *data.get("insert", [])]
        yield from self.state.book_change(channel, instrument, *_sides(rows), at, received)

    def _info(self, instrument: Instrument, row: Any, at: datetime, received: datetime) -> Found:
        row = _snake(row)
        last, mark = _scaled(row, "last_price"), _scaled(row, "mark_price")
        interest, due = _scaled(row, "open_interest"), row.get("next_funding_time")
        if interest is not None:
            interest = instrument.base_size(interest, mark or last or 0.0)
        yield self.state.derivative(
            instrument,
            at,
            received,
            mark_price=mark,
            index_price=_scaled(row, "index_price"),
            last_price=last,
            funding_rate=_signed(row, "funding_rate"),
            next_funding_time=moment(due) if due else None,
            open_interest=interest,
        )
        if last is not None:
            change = _signed(row, "price_24h_pcnt")
            volume = _scaled(row, "turnover_24h" if instrument.inverse else "volume_24h")
            change = None if change is None else change * 100
            yield self.state.ticker(instrument, last, at, received, volume, change)

    def _old_candle(self, instrument: Instrument, interval: str, row: Any, received: datetime) -> Found:
        prices = number(row["open"]), number(row["high"]), number(row["low"]), number(row["close"])
        volume = number(row["turnover" if instrument.inverse else "volume"])
        opened = moment(row["start"])
        yield self.state.candle(instrument, timeframe(interval), opened, prices, volume, received)

    # Spot v1

    def _spot(self, topic: str, value: Any, received: datetime) -> Parsed:
        if "data" not in value:
            refused = str(value.get("code", "0")) != "0"
            return rejected(Reason.REFUSED, str(value.get("msg"))) if refused else ACKNOWLEDGED
        self._infer(is_spot=True)
        params, data = value["params"], value["data"]
        instrument = self.named(params.get("symbolName") or params["symbol"])
        if topic == "trade":
            return parsed(
                self.state.trade(
                    *(instrument, number(data["p"]), number(data["q"]), moment(data["t"]), received),
                    side="buy" if data["m"] else "sell",
                    trade_id=data["v"],
                )
            )
        if topic == "depth":
            return parsed(
                self.state.book_snapshot(
                    topic, instrument, levels(data["b"]), levels(data["a"]), moment(data["t"]), received
                )
            )
        if topic == "bookTicker":
            bid, ask = number(data["bidPrice"]), number(data["askPrice"])
            sizes = number(data["bidQty"]), number(data["askQty"])
            return parsed(
                [self.state.quote(instrument, bid, ask, *sizes, moment(data["time"]), received, topic)]
            )
        if topic == "realtimes":
            change = signed(data.get("m"))
            at, volume = moment(data["t"]), number(data["v"])
            price = self.state.ticker(
                instrument, number(data["c"]), at, received, volume, change and change * 100
            )
            return parsed([price])
        return rejected(Reason.OTHER_CHANNEL)


def _sides(rows: Any) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    bids: list[tuple[float, float]] = []
    asks: list[tuple[float, float]] = []
    for row in rows:
        side = bids if side_of(row["side"]) == "buy" else asks
        side.append((number(row["price"]), number(row.get("size"))))
    return bids, asks


def _snake(row: Any) -> dict[str, Any]:
    """Return a row with the names of contracts in USDC (`markPriceE4`) as the others have them."""
    if all(name.islower() for name in row):
        return dict(row)
    return {name if name.islower() else _HUMP.sub("_", name).lower(): value for name, value in row.items()}


def _scaled(row: Any, name: str) -> float | None:
    for suffix, scale in _SCALES:
        if row.get(name + suffix) not in (None, ""):
            return number(row[name + suffix]) / scale or None
    return None


def _signed(row: Any, name: str) -> float | None:
    for suffix, scale in _SCALES:
        found = signed(row.get(name + suffix))
        if found is not None:
            return found / scale
    return None
