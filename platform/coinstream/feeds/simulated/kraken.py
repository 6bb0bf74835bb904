"""Serve the protocols of Kraken v2 and CoinGecko from the simulated market."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from coinstream.feeds.exchanges.coingecko import COMMON_IDS
from coinstream.feeds.simulated.market import Tick
from coinstream.feeds.simulated.venue import Reply, Session, World, encode, fixed, iso_time, ok

_CHANNELS: Final = frozenset({"ticker", "trade", "ohlc"})


class _Request(msgspec.Struct):
    method: str
    params: dict[str, Any] = {}
    req_id: int | None = None


_request: Final = msgspec.json.Decoder(_Request)


class KrakenSession:
    """Connection to v2 with the channels `ticker`, `trade` and `ohlc`, each with an initial snapshot."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._channels: dict[str, dict[str, None]] = {}

    def on_open(self) -> Iterable[bytes]:
        """See `Session.on_open`."""
        status = {"system": "online", "api_version": "v2", "connection_id": 1, "version": "2.0.10"}
        return (encode({"channel": "status", "type": "update", "data": [status]}),)

    def on_message(self, text: bytes) -> Iterator[bytes]:
        """Process `subscribe`, `unsubscribe` and `ping`. Unknown pairs are refused one by one."""
        try:
            request = _request.decode(text)
        except msgspec.DecodeError:
            yield encode({"error": "Malformed request", "method": "", "success": False})
            return
        now = iso_time(self._now_ms())
        answer: dict[str, Any] = {"method": request.method, "time_in": now, "time_out": now}
        if request.req_id is not None:
            answer["req_id"] = request.req_id
        if request.method == "ping":
            yield encode(answer | {"method": "pong"})
            return
        channel = str(request.params.get("channel"))
        for symbol in request.params.get("symbol", ()):
            if channel not in _CHANNELS or symbol not in self._world.listed:
                yield encode(
                    answer
                    | {"success": False, "symbol": symbol, "error": f"Currency pair not supported {symbol}"}
                )
                continue
            result = {"channel": channel, "symbol": symbol, "snapshot": True}
            yield encode(answer | {"success": True, "result": result})
            channels = self._channels.setdefault(symbol, {})
            if request.method == "unsubscribe":
                channels.pop(channel, None)
                continue
            channels[channel] = None
            tick = self._world.market.last.get(symbol)
            if tick is not None and not self._world.faults.freeze:
                yield self._write(channel, tick, "snapshot")

    def on_tick(self, tick: Tick) -> Iterator[bytes]:
        """See `Session.tell`."""
        for channel in self._channels.get(tick.symbol, ()):
            yield self._write(channel, tick, "update")

    def beat(self) -> Iterable[bytes]:
        """See `Session.beat`."""
        return (b'{"channel":"heartbeat"}',) if self._channels else ()

    def _now_ms(self) -> float:
        return time.time() * 1000 + self._world.faults.skew_ms

    def _write(self, channel: str, tick: Tick, kind: str) -> bytes:
        if channel == "ticker":
            return self._ticker(tick, kind)
        if channel == "trade":
            entry: dict[str, Any] = {
                **{"symbol": tick.symbol, "side": "sell", "price": tick.bid, "qty": 0.001},
                **{"ord_type": "market", "trade_id": tick.number, "timestamp": iso_time(tick.at_ms)},
            }
        else:
            candle = self._world.market.candles[tick.symbol][-1]
            entry = {
                **{"symbol": tick.symbol, "open": candle.open, "high": candle.high, "low": candle.low},
                **{"close": candle.close, "vwap": candle.close, "trades": candle.trades},
                **{"volume": candle.volume, "interval_begin": iso_time(candle.open_ms), "interval": 1},
                "timestamp": iso_time(tick.at_ms),
            }
        return encode({"channel": channel, "type": kind, "data": [entry]})

    def _ticker(self, tick: Tick, kind: str) -> bytes:
        opened, high, low, volume, change = self._world.market.day(tick)
        return (
            b'{"channel":"ticker","type":"%b","data":[{"symbol":"%b","bid":%.8f,"bid_qty":%.8f,"ask":%.8f,'
            b'"ask_qty":%.8f,"last":%.8f,"volume":%.8f,"vwap":%.8f,"low":%.8f,"high":%.8f,"change":%.8f,'
            b'"change_pct":%.4f,"timestamp":"%b"}]}'
        ) % (
            kind.encode(),
            tick.symbol.encode(),
            *(tick.bid, tick.bid_size, tick.ask, tick.ask_size, tick.bid, volume, tick.bid, low, high),
            *(tick.bid - opened, change),
            iso_time(tick.at_ms).encode(),
        )


class Kraken:
    """See `Venue`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._replies: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "/0/public/Time": self._time,
            "/0/public/SystemStatus": lambda query: {"status": "online"},
            "/0/public/Assets": self._assets,
            "/0/public/AssetPairs": self._pairs,
            "/0/public/Ticker": self._tickers,
        }

    def session(self, path: str, query: Mapping[str, str]) -> KrakenSession:
        """See `Venue.session`."""
        return KrakenSession(self._world)

    def reply(self, path: str, query: Mapping[str, str]) -> Reply:
        """See `Venue.reply`."""
        answer = self._replies.get(path)
        if answer is None:
            return Reply(404, b'{"error":["EGeneral:Unknown method"]}')
        result = answer(query)
        if result is None:
            return ok({"error": ["EQuery:Unknown asset pair"]})
        return ok({"error": [], "result": result})

    def _time(self, query: Mapping[str, str]) -> Any:
        return {"unixtime": (time.time() * 1000 + self._world.faults.skew_ms) / 1000, "rfc1123": ""}

    def _assets(self, query: Mapping[str, str]) -> Any:
        names = {part for symbol in self._world.market.symbols for part in symbol.split("/")}
        return {
            name: {
                **{"aclass": "currency", "altname": name, "decimals": 10, "display_decimals": 5},
                "status": "enabled",
            }
            for name in sorted(names)
        }

    def _pairs(self, query: Mapping[str, str]) -> Any:
        listed = {symbol.replace("/", ""): _pair(symbol) for symbol in self._world.listed}
        if "pair" not in query:
            return listed
        wanted = [name.replace("/", "") for name in query["pair"].split(",")]
        return {name: listed[name] for name in wanted} if all(name in listed for name in wanted) else None

    def _tickers(self, query: Mapping[str, str]) -> Any:
        told = {}
        for symbol, tick in self._world.market.last.items():
            if symbol in self._world.listed:
                opened, high, low, volume, _ = self._world.market.day(tick)
                told[symbol.replace("/", "")] = {
                    "a": [fixed(tick.ask), "1", fixed(tick.ask_size)],
                    "b": [fixed(tick.bid), "1", fixed(tick.bid_size)],
                    "c": [fixed(tick.bid), "0.001"],
                    "v": [fixed(volume)] * 2,
                    "p": [fixed(tick.bid)] * 2,
                    "t": [tick.number] * 2,
                    "l": [fixed(low)] * 2,
                    "h": [fixed(high)] * 2,
                    "o": fixed(opened),
                }
        return told


def _pair(symbol: str) -> dict[str, Any]:
    base, _, quote = symbol.partition("/")
    return {
        **{"altname": base + quote, "wsname": symbol, "aclass_base": "currency", "base": base},
        **{"aclass_quote": "currency", "quote": quote, "lot": "unit", "cost_decimals": 8},
        **{"pair_decimals": 8, "lot_decimals": 8, "lot_multiplier": 1, "leverage_buy": []},
        **{"leverage_sell": [], "fees": [[0, 0.26]], "fees_maker": [[0, 0.16]]},
        **{"fee_volume_currency": "ZUSD", "margin_call": 80, "margin_stop": 40, "ordermin": "0.0001"},
        **{"costmin": "0.5", "tick_size": "0.00000001", "status": "online"},
    }


_SUPPLY = {"BTC": 19_700_000.0, "ETH": 120_000_000.0}


class Coingecko:
    """CoinGecko's protocol, see `Venue`; it has no websockets."""

    def __init__(self, world: World) -> None:
        self._world = world

    def session(self, path: str, query: Mapping[str, str]) -> Session:
        """See `Venue.session`; a client that connects anyway gets Kraken's protocol."""
        return KrakenSession(self._world)

    def reply(self, path: str, query: Mapping[str, str]) -> Reply:
        """See `Venue.reply`."""
        coins = self._coins()
        if path == "/api/v3/global":
            cap = sum(coin["market_cap"] for coin in coins) or 1.0
            shares = {coin["symbol"]: coin["market_cap"] / cap * 100 for coin in coins}
            data = {
                **{"active_cryptocurrencies": len(coins), "markets": 1, "total_market_cap": {"usd": cap}},
                **{"total_volume": {"usd": cap / 20}, "market_cap_percentage": {"btc": 0.0} | shares},
                "updated_at": int(time.time() + self._world.faults.skew_ms / 1000),
            }
            return ok({"data": data})
        if path == "/api/v3/coins/markets":
            return ok(coins)
        return Reply(404, b'{"error":"Incorrect path. Please check https://www.coingecko.com/api/"}')

    def _coins(self) -> list[dict[str, Any]]:
        ids = {symbol: coin for coin, symbol in COMMON_IDS.items()}
        found: dict[str, dict[str, Any]] = {}
        for symbol, tick in self._world.market.last.items():
            base = symbol.partition("/")[0]
            at = datetime.fromtimestamp(tick.at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
            found[base] = {
                **{"id": ids.get(base, base.lower()), "symbol": base.lower(), "current_price": tick.bid},
                **{"market_cap": tick.bid * _SUPPLY.get(base, 1e6), "total_volume": tick.bid * 1000},
                **{"price_change_percentage_24h": 0.0, "last_updated": at},
            }
        return list(found.values())
