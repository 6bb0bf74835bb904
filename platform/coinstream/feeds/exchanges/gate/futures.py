"""Parse Gate's websocket v4 for perpetual contracts, futures and options.

Source: "Gate API: Futures WebSocket v4" (https://www.gate.com/docs/developers/futures/ws/en/):

- Sizes are contracts of `quanto_multiplier` base currency, or of one dollar where the contract is inverse.
- A trade of negative size was sold by its taker; so was a liquidation order.
- `futures.order_book` sends whole books (`all`), and in 2020 changes whose negative sizes are asks.
- `volume_24h_base` of a ticker is base currency, `total_size` contracts.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from coinstream.feeds.exchanges.gate.spot import GateSpotParser
from coinstream.feeds.exchanges.parsing import Found, ascending, each, moment, number, optional, signed
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.parser import STATUS, Parsed, rejected

_ALIASES = {"7d": "1w", "30d": "1M"}


class GateParser(GateSpotParser):
    """Read the channels of all markets."""

    def on_channel(self, channel: str, value: Any, received: datetime) -> Parsed:
        """Return the result of a frame of a channel."""
        market, _, kind = channel.partition(".")
        if market == "spot":
            return super().on_channel(channel, value, received)
        if market not in ("futures", "options"):
            return rejected(Reason.UNKNOWN, f"channel {channel!r}")
        result = value["result"]
        rows = result if isinstance(result, list) else [result]
        at = moment(value.get("time_ms") or value["time"]) if value.get("time") else received
        if not rows:
            return STATUS
        if kind in ("trades", "public_liquidates", "liquidates"):
            read = self._contract_trade if kind == "trades" else self._liquidation
            oldest_first = ascending(rows, lambda row: row.get("id") or row.get("time_ms") or row["time"])
            return each(oldest_first, lambda row: read(market, row, received))
        if kind in ("tickers", "contract_tickers"):
            return each(rows, lambda row: self._contract_ticker(market, row, at, received))
        if kind == "book_ticker":
            return each(rows, lambda row: self.best(market, channel, row, received))
        if kind == "order_book_update":
            return each(rows, lambda row: self.change(market, channel, row, received))
        if kind == "obu":
            return each(rows, lambda row: self.updated(market, channel, row, received))
        if kind == "order_book":
            if isinstance(result, dict):
                return each(rows, lambda row: self._all(market, channel, row, received))
            return self._signed_changes(market, channel, rows, at, received)
        if kind in ("candlesticks", "contract_candlesticks"):
            return each(rows, lambda row: self._contract_candle(market, row, received))
        return rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def _contract_trade(self, market: str, row: Any, received: datetime) -> Found:
        size = signed(row["size"])
        if size is None:
            raise ValueError(f"{row['size']!r} is not a size")
        yield from self.state.trade(
            self.named(market, row["contract"]),
            number(row["price"]),
            abs(size),
            moment(row.get("create_time_ms") or row["create_time"]),
            received,
            side="buy" if size > 0 else "sell",
            sequence=int(row["id"]),
        )

    def _liquidation(self, market: str, row: Any, received: datetime) -> Found:
        size = signed(row.get("order_size") or row["size"])
        if size is None:
            raise ValueError(f"{row['size']!r} is not a size")
        price = number(row.get("price") or row.get("fill_price") or row.get("order_price"))
        at = moment(row.get("time_ms") or row["time"])
        instrument = self.named(market, row["contract"])
        side: Any = "buy" if size > 0 else "sell"
        yield self.state.liquidation(instrument, price, abs(size), side, at, received)

    def _contract_ticker(self, market: str, row: Any, at: datetime, received: datetime) -> Found:
        instrument = self.named(market, row.get("contract") or row["name"])
        last = number(row.get("last") or row.get("last_price"))
        mark = optional(row.get("mark_price")) or None
        contracts = optional(row.get("total_size") or row.get("position_size"))
        interest = None if contracts is None else instrument.base_size(contracts, mark or last)
        yield self.state.derivative(
            instrument,
            at,
            received,
            mark_price=mark,
            index_price=optional(row.get("index_price")) or None,
            last_price=last or None,
            funding_rate=signed(row.get("funding_rate")),
            open_interest=interest,
        )
        volume, change = optional(row.get("volume_24h_base")), signed(row.get("change_percentage"))
        yield self.state.ticker(instrument, last, at, received, volume, change)

    def _all(self, market: str, channel: str, row: Any, received: datetime) -> Found:
        name = row.get("contract") or row["s"]
        yield from self.whole(market, channel, name, row, received)

    def _signed_changes(
        self, market: str, channel: str, rows: Any, at: datetime, received: datetime
    ) -> Parsed:
        by_name: dict[str, list[Any]] = {}
        for row in rows:
            by_name.setdefault(row["c"], []).append(row)

        def read(name: str) -> Found:
            bids, asks = [], []
            for row in by_name[name]:
                price, size = number(row["p"]), signed(row["s"])
                if size is None:
                    raise ValueError(f"{row['s']!r} is not a size")
                bids.append((price, max(size, 0.0)))
                asks.append((price, max(-size, 0.0)))
            instrument = self.named(market, name)
            yield from self.state.book_change(channel, instrument, bids, asks, at, received)

        return each(by_name, read)

    def _contract_candle(self, market: str, row: Any, received: datetime) -> Found:
        timeframe, _, name = row["n"].partition("_")
        if name.startswith(("mark_", "index_")) or timeframe in ("mark", "index"):
            yield Reason.OTHER_CHANNEL
            return
        instrument = self.named(market, name)
        prices = number(row["o"]), number(row["h"]), number(row["l"]), number(row["c"])
        volume = instrument.base_size(number(row.get("v")), prices[3]) or 0.0
        timeframe = _ALIASES.get(timeframe, timeframe)
        yield self.state.candle(instrument, timeframe, moment(row["t"]), prices, volume, received)
