"""Parse Deribit's websocket.

Source: "Deribit API v2" (https://docs.deribit.com/, "Subscriptions"):

- A book's `change` follows the frame whose `change_id` is its `prev_change_id`; 0 or no number before it
  means that the frame is whole. In 2019 frames had no `type`. Books of limited depth are always whole.
- `trade_seq` grows by one per instrument. `liquidation` states whether the maker, the taker or both were
  liquidated.
- `stats.volume` and the volume of a candle are base currency; `open_interest` is counted as amounts are.
- An `incremental_ticker` is a snapshot and then only what changed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    ascending,
    each,
    moment,
    number,
    optional,
    parsed,
    side_of,
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Parsed, rejected

_NAME: Final = re.compile(
    r"(?P<base>[A-Z0-9]+)(_(?P<quote>[A-Z0-9]+))?"
    r"(-(?P<due>PERPETUAL|\d{1,2}[A-Z]{3}\d{2})(-(?P<strike>\d+(d\d+)?)-(?P<side>[CP]))?)?"
)


def instrument_named(name: str, *, active: bool = True) -> Instrument | None:
    """Return the instrument of a name; None for combos, indices and names of another form.

    Amounts of inverse contracts are dollars; those of options, linear contracts and spot are base currency.
    Options that are not settled in USDC are priced in their base currency. `1d02` is a strike of 1.02.
    """
    found = _NAME.fullmatch(name)
    if found is None or not (found["quote"] or found["due"]):
        return None
    base, quote = found["base"], found["quote"] or "USD"
    if found["due"] is None:
        return spot(name, base, quote, active=active)
    settle = found["quote"] or base
    try:
        expiry = None if found["due"] == "PERPETUAL" else _day(found["due"])
    except ValueError:
        return None
    if found["strike"] is None:
        inverse = found["quote"] is None
        return derivative(name, base, quote, settle, expiry=expiry, inverse=inverse, active=active)
    if expiry is None:
        return None
    return derivative(
        *(name, base, quote, settle),
        expiry=expiry,
        strike=found["strike"].replace("d", "."),
        option="C" if found["side"] == "C" else "P",
        price_currency="" if found["quote"] else base,
        active=active,
    )


def read_instrument(entry: Any) -> Instrument | None:
    """Return the instrument of an entry of `public/get_instruments`; None for combos."""
    if entry["kind"].endswith("_combo"):
        return None
    return instrument_named(entry["instrument_name"], active=entry.get("is_active", True))


def _day(text: str) -> datetime:
    return datetime.strptime(text.title(), "%d%b%y").replace(hour=8, tzinfo=UTC)


_UNREAD: Final = ("deribit_", "perpetual", "estimated", "markprice", "platform", "instrument", "block", "rfq")
_MINUTES: Final = {"1D": "1d"}


class DeribitParser(ExchangeParser):
    """Read tickers, quotes, books, trades and candles."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tickers: dict[str, dict[str, Any]] = {}

    def renew(self) -> None:
        """Clear the books and partial tickers."""
        super().renew()
        self._tickers.clear()

    def unlisted(self, name: str) -> Instrument | None:
        """Return the instrument that a name describes."""
        return instrument_named(name)

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame by its channel."""
        if value.get("error"):
            return rejected(Reason.REFUSED, str(value["error"]))
        if value.get("method") == "heartbeat":
            return HEARTBEAT
        if "result" in value:
            return ACKNOWLEDGED if frame.url is None else STATUS
        if value.get("method") != "subscription":
            return rejected(Reason.UNKNOWN, f"method {value.get('method')!r}")
        channel, data = value["params"]["channel"], value["params"]["data"]
        kind, _, rest = channel.partition(".")
        if kind == "trades":
            rows = ascending(data, lambda row: row["trade_seq"])
            return each(rows, lambda row: self._trade(row, received))
        if kind in ("ticker", "quote", "incremental_ticker", "book"):
            if not self._is_read(data["instrument_name"]):
                return rejected(Reason.OTHER_INSTRUMENT)
            if kind == "book" and _is_grouped(rest):
                return rejected(Reason.OTHER_CHANNEL)
            read = self._book if kind == "book" else self._ticker
            return parsed(read(channel if kind == "book" else kind, data, received))
        if kind == "chart":
            _, name, resolution = rest.split(".")
            if not self._is_read(name):
                return rejected(Reason.OTHER_INSTRUMENT)
            return parsed(self._candle(self.instrument(name), resolution, data, received))
        known = kind.startswith(_UNREAD)
        return rejected(Reason.OTHER_CHANNEL if known else Reason.UNKNOWN, f"channel {channel!r}")

    def _is_read(self, name: str) -> bool:
        """Return whether a name is that of a market; combos have negative prices and no symbol."""
        return self.instruments.get(name) is not None or instrument_named(name) is not None

    def _ticker(self, kind: str, data: Any, received: datetime) -> Found:
        name, at = data["instrument_name"], moment(data["timestamp"])
        if kind == "incremental_ticker":
            before = self._tickers.get(name)
            if before is None and data.get("type", "snapshot") != "snapshot":
                yield Reason.INCOMPLETE
                return
            data = {**(before or {}), **data} if data.get("type") == "change" else dict(data)
            self._tickers[name] = data
        instrument = self.instrument(name)
        yield self.state.quote(
            instrument,
            *(optional(data.get("best_bid_price")), optional(data.get("best_ask_price"))),
            *(optional(data.get("best_bid_amount")), optional(data.get("best_ask_amount"))),
            at,
            received,
            kind,
        )
        if kind == "quote":
            return
        last, stats = optional(data.get("last_price")), data.get("stats") or {}
        if instrument.kind != "spot":
            yield self._figures(instrument, data, last, at, received)
        if last is not None:
            volume, change = optional(stats.get("volume")), signed(stats.get("price_change"))
            yield self.state.ticker(instrument, last, at, received, volume, change)

    def _figures(
        self, instrument: Instrument, data: Any, last: float | None, at: datetime, received: datetime
    ) -> Any:
        mark, amount = optional(data.get("mark_price")), optional(data.get("open_interest"))
        interest = None if amount is None else instrument.base_size(amount, mark or last or 0.0)
        return self.state.derivative(
            instrument,
            at,
            received,
            mark_price=mark,
            index_price=optional(data.get("index_price")),
            last_price=last,
            funding_rate=signed(data.get("current_funding")),
            open_interest=interest,
        )

    def _book(self, channel: str, data: Any, received: datetime) -> Found:
        instrument, at = self.instrument(data["instrument_name"]), moment(data["timestamp"])
        bids, asks = _levels(data["bids"]), _levels(data["asks"])
        last, before = int(data["change_id"]), data.get("prev_change_id")
        if not before or data.get("type") == "snapshot":
            self.state.order_book(channel, instrument).unsync()
            yield from self.state.book_snapshot(channel, instrument, bids, asks, at, received, sequence=last)
            return
        yield from self.state.book_change(
            channel, instrument, bids, asks, at, received, first=int(before) + 1, last=last
        )

    def _trade(self, row: Any, received: datetime) -> Found:
        name = row["instrument_name"]
        if not self._is_read(name):
            yield Reason.OTHER_INSTRUMENT
            return
        instrument, price, amount = self.instrument(name), number(row["price"]), number(row["amount"])
        at, side, liquidated = moment(row["timestamp"]), side_of(row["direction"]), row.get("liquidation")
        given = list(
            self.state.trade(
                *(instrument, price, amount, at, received),
                side=side,
                trade_id=row.get("trade_id"),
                sequence=int(row["trade_seq"]),
                consecutive=True,
            )
        )
        yield from given
        if liquidated in ("M", "T", "MT") and Reason.DUPLICATE not in given:
            order: Any = side if "T" in liquidated else {"buy": "sell", "sell": "buy"}[side]
            yield self.state.liquidation(instrument, price, amount, order, at, received, row.get("trade_id"))

    def _candle(self, instrument: Instrument, resolution: str, data: Any, received: datetime) -> Found:
        prices = number(data["open"]), number(data["high"]), number(data["low"]), number(data["close"])
        timeframe = _MINUTES.get(resolution)
        if timeframe is None:
            minutes = int(resolution)
            timeframe = f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"
        opened, volume = moment(data["tick"]), number(data["volume"])
        yield self.state.candle(instrument, timeframe, opened, prices, volume, received)


def _is_grouped(rest: str) -> bool:
    """Return whether prices of a book `NAME.GROUP.DEPTH.INTERVAL` are merged: it has no true best price."""
    parts = rest.split(".")
    return len(parts) == 4 and parts[1] != "none"


def _levels(rows: Any) -> list[tuple[float, float]]:
    """Return levels `["new", price, amount]`, `["delete", price, 0]`, or, grouped, `[price, amount]`."""
    return [(number(row[-2]), 0.0 if row[0] == "delete" else number(row[-1])) for row in rows]
