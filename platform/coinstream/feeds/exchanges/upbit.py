"""Connect to Upbit: websocket v1, spot markets.

Source: "Upbit Developer Center", <https://docs.upbit.com/kr/reference/websocket-guide> (types `trade`,
`orderbook`, `ticker`, `candle`), as of 2026-05; checked against a session of 2021-04-17.

- A market's name begins with its quote currency: `KRW-BTC` is BTC/KRW. Binary frames contain JSON.
- The format `SIMPLE` abbreviates the field names, `..._LIST` puts several entries into one frame.
- Each frame of an order book contains at most 30 levels per side. `ask_bid` is the side of the taker: `ASK`
  sells. `sequential_id` is unique and does not order trades.
- The exchange closes a connection after 120 s without a frame of the client, and answers `PING`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Literal

import msgspec

from coinstream.feeds.exchanges.base import (
    Channel,
    ExchangeAdapter,
    Subscriptions,
    TradesRequest,
    register_adapter,
)
from coinstream.feeds.exchanges.connections import Heartbeat, Limits, redirected
from coinstream.feeds.exchanges.parsing import ExchangeParser, Found, each, moment, number, optional
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, spot
from coinstream.feeds.parser import HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected

WS: Final = "wss://api.upbit.com/websocket/v1"
REST: Final = "https://api.upbit.com"
_LONG: Final = {
    **{"ty": "type", "cd": "code", "tms": "timestamp", "ttms": "trade_timestamp", "tp": "trade_price"},
    **{"tv": "trade_volume", "ab": "ask_bid", "sid": "sequential_id", "obu": "orderbook_units"},
    **{"ap": "ask_price", "bp": "bid_price", "as": "ask_size", "bs": "bid_size"},
    **{"op": "opening_price", "hp": "high_price", "lp": "low_price", "cdttmu": "candle_date_time_utc"},
    **{"catv": "candle_acc_trade_volume", "atv24h": "acc_trade_volume_24h"},
}
"""Field names that the format `SIMPLE` abbreviates."""
_SIDES: Final[dict[str, Literal["buy", "sell"]]] = {"ASK": "sell", "BID": "buy"}


class UpbitParser(ExchangeParser):
    """Parser of Upbit's frames: trades, books, tickers, candles."""

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return STATUS
        if isinstance(value, list):
            return each(value, lambda row: self._entry(row, received))
        if "error" in value:
            return rejected(Reason.REFUSED, str(value["error"])[:200])
        if "status" in value:
            return HEARTBEAT
        return each((value,), lambda row: self._entry(row, received))

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: the quote currency stands first."""
        quote, _, base = name.partition("-")
        return spot(name, base, quote) if base and quote else None

    def _entry(self, row: Any, received: datetime) -> Found:
        row = _long(row)
        instrument, kind = self.instrument(row["code"]), row["type"]
        match kind:
            case "trade":
                return self._trade(instrument, row, received)
            case "orderbook":
                return self._book(instrument, row, received)
            case "ticker":
                return self._ticker(instrument, row, received)
        if kind.startswith("candle."):
            return self._candle(instrument, kind.partition(".")[2], row, received)
        return (Reason.UNKNOWN,)

    def _trade(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        return self.state.trade(
            instrument,
            number(row["trade_price"]),
            number(row["trade_volume"]),
            moment(row["trade_timestamp"]),
            received,
            side=_SIDES.get(row["ask_bid"]),
            trade_id=row["sequential_id"],
        )

    def _book(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        units = [
            {_LONG.get(key, key): value for key, value in unit.items()} for unit in row["orderbook_units"]
        ]
        bids = [(number(unit["bid_price"]), number(unit["bid_size"])) for unit in units]
        asks = [(number(unit["ask_price"]), number(unit["ask_size"])) for unit in units]
        at = moment(row["timestamp"])
        return self.state.book_snapshot("orderbook", instrument, bids, asks, at, received)

    def _ticker(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        # Changes are since midnight, not over 24 hours.
        volume = optional(row.get("acc_trade_volume_24h"))
        at = moment(row["timestamp"])
        yield self.state.ticker(instrument, number(row["trade_price"]), at, received, volume)

    def _candle(self, instrument: Instrument, timeframe: str, row: Any, received: datetime) -> Found:
        names = ("opening_price", "high_price", "low_price", "trade_price", "candle_acc_trade_volume")
        begin, high, low, close, volume = (number(row[name]) for name in names)
        opened = moment(row["candle_date_time_utc"])
        yield self.state.candle(instrument, timeframe, opened, (begin, high, low, close), volume, received)


def _long(row: Any) -> dict[str, Any]:
    return {_LONG.get(key, key): value for key, value in row.items()}


@register_adapter
class UpbitAdapter(ExchangeAdapter):
    """Adapter of Upbit: spot markets."""

    exchange = "upbit"
    hosts: ClassVar[tuple[str, ...]] = ("upbit.com",)
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("orderbook", ("level1", "book"), "recording"),
        Channel("trade", ("trade", "price"), "recording"),
        Channel("ticker", ("price",), "documentation"),
        Channel("candle.1m", ("ohlcv",), "documentation"),
    )
    limits = Limits(symbols_per_connection=200, symbols_per_request=200, requests_per_second=4.0)
    instruments_urls: ClassVar[tuple[str, ...]] = (f"{REST}/v1/market/all",)
    heartbeat = Heartbeat(b"PING", 60.0)
    parser_class = UpbitParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {
        "trade": ("trade",),
        "orderbook": ("level1", "book"),
        "ticker": ("price",),
        "candle.1m": ("ohlcv",),
    }

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        url = redirected("https://api.upbit.com/v1/trades/ticks", self.rest)
        return TradesRequest(url, {"market": instrument.id, "count": "500"})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        for row in reversed(reply):
            at = {"trade_timestamp": row["timestamp"]}
            yield {"type": "trade", "code": instrument.id, **row, **at}

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        codes = [instrument.id for instrument in instruments]
        request: list[dict[str, Any]] = [{"ticket": f"coinstream {codes[0]}"}, {"format": "SIMPLE"}]
        request += [{"type": name, "codes": codes} for name in channels]
        return [msgspec.json.encode(request)]

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the markets of `v1/market/all`."""
        for row in reply:
            quote, _, base = row["market"].partition("-")
            yield spot(row["market"], base, quote)
