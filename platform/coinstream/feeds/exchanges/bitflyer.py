"""Connect to bitFlyer Lightning: realtime API over JSON-RPC; spot markets, Lightning FX and dated futures.

Source: "bitFlyer Lightning API", <https://lightning.bitflyer.com/docs>, sections "Realtime API" and "Market
List", as of 2026-05; checked against a session of 2021-12-12.

- `lightning_board_snapshot_*` sends the complete book, `lightning_board_*` its changes. They have neither a
  number nor a time, so the receipt time is used. Market orders are levels with the price 0.
- Times have seven fractional digits, with or without `Z`. `side` of an execution is the side of the taker,
  empty in an auction.
- `FX_BTC_JPY` is a perpetual contract, `BTCJPY24DEC2021` a future; sizes of both are in base currency.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, ClassVar, Final

import msgspec

from coinstream.feeds.exchanges.base import (
    Channel,
    ExchangeAdapter,
    Subscriptions,
    TradesRequest,
    register_adapter,
)
from coinstream.feeds.exchanges.connections import Limits, redirected
from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    ascending,
    each,
    levels,
    moment,
    number,
    optional,
    optional_side,
    parsed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, STATUS, Frame, Gap, Parsed, rejected

WS: Final = "wss://ws.lightstream.bitflyer.com/json-rpc"
REST: Final = "https://api.bitflyer.com"
_KINDS: Final = ("board_snapshot", "board", "ticker", "executions")
_FUTURE: Final = re.compile(r"([A-Z]{3})([A-Z]{3})(\d{2}[A-Z]{3}\d{4})")


class BitflyerParser(ExchangeParser):
    """Parser of bitFlyer's frames: books, tickers, executions."""

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return STATUS
        if "error" in value:
            return rejected(Reason.REFUSED, str(value["error"])[:200])
        if value.get("method") != "channelMessage":
            return (
                ACKNOWLEDGED if "result" in value else rejected(Reason.UNKNOWN, "neither result nor channel")
            )
        channel, body = value["params"]["channel"], value["params"]["message"]
        name = channel.removeprefix("lightning_")
        kind = next((kind for kind in _KINDS if name.startswith(f"{kind}_")), None)
        if kind is None:
            return rejected(Reason.UNKNOWN, f"channel {channel!r}")
        instrument = self.instrument(name.removeprefix(f"{kind}_"))
        if kind == "executions":
            rows = ascending(body, lambda row: row["id"])
            return each(rows, lambda row: self._trade(instrument, row, received))
        read = self._ticker if kind == "ticker" else partial(self._book, kind)
        return parsed(read(instrument, body, received))

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: `BTC_JPY`, `FX_BTC_JPY`, `BTCJPY24DEC2021`."""
        return read_name(name)

    def _trade(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        return self.state.trade(
            instrument,
            number(row["price"]),
            number(row["size"]),
            moment(row["exec_date"]),
            received,
            side=optional_side(row["side"]),
            trade_id=row["id"],
        )

    def _ticker(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        at = moment(row["timestamp"])
        bid, ask = number(row["best_bid"]), number(row["best_ask"])
        sizes = number(row["best_bid_size"]), number(row["best_ask_size"])
        yield self.state.quote(instrument, bid, ask, *sizes, at, received, "ticker")
        volume = optional(row.get("volume_by_product"))
        yield self.state.ticker(instrument, number(row["ltp"]), at, received, volume)

    def _book(self, kind: str, instrument: Instrument, row: Any, received: datetime) -> Found:
        bids, asks = ([level for level in levels(row[side]) if level[0]] for side in ("bids", "asks"))
        update = self.state.book_change if kind == "board" else self.state.book_snapshot
        return update("board", instrument, bids, asks, received, received)


@register_adapter
class BitflyerAdapter(ExchangeAdapter):
    """Adapter of bitFlyer: spot markets, Lightning FX and futures."""

    exchange = "bitflyer"
    hosts: ClassVar[tuple[str, ...]] = ("bitflyer.com", "bitflyer.jp")
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("lightning_board", ("level1", "book"), "recording"),
        Channel("lightning_ticker", ("level1", "price"), "recording"),
        Channel("lightning_executions", ("trade", "price"), "recording"),
    )
    limits = Limits(symbols_per_connection=50, symbols_per_request=50, requests_per_second=20.0)
    instruments_paths: ClassVar[tuple[str, ...]] = ("/v1/markets", "/v1/getmarkets")
    instruments_urls: ClassVar[tuple[str, ...]] = tuple(
        f"{REST}/v1/getmarkets{region}" for region in ("", "/usa", "/eu")
    )
    parser_class = BitflyerParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {
        "executions": ("trade",),
        "ticker": ("level1", "price"),
        "board_snapshot": ("level1", "book"),
        "board": ("level1", "book"),
    }

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        url = redirected("https://api.bitflyer.com/v1/executions", self.rest)
        return TradesRequest(url, {"product_code": instrument.id, "count": "500"})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        params = {"channel": f"lightning_executions_{instrument.id}", "message": reply}
        return [{"jsonrpc": "2.0", "method": "channelMessage", "params": params}]

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        return [
            msgspec.json.encode(
                {"method": "subscribe", "params": {"channel": f"lightning_{name}_{instrument.id}"}}
            )
            for name in channels
            for instrument in instruments
        ]

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the markets of `getmarkets`."""
        for row in reply:
            found = read_name(row["product_code"])
            if found is None:
                raise ValueError(f"{row['product_code']!r} is no product code")
            yield found


def read_name(name: str) -> Instrument | None:
    """Return the market of a product code, or None if the code has another form."""
    if found := _FUTURE.fullmatch(name):
        try:
            expiry = datetime.strptime(found[3], "%d%b%Y").replace(tzinfo=UTC)
        except ValueError:
            return None
        return derivative(name, found[1], found[2], found[2], expiry=expiry)
    parts = name.split("_")
    if len(parts) == 3 and parts[0] == "FX" and all(parts):
        return derivative(name, parts[1], parts[2], parts[2])
    return spot(name, *parts) if len(parts) == 2 and all(parts) else None
