"""Connect to Independent Reserve: websocket of single orders and trades, spot markets.

Source: "Independent Reserve WebSocket API", <https://github.com/independentreserve/websockets>, and "API",
<https://www.independentreserve.com/products/api>, as of 2026-02; checked against a session of 2022-04-04.

- `orderbook-eth` contains new, changed and cancelled orders of one base currency, with the price in each
  quote currency. Earlier orders are requested over REST (`GetAllOrders`), one market at a time. Events refer
  to orders by id, so events before the REST reply are applied again after it.
- `ticker-eth-aud` contains the trades of one market. `Nonce` counts the frames of a channel by one.
- `Xbt` is bitcoin. Sizes are in base currency.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import msgspec

from coinstream.feeds.exchanges.base import Channel, ExchangeAdapter, Subscriptions, register_adapter
from coinstream.feeds.exchanges.connections import Limits, redirected
from coinstream.feeds.exchanges.order_book import MAX_PENDING
from coinstream.feeds.exchanges.parsing import ExchangeParser, Found, moment, number, optional_side, parsed
from coinstream.feeds.exchanges.rest import fetch_frame
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, InstrumentList, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Gap, Parsed, rejected

WS: Final = "wss://websockets.independentreserve.com"
REST: Final = "https://api.independentreserve.com/Public"
QUOTES: Final = ("aud", "usd", "nzd", "sgd")
"""Quote currencies of the exchange; each base currency is traded against all of them."""
_ORDERS: Final = frozenset({"NewOrder", "OrderChanged", "OrderCanceled"})
_CHANNEL: Final = "orderbook"


class _Orders:
    """The orders of one market, and the events that await its REST reply."""

    def __init__(self) -> None:
        self.is_synced = False
        self.waiting: deque[tuple[str, Any]] = deque(maxlen=MAX_PENDING)
        self._orders: dict[str, tuple[bool, float, float]] = {}
        self._levels: dict[tuple[bool, float], dict[str, float]] = {}

    def clear(self) -> None:
        """Drop the orders; events are kept until the next reply."""
        self.is_synced = False
        self.waiting.clear()
        self._orders.clear()
        self._levels.clear()

    def put(self, guid: str, is_bid: bool, price: float, size: float) -> tuple[bool, float, float]:
        """Set an order; return side, price and new size of its level."""
        self._orders[guid] = is_bid, price, size
        level = self._levels.setdefault((is_bid, price), {})
        level[guid] = size
        return is_bid, price, sum(level.values())

    def resize(self, guid: str, size: float) -> tuple[bool, float, float] | None:
        """Set the size of an order, where 0 removes it; return its level, or None for an unknown order."""
        known = self._orders.get(guid)
        if known is None:
            return None
        is_bid, price, _ = known
        if size:
            return self.put(guid, is_bid, price, size)
        del self._orders[guid]
        level = self._levels[is_bid, price]
        del level[guid]
        return is_bid, price, sum(level.values())

    def sides(self) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """Return the levels of bids and asks."""
        bids, asks = (
            [(price, sum(level.values())) for (side, price), level in self._levels.items() if side == is_bid]
            for is_bid in (True, False)
        )
        return bids, asks


class IndependentReserveParser(ExchangeParser):
    """Parser of Independent Reserve's frames: order events, trades."""

    def __init__(
        self, exchange: str, instruments: InstrumentList, types: frozenset[str] | None = None
    ) -> None:
        super().__init__(exchange, instruments, types)
        self._markets: dict[str, _Orders] = {}
        self._nonces: dict[str, int] = {}

    def renew(self) -> None:
        """See `ExchangeParser.renew`."""
        super().renew()
        self._markets.clear()
        self._nonces.clear()

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return self._reply(value, frame.url, received)
        event = value["Event"]
        if event == "Heartbeat":
            return HEARTBEAT
        if event in ("Subscriptions", "Unsubscribe"):
            return ACKNOWLEDGED
        if event == "Error":
            return rejected(Reason.REFUSED, str(value.get("Data"))[:200])
        if event not in _ORDERS and event != "Trade":
            return rejected(Reason.UNKNOWN, f"event {event!r}")
        gap = self._numbered(value["Channel"], int(value["Nonce"]))
        if event == "Trade":
            found = parsed(self._trade(value, received))
        else:
            found = parsed(self._order(event, value["Channel"].partition("-")[2], value, received))
        return found.with_gaps(gap)

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: `eth-aud`."""
        base, _, quote = name.partition("-")
        return spot(name, base, quote) if base and quote in QUOTES else None

    def _numbered(self, channel: str, nonce: int) -> Gap | None:
        before = self._nonces.get(channel)
        self._nonces[channel] = nonce
        if before is None or nonce <= before + 1:
            return None
        kind, _, base = channel.partition("-")
        if kind != _CHANNEL:
            return Gap(self.instrument(base).symbol, before + 1, nonce - 1, "trades")
        for quote in QUOTES:
            if f"{base}-{quote}" in self._markets:
                self._markets[f"{base}-{quote}"].clear()
                self.state.order_book(_CHANNEL, self.instrument(f"{base}-{quote}")).unsync()
        return Gap("", before + 1, nonce - 1)

    def _trade(self, value: Any, received: datetime) -> Found:
        data, name = value["Data"], value["Channel"].partition("-")[2]
        price, told = data["Price"], str(data.get("TradeDate") or "")
        has_zone = told.endswith("Z") or "+" in told
        return self.state.trade(
            self.instrument(name),
            number(price[name.partition("-")[2]] if isinstance(price, dict) else price),
            number(data["Volume"]),
            moment(told if has_zone else value["Time"]),
            received,
            side=optional_side(data.get("Side")),
            trade_id=data["TradeGuid"],
        )

    def _order(self, event: str, base: str, value: Any, received: datetime) -> Found:
        data, at = value["Data"], moment(value["Time"])
        names = [f"{base}-{quote}" for quote in QUOTES]
        found: list[Any] = []
        for name in names:
            market = self._markets.setdefault(name, _Orders())
            if not market.is_synced:
                market.waiting.append((event, data))
                # The live feed requests the orders of books without a snapshot.
                self.state.order_book(_CHANNEL, self.instrument(name))
                continue
            found.append(self._changed(name, _apply(market, name, event, data), at, received))
        return chain.from_iterable(found) if found else (Reason.BOOK_UNSYNCED,)

    def _changed(
        self, name: str, level: tuple[bool, float, float] | None, at: datetime, received: datetime
    ) -> Found:
        if level is None:
            return (Reason.OUT_OF_DATE,)
        is_bid, *pair = level
        change = [(pair[0], pair[1])]
        sides = (change, []) if is_bid else ([], change)
        return self.state.book_change(_CHANNEL, self.instrument(name), *sides, at, received)

    def _reply(self, value: Any, url: str, received: datetime) -> Parsed:
        query = parse_qs(urlsplit(url).query)
        codes = [query.get(f"{kind}CurrencyCode", [""])[0].lower() for kind in ("primary", "secondary")]
        if not (isinstance(value, dict) and all(codes) and "BuyOrders" in value):
            return STATUS
        name = "-".join(codes)
        market = self._markets.setdefault(name, _Orders())
        waiting = list(market.waiting)
        market.clear()
        for side, is_bid in (("BuyOrders", True), ("SellOrders", False)):
            for row in value[side]:
                market.put(row["Guid"], is_bid, number(row["Price"]), number(row["Volume"]))
        market.is_synced = True
        for event, data in waiting:
            _apply(market, name, event, data)
        return parsed(
            self.state.book_snapshot(_CHANNEL, self.instrument(name), *market.sides(), received, received)
        )


def _apply(market: _Orders, name: str, event: str, data: Any) -> tuple[bool, float, float] | None:
    guid = data["OrderGuid"]
    if event == "NewOrder":
        price = number(data["Price"][name.partition("-")[2]])
        return market.put(guid, data["OrderType"].endswith("Bid"), price, number(data["Volume"]))
    return market.resize(guid, number(data["Volume"]) if event == "OrderChanged" else 0.0)


@register_adapter
class IndependentReserveAdapter(ExchangeAdapter):
    """Adapter of Independent Reserve: spot markets."""

    exchange = "independentreserve"
    hosts: ClassVar[tuple[str, ...]] = ("independentreserve.com",)
    channels: ClassVar[tuple[Channel, ...]] = (
        Channel("orderbook", ("level1", "book"), "recording"),
        Channel("ticker", ("trade", "price"), "documentation"),
    )
    limits = Limits(symbols_per_connection=100, symbols_per_request=100, requests_per_second=1.0)
    instruments_urls: ClassVar[tuple[str, ...]] = (f"{REST}/GetValidPrimaryCurrencyCodes",)
    parser_class = IndependentReserveParser
    address = WS
    subscriptions: ClassVar[Subscriptions] = {"ticker": ("trade", "price"), _CHANNEL: ("level1", "book")}

    def subscribe(self, channels: Sequence[str], instruments: Sequence[Instrument]) -> list[bytes]:
        """See `ExchangeAdapter.subscribe`."""
        names = [instrument.id for instrument in instruments]
        wanted = [f"ticker-{name}" for name in names] if "ticker" in channels else []
        if _CHANNEL in channels:
            wanted += dict.fromkeys(f"{_CHANNEL}-{name.partition('-')[0]}" for name in names)
        return [msgspec.json.encode({"Event": "Subscribe", "Data": wanted})]

    def read_instruments(self, reply: Any, url: str) -> Iterable[Instrument | None]:
        """Return the markets of `GetValidPrimaryCurrencyCodes`: each code against every quote currency."""
        if "PrimaryCurrency" in url:
            for code in reply:
                for quote in QUOTES:
                    yield spot(f"{code.lower()}-{quote}", code, quote)

    async def snapshot(self, http: httpx.AsyncClient, instrument: Instrument) -> Frame | None:
        """Request all orders of a market."""
        base, _, quote = instrument.id.partition("-")
        url = redirected(f"{REST}/GetAllOrders", self.rest)
        return await fetch_frame(http, f"{url}?primaryCurrencyCode={base}&secondaryCurrencyCode={quote}")
