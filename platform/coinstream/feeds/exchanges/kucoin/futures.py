"""Parse KuCoin's futures websocket.

Source: "KuCoin API: Futures Market Data" (https://www.kucoin.com/docs-new/3470080w0 and following):

- Sizes are contracts of `multiplier` base currency, or of that many dollars where the contract is inverse.
- `/contractMarket/level2` sends one change per frame, `price,side,size`, with numbers that grow by one.
- A funding rate of one-minute granularity is a prediction; the other one is in force.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from coinstream.feeds.exchanges.kucoin.spot import KucoinSpotParser, read_instrument
from coinstream.feeds.exchanges.parsing import Found, moment, number, optional, parsed, side_of, signed
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Parsed, rejected

_PREDICTED_MS: Final = 60_000


class KucoinParser(KucoinSpotParser):
    """Read the topics of spot and contracts."""

    def on_topic(self, topic: str, name: str, value: Any, received: datetime) -> Parsed:
        """Return the result of a frame of a topic."""
        data, channel = value["data"], topic.rpartition("/")[2]
        if topic == "/contract/details":
            self.instruments.add([read_instrument(data)])
            return parsed(self._details(data, received))
        if topic == "/contract/instrument":
            return parsed(self._instrument(value.get("subject"), self.instrument(name), data, received))
        if topic.startswith(("/contract/", "/contractAccount")) or channel.startswith("level3"):
            return rejected(Reason.OTHER_CHANNEL)
        if not topic.startswith("/contractMarket/"):
            return super().on_topic(topic, name, value, received)
        name, _, detail = name.partition("_")
        instrument = self.instrument(name)
        if channel in ("ticker", "tickerV2"):
            return parsed(self._contract_ticker(instrument, data, received))
        if channel == "level2":
            return parsed(self._contract_change(instrument, data, received))
        if channel in ("level2Depth5", "level2Depth50"):
            return parsed(self.whole(channel, instrument, data, received))
        if channel == "execution":
            return parsed(self._execution(instrument, data, received))
        if channel == "limitCandle":
            return parsed(self.candle(instrument, detail, data["candles"], received))
        if channel == "snapshot":
            return parsed(self._contract_snapshot(instrument, data, received))
        return rejected(Reason.UNKNOWN, f"topic {topic!r}")

    def _contract_ticker(self, instrument: Instrument, data: Any, received: datetime) -> Found:
        at = moment(data["ts"]) if data.get("ts") else received
        bid, ask = number(data.get("bestBidPrice")), number(data.get("bestAskPrice"))
        sizes = optional(data.get("bestBidSize")), optional(data.get("bestAskSize"))
        yield self.state.quote(instrument, bid, ask, *sizes, at, received, "ticker")
        if "price" in data:
            yield self.state.ticker(instrument, number(data["price"]), at, received)

    def _contract_snapshot(self, instrument: Instrument, data: Any, received: datetime) -> Found:
        at, change = moment(data["ts"]), signed(data.get("priceChgPct"))
        percentage = None if change is None else change * 100
        yield self.state.ticker(instrument, number(data["lastPrice"]), at, received, None, percentage)

    def _contract_change(self, instrument: Instrument, data: Any, received: datetime) -> Found:
        price, side, size = data["change"].split(",")
        level = [(number(price), number(size))] if number(price) else []
        bids, asks = (level, []) if side_of(side) == "buy" else ([], level)
        sequence, at = int(data["sequence"]), moment(data["timestamp"])
        yield from self.state.book_change(
            "level2", instrument, bids, asks, at, received, first=sequence, last=sequence
        )

    def _execution(self, instrument: Instrument, data: Any, received: datetime) -> Found:
        yield from self.state.trade(
            instrument,
            number(data["price"]),
            number(data["size"]),
            moment(data["ts"]),
            received,
            side=side_of(data["side"]),
            trade_id=data.get("tradeId"),
            sequence=int(data["sequence"]),
        )

    def _instrument(self, subject: Any, instrument: Instrument, data: Any, received: datetime) -> Found:
        at = moment(data["timestamp"])
        if subject == "mark.index.price":
            mark, index = optional(data.get("markPrice")), optional(data.get("indexPrice"))
            yield self.state.derivative(instrument, at, received, mark_price=mark, index_price=index)
        elif subject == "funding.rate" and data.get("granularity") != _PREDICTED_MS:
            rate = signed(data.get("fundingRate"))
            yield self.state.derivative(instrument, at, received, funding_rate=rate)
        elif subject == "funding.rate":
            yield Reason.STATUS
        else:
            yield Reason.OTHER_CHANNEL

    def _details(self, data: Any, received: datetime) -> Found:
        instrument, mark = self.instrument(data["symbol"]), optional(data.get("markPrice"))
        contracts = optional(data.get("openInterest"))
        interest = None if contracts is None else instrument.base_size(contracts, mark or 0.0)
        yield self.state.derivative(
            instrument,
            received,
            received,
            mark_price=mark,
            index_price=optional(data.get("indexPrice")),
            last_price=optional(data.get("lastTradePrice")),
            funding_rate=signed(data.get("fundingFeeRate")),
            open_interest=interest,
        )
