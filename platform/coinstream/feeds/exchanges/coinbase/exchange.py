"""Parse the websocket of Coinbase Exchange (formerly Coinbase Pro).

Source: "Coinbase Exchange: WebSocket channels" (https://docs.cdp.coinbase.com/exchange/docs/websocket-channels):

- The side of a match is the maker's: a `sell` was bought by its taker. `trade_id` grows by one per product.
- A ticker's `sequence` rises, but not by one. Tickers have sizes of bid and ask since 2022.
- `level2` sends a snapshot and then changes without numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    moment,
    number,
    optional,
    parsed,
    percent,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import (
    ACKNOWLEDGED,
    DEPTH,
    HEARTBEAT,
    STATUS,
    Frame,
    Parsed,
    rejected,
)


def read_instrument(entry: Any) -> Instrument | None:
    """Return the instrument of an entry of the Exchange's, Advanced Trade's or International's list."""
    if "base_asset_name" in entry:
        name, base, quote = entry["symbol"], entry["base_asset_name"], entry["quote_asset_name"]
        active = entry.get("trading_state", "TRADING") == "TRADING"
        if entry.get("type") == "SPOT":
            return spot(name, base, quote, active=active)
        return derivative(name, base, quote, quote, active=active)
    if "base_currency" in entry:
        active = entry.get("status", "online") == "online"
        return spot(entry["id"], entry["base_currency"], entry["quote_currency"], active=active)
    name, active = entry["product_id"], not entry.get("trading_disabled", False)
    if entry.get("product_type", "SPOT") == "SPOT":
        return spot(name, entry["base_currency_id"], entry["quote_currency_id"], active=active)
    return _contract(name, entry, active=active)


def instrument_named(name: str) -> Instrument | None:
    """Return the product that a name describes, or None; the size of a dated future is not in its name."""
    parts = name.upper().split("-")
    if not all(part.isalnum() for part in parts):
        return None
    if parts[1:] in (["PERP"], ["PERP", "INTX"]):
        return derivative(name, parts[0], "USDC", "USDC")
    return spot(name, *parts) if len(parts) == 2 else None


def _contract(name: str, entry: Any, *, active: bool) -> Instrument | None:
    details = entry.get("future_product_details") or {}
    base, size = details.get("contract_root_unit"), details.get("contract_size")
    if not base or not size:
        return None
    quote = entry.get("quote_currency_id") or "USD"
    due = details.get("contract_expiry")
    expires = due and details.get("contract_expiry_type") != "PERPETUAL"
    return derivative(
        *(name, base, quote, quote),
        expiry=moment(due) if expires else None,
        contract_size=float(size),
        active=active,
    )


_FULL: Final = frozenset({"received", "open", "done", "change", "activate"})
BUY_OR_SELL: Final = {"buy": "sell", "sell": "buy"}
"""The side of the taker, by the side of the maker."""


class CoinbaseExchangeParser(ExchangeParser):
    """Read tickers, matches and books of the Exchange."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._sequences: dict[str, int] = {}

    def unlisted(self, name: str) -> Instrument | None:
        """Return the product that a name describes."""
        return instrument_named(name)

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame by its type."""
        if isinstance(value, list):
            return STATUS if frame.url is not None else rejected(Reason.UNKNOWN, "a list")
        match value.get("type"):
            case "ticker" | "ticker_batch":
                return parsed(self._ticker(value, received))
            case "l2update":
                return parsed(self._update(value, received))
            case "snapshot":
                instrument = self.instrument(value["product_id"])
                return parsed(self._snapshot(instrument, value, received))
            case "match" | "last_match":
                return parsed(self._match(value, received))
            case "heartbeat":
                return HEARTBEAT
            case "status" | "auctioninfo":
                return STATUS
            case "subscriptions":
                return ACKNOWLEDGED
            case "error":
                text = f"{value.get('message', '')} {value.get('reason', '')}".strip()
                return rejected(Reason.REFUSED, text)
        if value.get("type") in _FULL:
            return DEPTH
        if frame.url is not None:
            return self._reply(value, frame.url, received)
        return rejected(Reason.UNKNOWN, f"type {value.get('type')!r}")

    def _ticker(self, value: Any, received: datetime) -> Found:
        instrument, sequence = self.instrument(value["product_id"]), value.get("sequence")
        if sequence is not None:
            last = self._sequences.get(instrument.symbol, -1)
            if sequence <= last:
                yield Reason.DUPLICATE if sequence == last else Reason.OUT_OF_DATE
                return
            self._sequences[instrument.symbol] = sequence
        at = moment(value["time"]) if value.get("time") else None
        bid, ask = optional(value.get("best_bid")), optional(value.get("best_ask"))
        sizes = optional(value.get("best_bid_size")), optional(value.get("best_ask_size"))
        yield self.state.quote(instrument, bid, ask, *sizes, at or received, received, "ticker")
        price, volume = number(value["price"]), optional(value.get("volume_24h"))
        change = percent(price, optional(value.get("open_24h")))
        yield self.state.ticker(instrument, price, at, received, volume, change)

    def _match(self, value: Any, received: datetime) -> Found:
        yield from self.state.trade(
            self.instrument(value["product_id"]),
            number(value["price"]),
            number(value["size"]),
            moment(value["time"]),
            received,
            side=taker_of(value["side"]),
            sequence=int(value["trade_id"]),
            consecutive=True,
        )

    def _snapshot(self, instrument: Instrument, value: Any, received: datetime) -> Found:
        at = moment(value["time"]) if value.get("time") else received
        bids, faults = valid_levels((row[0], row[1]) for row in value["bids"])
        asks, more = valid_levels((row[0], row[1]) for row in value["asks"])
        yield from self.state.book_snapshot("level2", instrument, bids, asks, at, received)
        complain(faults + more)

    def _update(self, value: Any, received: datetime) -> Found:
        instrument = self.instrument(value["product_id"])
        at = moment(value["time"]) if value.get("time") else received
        changes = value["changes"]
        bids, faults = valid_levels((row[1], row[2]) for row in changes if row[0] == "buy")
        asks, more = valid_levels((row[1], row[2]) for row in changes if row[0] == "sell")
        yield from self.state.book_change("level2", instrument, bids, asks, at, received)
        complain(faults + more)

    def _reply(self, value: Any, url: str, received: datetime) -> Parsed:
        if "bids" not in value:
            return rejected(Reason.REFUSED, value["message"]) if value.get("message") else STATUS
        # .../products/BTC-USD/book?level=2
        product = url.partition("/products/")[2].partition("/")[0]
        return parsed(self._snapshot(self.instrument(product), value, received))


def valid_levels(rows: Iterable[tuple[Any, Any]]) -> tuple[list[tuple[float, float]], list[str]]:
    """Return the valid levels, and the errors of the others.

    A snapshot of Coinbase may contain invalid sizes such as `0.-10000`.
    """
    found, faults = [], []
    for price, size in rows:
        try:
            found.append((number(price), number(size)))
        except (TypeError, ValueError) as error:
            faults.append(str(error))
    return found, faults


def complain(faults: list[str]) -> None:
    """Raise an error about the levels that could not be read, where there are any.

    Raises:
        ValueError: names the first of them.
    """
    if faults:
        raise ValueError(f"{len(faults)} levels cannot be read: {'; '.join(faults[:3])}")


def taker_of(maker: str) -> Any:
    """Return the side of the taker for the side of the maker.

    Raises:
        ValueError: it is no side.
    """
    taker = BUY_OR_SELL.get(maker.lower())
    if taker is None:
        raise ValueError(f"{maker!r} is not a side")
    return taker
