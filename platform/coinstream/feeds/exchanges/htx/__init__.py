"""Connect to HTX (formerly Huobi): spot, swaps and futures.

Source: "HTX API" (https://www.htx.com/en-us/opend/newApiPages/): one address per product line, one channel
per request, gzip frames, and a `ping` of the server every 5 s on spot and 20 s on contracts that must be
answered. Funding rates and liquidations have addresses of their own, mark prices and indexes another one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final

import httpx
import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, TradesRequest, register_adapter
from coinstream.feeds.exchanges.connections import Connection, Limits, plan_connections, redirected
from coinstream.feeds.exchanges.htx import instruments as names
from coinstream.feeds.exchanges.htx.parser import HtxParser
from coinstream.feeds.exchanges.rest import server_time_ms
from coinstream.feeds.exchanges.values import inflated
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Frame, Gap

_CONTRACTS: Final = "wss://api.hbdm.com"
_MARKET: Final = {"level1": "bbo", "price": "detail", "trade": "trade.detail", "ohlcv": "kline.1min"}
_LONGEST_PING: Final = 200


@register_adapter
class HtxAdapter(ExchangeAdapter):
    """HTX's websockets of all markets."""

    exchange = "htx"
    hosts: ClassVar[tuple[str, ...]] = (
        "huobi.pro",
        "hbdm.com",
        "htx.com",
        "huobi.com",
        "hbdm.vn",
        "btcgateway.pro",
    )
    channels = (
        Channel("depth.step0", ("level1", "book"), "recording"),
        Channel("trade.detail", ("trade", "price"), "recording"),
        Channel("bbo", ("level1",), "documentation"),
        Channel("detail", ("price",), "documentation"),
        Channel("mbp", ("level1", "book"), "documentation"),
        Channel("depth.size_20.high_freq", ("level1", "book"), "documentation"),
        Channel("kline.1min", ("ohlcv",), "documentation"),
        Channel("mark_price", ("derivativeticker",), "documentation"),
        Channel("funding_rate", ("derivativeticker",), "documentation"),
        Channel("liquidation_orders", ("liquidation",), "documentation"),
    )
    limits = Limits(symbols_per_connection=40, symbols_per_request=1, requests_per_second=10)
    instruments_urls = (
        "https://api.huobi.pro/v1/common/symbols",
        "https://api.hbdm.com/api/v1/contract_contract_info",
        "https://api.hbdm.com/swap-api/v1/swap_contract_info",
        "https://api.hbdm.com/linear-swap-api/v1/swap_contract_info?business_type=all",
    )
    parser_class = HtxParser

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the instruments of a list of spot symbols or contracts."""
        return (names.read_instrument(entry) for entry in reply["data"])

    def answer(self, frame: Frame) -> bytes | None:
        """Return the `pong` to a `ping`."""
        if len(frame.payload) > _LONGEST_PING:
            return None
        try:
            value = msgspec.json.decode(inflated(frame.payload))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not isinstance(value, dict):
            return None
        if "ping" in value:
            return msgspec.json.encode({"pong": value["ping"]})
        return (
            msgspec.json.encode({"op": "pong", "ts": value.get("ts")}) if value.get("op") == "ping" else None
        )

    async def clock_ms(self, http: httpx.AsyncClient) -> float | None:
        """See `ExchangeAdapter.clock_ms`."""
        url = redirected("https://api.huobi.pro/v1/common/timestamp", self.rest)
        return await server_time_ms(http, url, "data")

    def resync(self, instrument: Instrument) -> tuple[bytes, ...]:
        """Return the requests that make the exchange resend the book of a contract."""
        if instrument.kind == "spot":
            return ()
        (request,) = _market(instrument, frozenset({"book"}))
        ended = {"unsub": request["sub"], "id": instrument.id}
        return msgspec.json.encode(ended), msgspec.json.encode(request)

    def trades_request(self, instrument: Instrument, gap: Gap) -> TradesRequest | None:
        """See `ExchangeAdapter.trades_request`."""
        if instrument.kind != "spot":
            return None
        url = redirected("https://api.huobi.pro/market/history/trade", self.rest)
        return TradesRequest(url, {"symbol": instrument.id, "size": "2000"})

    def trade_frames(self, instrument: Instrument, reply: Any, gap: Gap) -> Iterable[Any]:
        """See `ExchangeAdapter.trade_frames`."""
        rows = [{**row, "tradeId": row["trade-id"]} for batch in reply["data"] for row in batch["data"]]
        rows.sort(key=lambda row: int(row["tradeId"]))
        at = reply["ts"]
        return [{"ch": f"market.{instrument.id}.trade.detail", "ts": at, "tick": {"ts": at, "data": rows}}]

    def connections(self, instruments: Sequence[Instrument], types: frozenset[str]) -> list[Connection]:
        """Return the connections of each product line that the instruments need."""
        lines: dict[str, list[Instrument]] = {}
        for instrument in instruments:
            lines.setdefault(_line(instrument), []).append(instrument)
        found = []
        for line, some in lines.items():
            if line == "spot":
                found += self._plan("wss://api.huobi.pro/ws", some, lambda one: _market(one, types))
                continue
            found += self._plan(f"{_CONTRACTS}/{line}ws", some, lambda one: _market(one, types))
            if "derivativeticker" in types:
                found += self._plan(f"{_CONTRACTS}/ws_index", some, _mark)
            if types & {"derivativeticker", "liquidation"}:
                url = f"{_CONTRACTS}/{line}notification"
                found += self._plan(url, some, lambda one: _notices(one, types))
        return found

    def _plan(
        self, url: str, some: Sequence[Instrument], requests: Callable[[Instrument], list[dict[str, Any]]]
    ) -> list[Connection]:
        def encode(batch: Sequence[Instrument]) -> list[bytes]:
            return [msgspec.json.encode(request) for one in batch for request in requests(one)]

        return plan_connections(redirected(url, self.ws), some, self.limits, encode)


def _line(instrument: Instrument) -> str:
    """Return the start of the paths of a product line: `spot`, or what stands before `ws`."""
    if instrument.kind == "spot":
        return "spot"
    if instrument.settle == "USDT":
        return "linear-swap-"
    return "" if instrument.kind == "future" else "swap-"


def _market(one: Instrument, types: frozenset[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [
        {"sub": f"market.{one.id}.{channel}", "id": one.id}
        for kind, channel in _MARKET.items()
        if kind in types
    ]
    if "book" in types and one.kind == "spot":
        found.append({"sub": f"market.{one.id}.mbp.refresh.20", "id": one.id})
    elif "book" in types:
        channel = f"market.{one.id}.depth.size_20.high_freq"
        found.append({"sub": channel, "data_type": "incremental", "id": one.id})
    return found


def _mark(one: Instrument) -> list[dict[str, Any]]:
    return [{"sub": f"market.{one.id}.{channel}.1min", "id": one.id} for channel in ("mark_price", "index")]


def _notices(one: Instrument, types: frozenset[str]) -> list[dict[str, Any]]:
    found = []
    if "liquidation" in types:
        name = one.base if one.kind == "future" and one.inverse else one.id
        found.append({"op": "sub", "cid": one.id, "topic": f"public.{name}.liquidation_orders"})
    if "derivativeticker" in types and one.kind == "swap":
        found.append({"op": "sub", "cid": one.id, "topic": f"public.{one.id}.funding_rate"})
    return found
