"""Parse KuCoin's spot websocket and REST books.

Source: "KuCoin API: Spot Market Data" (https://www.kucoin.com/docs-new/3470063w0 and following):

- `/market/level2` numbers its changes `sequenceStart` to `sequenceEnd` on top of the REST book whose
  `sequence` they follow. A change with the price "0" only moves the number and is to be ignored.
- Times of trades and candles are nanoseconds, of tickers milliseconds.
- A candle is open, close, high, low, base volume, quote volume.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    levels,
    moment,
    number,
    optional,
    parsed,
    side_of,
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Parsed, from_ms, rejected

_ALIASES: Final = {"BCHSV": "BSV"}
_LINEAR: Final = {"XBTUSDTM": 0.001, "XBTUSDCM": 0.001, "ETHUSDTM": 0.01, "ETHUSDCM": 0.01}
"""Base currency that a contract is worth, as the exchange documents it."""
_INVERSE: Final = ("XBTUSDM", "ETHUSDM")
"""Contracts that are worth one dollar."""


def read_instrument(entry: Any) -> Instrument:
    """Return the instrument of an entry of `/api/v1/symbols` or `/api/v1/contracts/active`."""
    base, quote = _name(entry["baseCurrency"]), _name(entry["quoteCurrency"])
    if "settleCurrency" not in entry:
        return spot(entry["symbol"], base, quote, active=entry.get("enableTrading", True))
    inverse = bool(entry.get("isInverse"))
    expiry = entry.get("expireDate")
    return derivative(
        entry["symbol"],
        *(base, quote, entry["settleCurrency"]),
        expiry=from_ms(float(expiry)) if expiry else None,
        contract_size=abs(float(entry["multiplier"])),
        inverse=inverse,
        active=entry.get("status", "Open") == "Open",
    )


def instrument_named(name: str) -> Instrument | None:
    """Return the spot market of a name that is not listed, or one of the oldest contracts.

    The size of any other contract is not in its name.
    """
    base = name[:3]
    if name in _INVERSE:
        return derivative(name, base, "USD", base, inverse=True)
    if name in _LINEAR:
        quote = name[3:7]
        return derivative(name, base, quote, quote, contract_size=_LINEAR[name])
    base, _, quote = name.partition("-")
    return spot(name, _name(base), _name(quote)) if base.isalnum() and quote.isalnum() else None


def _name(currency: str) -> str:
    return _ALIASES.get(currency, currency)


_UNITS: Final = {"min": "m", "hour": "h", "day": "d", "week": "w", "month": "M"}


class KucoinSpotParser(ExchangeParser):
    """Read the topics of spot markets."""

    def unlisted(self, name: str) -> Instrument | None:
        """Return the spot market that a name with a hyphen describes."""
        return instrument_named(name)

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame by its type and topic."""
        kind = value.get("type")
        if kind in ("welcome", "ack"):
            return ACKNOWLEDGED
        if kind in ("pong", "ping"):
            return HEARTBEAT
        if kind == "error":
            return rejected(Reason.REFUSED, str(value.get("data")))
        if kind in ("message", "notice", "command"):
            topic, _, name = value["topic"].partition(":")
            return self.on_topic(topic, name, value, received)
        if frame.url is not None:
            return self._reply(value, frame.url, received)
        return rejected(Reason.UNKNOWN, f"type {kind!r}")

    def on_topic(self, topic: str, name: str, value: Any, received: datetime) -> Parsed:
        """Return the result of a frame of a spot topic."""
        data, channel = value["data"], topic.rpartition("/")[2]
        if not topic.startswith(("/market/", "/spotMarket/")):
            known = topic.startswith(("/indicator/", "/margin/", "/callauction/"))
            return rejected(Reason.OTHER_CHANNEL if known else Reason.UNKNOWN, f"topic {topic!r}")
        if channel.startswith("level3"):
            return rejected(Reason.OTHER_CHANNEL)
        if name == "all" or channel == "snapshot":
            name = data["data"]["symbol"] if channel == "snapshot" else value["subject"]
        name, _, detail = name.partition("_")
        if channel == "ticker":
            return parsed(self._ticker(self.instrument(name), data, received))
        if channel == "snapshot":
            return parsed(self._snapshot(self.instrument(name), data["data"], received))
        if channel == "level2":
            return parsed(self._change(self.instrument(data.get("symbol") or name), data, received))
        if channel == "level1":
            return parsed(self._best(self.instrument(name), data, received))
        if channel in ("level2Depth5", "level2Depth50"):
            return parsed(self.whole(channel, self.instrument(name), data, received))
        if channel == "match":
            return parsed(self._match(self.instrument(data.get("symbol") or name), data, received))
        if channel == "candles":
            return parsed(self.candle(self.instrument(name), detail, data["candles"], received))
        return rejected(Reason.UNKNOWN, f"topic {topic!r}")

    def _ticker(self, instrument: Instrument, data: Any, received: datetime) -> Found:
        at = moment(data["time"]) if data.get("time") else received
        bid, ask = number(data["bestBid"]), number(data["bestAsk"])
        sizes = optional(data["bestBidSize"]), optional(data["bestAskSize"])
        yield self.state.quote(instrument, bid, ask, *sizes, at, received, "ticker")
        yield self.state.ticker(instrument, number(data["price"]), at, received)

    def _snapshot(self, instrument: Instrument, data: Any, received: datetime) -> Found:
        at, change = moment(data["datetime"]), signed(data.get("changeRate"))
        yield self.state.ticker(
            instrument,
            *(number(data["lastTradedPrice"]), at, received, optional(data.get("vol"))),
            None if change is None else change * 100,
        )

    def _change(self, instrument: Instrument, data: Any, received: datetime) -> Found:
        at = moment(data["time"]) if data.get("time") else received
        sides = (levels(data["changes"][side]) for side in ("bids", "asks"))
        bids, asks = ([level for level in side if level[0]] for side in sides)
        first, last = int(data["sequenceStart"]), int(data["sequenceEnd"])
        yield from self.state.book_change(
            "level2", instrument, bids, asks, at, received, first=first, last=last
        )

    def _best(self, instrument: Instrument, data: Any, received: datetime) -> Found:
        at, (bid, bid_size) = moment(data["timestamp"]), (data["bids"] or (0, 0))[:2]
        ask, ask_size = (data["asks"] or (0, 0))[:2]
        sizes = number(bid_size), number(ask_size)
        yield self.state.quote(instrument, number(bid), number(ask), *sizes, at, received, "level1")

    def whole(self, channel: str, instrument: Instrument, data: Any, received: datetime) -> Found:
        """Yield the messages of a whole book."""
        at = moment(data.get("timestamp") or data["ts"])
        bids, asks = levels(data["bids"]), levels(data["asks"])
        yield from self.state.book_snapshot(channel, instrument, bids, asks, at, received)

    def _match(self, instrument: Instrument, data: Any, received: datetime) -> Found:
        yield from self.state.trade(
            instrument,
            number(data["price"]),
            number(data["size"]),
            moment(data["time"]),
            received,
            side=side_of(data["side"]),
            trade_id=data.get("tradeId"),
            sequence=int(data["sequence"]),
        )

    def candle(self, instrument: Instrument, detail: str, row: Any, received: datetime) -> Found:
        """Yield the candle of a row; `detail` is the interval (`1min`, `8hour`)."""
        amount = detail.rstrip("abcdefghijklmnopqrstuvwxyz")
        timeframe = amount + _UNITS[detail.removeprefix(amount)]
        opened, close, high, low = (number(value) for value in row[1:5])
        volume = instrument.base_size(number(row[5]), close) or 0.0
        prices = (opened, high, low, close)
        yield self.state.candle(instrument, timeframe, moment(row[0]), prices, volume, received)

    def _reply(self, value: Any, url: str, received: datetime) -> Parsed:
        if value.get("code") not in (None, "200000"):
            return rejected(Reason.REFUSED, str(value.get("msg")))
        data = value.get("data")
        if not (isinstance(data, dict) and "bids" in data):
            return STATUS
        return parsed(self._rest_book(url, data, received))

    def _rest_book(self, url: str, data: Any, received: datetime) -> Found:
        name = url.partition("symbol=")[2].partition("&")[0] or data["symbol"]
        stamp = data.get("time") or data.get("ts")
        yield from self.state.book_snapshot(
            "level2",
            self.instrument(name),
            levels(data["bids"]),
            levels(data["asks"]),
            moment(stamp) if stamp else received,
            received,
            sequence=int(data["sequence"]),
        )
