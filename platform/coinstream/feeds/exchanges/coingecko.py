"""Parse CoinGecko's public REST replies: global data, markets, simple prices, candles.

Source: "CoinGecko API v3". Coins have ids; only `/coins/markets` contains their ticker symbols. Other ids
    that
are not among the common ones are used in upper case. The time of a candle is its close. Candles have no
volume (0 here), and their timeframe is derived from their distance. Volumes are in US dollars.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any, Final, TypeVar

import msgspec

from coinstream.feeds.exchanges.parsing import ExchangeParser, collected
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import Finite, Frame, Number, Parsed, from_ms, from_ns, read, rejected
from coinstream.messages import Analytics, Message, Ohlcv, Price

COMMON_IDS: Final = {
    **{"bitcoin": "BTC", "ethereum": "ETH", "tether": "USDT", "ripple": "XRP", "binancecoin": "BNB"},
    **{"solana": "SOL", "usd-coin": "USDC", "dogecoin": "DOGE", "cardano": "ADA", "tron": "TRX"},
    **{"avalanche-2": "AVAX", "chainlink": "LINK", "polkadot": "DOT", "litecoin": "LTC"},
    **{"bitcoin-cash": "BCH", "stellar": "XLM", "monero": "XMR", "uniswap": "UNI", "shiba-inu": "SHIB"},
}
"""Ticker symbols of common coins."""


class _Global(msgspec.Struct, gc=False):
    total_market_cap: dict[str, Any]
    total_volume: dict[str, Any]
    market_cap_percentage: dict[str, Any]
    updated_at: int
    active_cryptocurrencies: int | None = None


class _GlobalReply(msgspec.Struct, gc=False):
    data: _Global


class _Market(msgspec.Struct, gc=False):
    id: str
    symbol: str
    current_price: Number | None = None
    market_cap: Number | None = None
    total_volume: Number | None = None
    price_change_percentage_24h: Finite | None = None
    last_updated: datetime | None = None


class _Candle(msgspec.Struct, array_like=True, gc=False):
    time: Number
    open: Number
    high: Number
    low: Number
    close: Number


T = TypeVar("T")

_global: Final = msgspec.json.Decoder(_GlobalReply, strict=False)
_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])
_market: Final = msgspec.json.Decoder(_Market, strict=False)
_candle: Final = msgspec.json.Decoder(_Candle, strict=False)
_coins: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_price: Final = msgspec.json.Decoder(dict[str, Finite | None], strict=False)
_anything: Final = msgspec.json.Decoder(Any)

_OHLC: Final = re.compile(r"/coins/([^/]+)/ohlc")
_VS: Final = re.compile(r"[?&]vs_currenc(?:y|ies)=(\w+)")


class CoingeckoParser(ExchangeParser):
    """Replies of CoinGecko: global data to Analytics, markets and prices to Price, candles to Ohlcv."""

    def __init__(self, exchange: str = "coingecko") -> None:
        super().__init__(exchange, InstrumentList())
        self._symbols = dict(COMMON_IDS)
        self._claimed = {ticker: coin for coin, ticker in COMMON_IDS.items()}

    def read(self, frame: Frame) -> Parsed:
        """See `ExchangeParser.read`."""
        url = frame.url or ""
        if "/global" in url:
            return self._global(frame)
        if "/coins/markets" in url:
            return self._markets(frame, _currency(url))
        if "/simple/price" in url:
            return self._prices(frame)
        if found := _OHLC.search(url):
            return self._candles(found[1], frame, _currency(url))
        reply = _anything.decode(frame.payload)
        if isinstance(reply, dict) and ("error" in reply or "status" in reply):
            return rejected(Reason.REFUSED, str(reply)[:200])
        return rejected(Reason.UNKNOWN, f"reply to {url!r}")

    def _global(self, frame: Frame) -> Parsed:
        told = read(_global, frame.payload).data
        cap, volume = _number(told.total_market_cap.get("usd")), _number(told.total_volume.get("usd"))
        bitcoin = _number(told.market_cap_percentage.get("btc"))
        if cap is None or volume is None or bitcoin is None:
            return rejected(Reason.BAD_VALUE, "no market cap or volume in dollars, or no dominance of btc")
        return Parsed(
            (
                Analytics(
                    self.exchange,
                    cap,
                    volume,
                    bitcoin,
                    from_ms(told.updated_at * 1000),
                    _number(told.market_cap_percentage.get("eth")),
                    told.active_cryptocurrencies,
                ),
            )
        )

    def _markets(self, frame: Frame, currency: str) -> Parsed:
        return _entries(
            _rows.decode(frame.payload), lambda row: self._market(read(_market, row), frame, currency)
        )

    def _market(self, market: _Market, frame: Frame, currency: str) -> Message | Reason:
        ticker = self._ticker(market.id, market.symbol)
        if not market.current_price:
            return Reason.NO_PRICE
        if currency != "USD":
            return Reason.NOT_DOLLARS
        return Price(
            self.exchange,
            f"{ticker}/USD",
            market.current_price,
            market.last_updated or from_ns(frame.received_ns),
            market.total_volume,
            market.price_change_percentage_24h,
            market.market_cap,
        )

    def _ticker(self, coin: str, symbol: str) -> str:
        """Return the ticker of a coin. If several coins share a ticker, all but the first use their id."""
        upper = symbol.upper()
        if not upper:
            raise ValueError(f"coin {coin!r} has no symbol")
        owner = self._claimed.setdefault(upper, coin)
        self._symbols[coin] = upper if owner == coin else coin.upper()
        return self._symbols[coin]

    def _prices(self, frame: Frame) -> Parsed:
        return _entries(
            _coins.decode(frame.payload).items(),
            lambda entry: self._price(entry[0], read(_price, entry[1]), frame),
        )

    def _price(self, coin: str, told: dict[str, float | None], frame: Frame) -> Message | Reason:
        price = told.get("usd")
        if price is None:
            return Reason.NOT_DOLLARS if told else Reason.NO_PRICE
        if price <= 0:
            return Reason.NO_PRICE
        seconds = told.get("last_updated_at")
        at = from_ms(seconds * 1000) if seconds else from_ns(frame.received_ns)
        volume, cap = _positive(told.get("usd_24h_vol")), _positive(told.get("usd_market_cap"))
        return Price(self.exchange, self._symbol(coin), price, at, volume, told.get("usd_24h_change"), cap)

    def _candles(self, coin: str, frame: Frame, currency: str) -> Parsed:
        told, bad = [], list[Reason]()
        for row in _rows.decode(frame.payload):
            try:
                told.append(read(_candle, row))
            except (msgspec.DecodeError, UnicodeDecodeError):
                bad.append(Reason.BAD_VALUE)
        told.sort(key=lambda candle: candle.time)
        distances = [after.time - before.time for before, after in pairwise(told)]
        if not distances:
            return rejected(
                bad[0] if bad else Reason.INCOMPLETE, "the length of a single candle is not known"
            )
        length = timedelta(milliseconds=min(distances))
        symbol = self._symbol(coin).replace("/USD", f"/{currency}")
        received = from_ns(frame.received_ns)
        made: list[Message | Reason] = [
            Ohlcv(
                self.exchange,
                symbol,
                _timeframe(length),
                from_ms(candle.time) - length,
                from_ms(candle.time),
                *(candle.open, candle.high, candle.low, candle.close, 0.0),
                received,
            )
            for candle in told
        ]
        return collected([*made, *bad])

    def _symbol(self, coin: str) -> str:
        return f"{self._symbols.get(coin, coin.upper())}/USD"


def _currency(url: str) -> str:
    found = _VS.search(url)
    return found[1].upper() if found else "USD"


def _entries(rows: Iterable[T], read_one: Callable[[T], Message | Reason]) -> Parsed:
    """Parse all entries of a reply; an invalid entry becomes a reason without affecting the others."""
    found: list[Message | Reason] = []
    details: list[str] = []
    for row in rows:
        try:
            found.append(read_one(row))
        except (msgspec.DecodeError, ValueError, OverflowError, OSError) as error:
            found.append(Reason.BAD_VALUE)
            details.append(str(error))
    return collected(found)._replace(detail="; ".join(details[:5]))


def _number(value: Any) -> float | None:
    """Return a value if it is finite and not negative, else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        found = float(value)
    except (ValueError, OverflowError):
        return None
    return found if 0 <= found < 1e30 else None


def _positive(value: float | None) -> float | None:
    return value if value is not None and value >= 0 else None


def _timeframe(length: timedelta) -> str:
    minutes = int(length.total_seconds() // 60)
    if minutes % 1440 == 0:
        return f"{minutes // 1440}d"
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"
