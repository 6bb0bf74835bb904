"""Serve Coinbase's Advanced Trade websocket protocol and public REST endpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec

from coinstream.feeds.simulated.market import Tick
from coinstream.feeds.simulated.venue import Reply, World, encode, fixed, iso_time, ok

_PRODUCT: Final = "/api/v3/brokerage/market/products/"
_CHANNELS: Final = frozenset({"ticker", "ticker_batch", "level2", "market_trades", "heartbeats"})


class _Request(msgspec.Struct):
    type: str
    product_ids: list[str] = []
    channel: str = ""


_request: Final = msgspec.json.Decoder(_Request)


class CoinbaseSession:
    """Connection whose frames are numbered in sequence."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._number = -1
        self._ids = {product(symbol): symbol for symbol in world.market.symbols}
        self._channels: dict[str, dict[str, None]] = {}
        self._heartbeats = 0
        self._wants_heartbeats = False

    def on_open(self) -> Iterable[bytes]:
        """Return no frames: Coinbase sends nothing on open."""
        return ()

    def on_message(self, text: bytes) -> Iterator[bytes]:
        """Process `subscribe` and `unsubscribe` of one channel; an unknown product is an error."""
        try:
            request = _request.decode(text)
        except msgspec.DecodeError as error:
            yield encode({"type": "error", "message": f"failure to parse: {error}"})
            return
        if request.channel not in _CHANNELS:
            yield encode({"type": "error", "message": f"channel {request.channel!r} is not known"})
            return
        if request.channel == "heartbeats":
            self._wants_heartbeats = request.type == "subscribe"
        fresh = []
        for name in request.product_ids:
            symbol = self._ids.get(name)
            if symbol is None or symbol not in self._world.listed:
                yield encode({"type": "error", "message": f"{name} is not a valid product"})
                continue
            channels = self._channels.setdefault(symbol, {})
            if request.type == "unsubscribe":
                channels.pop(request.channel, None)
            else:
                channels[request.channel] = None
                fresh.append(symbol)
        names = {channel: [] for channels in self._channels.values() for channel in channels}  # type: dict[str, list[str]]
        for symbol, channels in self._channels.items():
            for channel in channels:
                names[channel].append(product(symbol))
        yield self._frame("subscriptions", self._now_ms(), {"subscriptions": names})
        for symbol in fresh:
            tick = self._world.market.last.get(symbol)
            if tick is not None and not self._world.faults.freeze:
                yield self._write(request.channel, tick, "snapshot")

    def on_tick(self, tick: Tick) -> Iterator[bytes]:
        """See `Session.tell`."""
        for channel in self._channels.get(tick.symbol, ()):
            yield self._write(channel, tick, "update")

    def beat(self) -> Iterator[bytes]:
        """See `Session.beat`."""
        if self._wants_heartbeats:
            self._heartbeats += 1
            event = {"current_time": iso_time(self._now_ms()), "heartbeat_counter": self._heartbeats}
            yield self._frame("heartbeats", self._now_ms(), event)

    def _now_ms(self) -> float:
        return time.time() * 1000 + self._world.faults.skew_ms

    def _frame(self, channel: str, at_ms: float, event: Any) -> bytes:
        self._number += 1
        return encode(
            {
                **{"channel": channel, "client_id": "", "timestamp": iso_time(at_ms)},
                **{"sequence_num": self._number, "events": [event]},
            }
        )

    def _write(self, channel: str, tick: Tick, kind: str) -> bytes:
        name = product(tick.symbol)
        if channel == "level2":
            sides = (("bid", tick.bid, tick.bid_size), ("offer", tick.ask, tick.ask_size))
            updates = [
                {
                    **{"side": side, "event_time": iso_time(tick.at_ms)},
                    **{"price_level": fixed(price), "new_quantity": fixed(size)},
                }
                for side, price, size in sides
            ]
            # One level per side: each quote replaces the book, so it is sent as a snapshot.
            return self._frame(
                "l2_data", tick.at_ms, {"type": "snapshot", "product_id": name, "updates": updates}
            )
        if channel == "market_trades":
            entry = {
                **{"trade_id": str(tick.number), "product_id": name, "price": fixed(tick.bid)},
                **{"size": "0.001", "side": "SELL", "time": iso_time(tick.at_ms)},
            }
            return self._frame(channel, tick.at_ms, {"type": kind, "trades": [entry]})
        _, high, low, volume, change = self._world.market.day(tick)
        ticker = {
            **{"type": "ticker", "product_id": name, "price": fixed(tick.bid)},
            **{"volume_24_h": fixed(volume), "low_24_h": fixed(low), "high_24_h": fixed(high)},
            **{"low_52_w": fixed(low), "high_52_w": fixed(high), "price_percent_chg_24_h": fixed(change)},
            **{"best_bid": fixed(tick.bid), "best_bid_quantity": fixed(tick.bid_size)},
            **{"best_ask": fixed(tick.ask), "best_ask_quantity": fixed(tick.ask_size)},
        }
        return self._frame(channel, tick.at_ms, {"type": kind, "tickers": [ticker]})


class Coinbase:
    """See `Venue`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._replies: dict[str, Callable[[Mapping[str, str]], Reply]] = {
            "/v2/currencies": lambda query: ok({"data": []}),
            "/v2/currencies/crypto": lambda query: ok({"data": []}),
            "/v2/exchange-rates": lambda query: ok({"data": {"currency": "USD", "rates": {}}}),
            "/v2/time": self._time,
            "/api/v3/brokerage/time": self._time,
            "/api/v3/brokerage/market/products": self._products,
        }

    def session(self, path: str, query: Mapping[str, str]) -> CoinbaseSession:
        """See `Venue.session`."""
        return CoinbaseSession(self._world)

    def reply(self, path: str, query: Mapping[str, str]) -> Reply:
        """See `Venue.reply`."""
        if path.startswith(_PRODUCT) and path.endswith("/candles"):
            return self._candles(path.removeprefix(_PRODUCT).removesuffix("/candles"))
        answer = self._replies.get(path)
        return answer(query) if answer else Reply(404, b'{"error":"NOT_FOUND","message":"no such endpoint"}')

    def _time(self, query: Mapping[str, str]) -> Reply:
        now_ms = time.time() * 1000 + self._world.faults.skew_ms
        return ok(
            {
                "iso": iso_time(now_ms),
                "epochSeconds": str(int(now_ms / 1000)),
                "epochMillis": str(int(now_ms)),
            }
        )

    def _candles(self, name: str) -> Reply:
        symbol = name.replace("-", "/")
        if symbol not in self._world.listed:
            return Reply(404, b'{"error":"NOT_FOUND","message":"no such product"}')
        told = [
            {
                **{"start": str(candle.open_ms // 1000), "low": fixed(candle.low)},
                **{"high": fixed(candle.high), "open": fixed(candle.open)},
                **{"close": fixed(candle.close), "volume": fixed(candle.volume)},
            }
            for candle in reversed(self._world.market.candles[symbol])
        ]
        return ok({"candles": told})

    def _products(self, query: Mapping[str, str]) -> Reply:
        if query.get("product_type", "SPOT") != "SPOT":
            return ok({"products": [], "num_products": 0})
        products = [self._product(symbol) for symbol in self._world.listed]
        return ok({"products": products, "num_products": len(products)})

    def _product(self, symbol: str) -> dict[str, Any]:
        base, _, quote = symbol.partition("/")
        tick = self._world.market.last.get(symbol)
        price = fixed(tick.bid) if tick else "0"
        return {
            **{"product_id": product(symbol), "price": price, "price_percentage_change_24h": "0"},
            **{"volume_24h": "0", "volume_percentage_change_24h": "0", "base_increment": "0.00000001"},
            **{"quote_increment": "0.00000001", "quote_min_size": "1", "quote_max_size": "150000000"},
            **{
                "base_min_size": "0.00000001",
                "base_max_size": "3400",
                "base_name": base,
                "quote_name": quote,
            },
            **{"watched": False, "is_disabled": False, "new": False, "status": "online"},
            **{"cancel_only": False, "limit_only": False, "post_only": False, "trading_disabled": False},
            **{"auction_mode": False, "product_type": "SPOT", "quote_currency_id": quote},
            **{"base_currency_id": base, "fcm_trading_session_details": None, "mid_market_price": ""},
            **{"alias": "", "alias_to": [], "base_display_symbol": base, "quote_display_symbol": quote},
            **{"view_only": False, "price_increment": "0.00000001", "future_product_details": None},
        }


def product(symbol: str) -> str:
    """Return `BTC/USD` as `BTC-USD`."""
    return symbol.replace("/", "-")
