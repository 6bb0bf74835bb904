"""Connect to Bitfinex: websocket v2, spot markets and perpetual contracts.

Source: <https://docs.bitfinex.com/docs> ("Web Socket", "WebSocket Checksum") and
<https://docs.bitfinex.com/reference> ("Ticker", "Trades", "Books", "Candles", "Status"), as of 2026-07;
checked against a session of 2021-04-17.

- Frames are arrays that begin with a channel number, which a `subscribed` event announces. Flags make the
  exchange append a sequence number (65536) and a time in ms (32768) and send checksums of books (131072).
  A gap in the sequence numbers invalidates all books of the connection.
- Books (`P0`) are price, count, amount: a count of 0 removes a level, the sign of the amount is the side.
  Raw books (`R0`) list orders. Checksums cover 25 levels, written as JavaScript writes numbers.
- The sizes of a ticker are sums over 25 levels, so tickers give prices but no quotes.
- Names that begin with `f` are lending markets, which quote a rate. Names longer than six letters have a
  colon (`tDUSK:USD`), perpetual contracts end in `F0`.
- A connection carries at most 25 channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, TradesRequest, register_adapter
from coinstream.feeds.exchanges.bitfinex.names import read_pairs
from coinstream.feeds.exchanges.bitfinex.parser import BitfinexParser
from coinstream.feeds.exchanges.connections import Connection, Limits, plan_connections, redirected
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Gap

WS: Final = "wss://api-pub.bitfinex.com/ws/2"
REST: Final = "https://api-pub.bitfinex.com/v2/conf"
_FLAGS: Final = 32_768 + 65_536 + 131_072
_CHANNELS_PER_CONNECTION: Final = 25


@register_adapter
class BitfinexAdapter(ExchangeAdapter):
    """Adapter of Bitfinex: spot markets and perpetual contracts."""

    exchange = "bitfinex"
    hosts: ClassVar[tuple[str, ...]] = ("bitfinex.com",)
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("book", ("level1", "book"), "recording"),
        Channel("trades", ("trade", "price"), "recording"),
        Channel("ticker", ("price",), "recording"),
        Channel("candles", ("ohlcv",), "documentation"),
        Channel("status deriv", ("derivativeticker",), "recording"),
        Channel("status liq", ("liquidation",), "recording"),
    )
    limits = Limits(symbols_per_connection=25, symbols_per_request=25, requests_per_second=10.0)
    instruments_paths: ClassVar[tuple[str, ...]] = ("/v2/conf/pub:list:pair",)
    instruments_urls: ClassVar[tuple[str, ...]] = (
        f"{REST}/pub:list:pair:exchange",
        f"{REST}/pub:list:pair:futures",
    )
    parser_class = BitfinexParser

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        params = {"limit": "1000", "sort": "1"}
        if gap.since is None:
            return None
        params["start"] = str(int(gap.since.timestamp() * 1000))
        url = f"https://api-pub.bitfinex.com/v2/trades/{instrument.id}/hist"
        return TradesRequest(redirected(url, self.rest), params)

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        named = {"event": "subscribed", "channel": "trades", "chanId": 1, "symbol": instrument.id}
        return [named, [1, sorted(reply, key=lambda row: (row[1], row[0]))]]

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """See `ExchangeAdapter.connections`."""
        fields = _subscriptions(types)
        if not fields and "liquidation" not in types:
            return []
        room = _CHANNELS_PER_CONNECTION - ("liquidation" in types)
        size = room // len(fields) if fields else max(1, len(instruments))
        limits = replace(self.limits, symbols_per_connection=size)
        found = plan_connections(
            redirected(WS, self.ws),
            instruments,
            replace(limits, symbols_per_request=limits.symbols_per_connection),
            lambda batch: [
                msgspec.json.encode({"event": "conf", "flags": _FLAGS}),
                *(_request(field, each) for field in fields for each in batch if _has(field, each)),
            ],
        )
        if "liquidation" in types and found:
            liquidations = {"event": "subscribe", "channel": "status", "key": "liq:global"}
            requests = (*found[0].requests, msgspec.json.encode(liquidations))
            found[0] = replace(found[0], requests=requests)
        return found

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the markets of `pub:list:pair`; the list of currencies contains none."""
        return read_pairs(reply) if "pub:list:pair" in url else ()


def _subscriptions(types: frozenset[str]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    if types & {"level1", "book"}:
        found.append({"channel": "book", "prec": "P0", "freq": "F0", "len": "100"})
    if "trade" in types:
        found.append({"channel": "trades"})
    if "price" in types:
        found.append({"channel": "ticker"})
    if "ohlcv" in types:
        found.append({"channel": "candles", "key": "trade:1m:"})
    if "derivativeticker" in types:
        found.append({"channel": "status", "key": "deriv:"})
    return found


def _has(field: dict[str, str], instrument: Instrument) -> bool:
    return field["channel"] != "status" or instrument.kind != "spot"


def _request(field: dict[str, str], instrument: Instrument) -> bytes:
    named = {"key": field["key"] + instrument.id} if "key" in field else {"symbol": instrument.id}
    return msgspec.json.encode({"event": "subscribe", **field, **named})
