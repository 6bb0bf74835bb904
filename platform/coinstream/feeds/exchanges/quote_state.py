"""Keep the last quote and price of each symbol of one exchange; refuse duplicates and older ones."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.messages import Level1, Price

CLOCK_TOLERANCE: Final = timedelta(seconds=10)
"""Maximum time ahead of the receipt time for an exchange's time to count as the newest."""


class QuoteState:
    """Last quote and price of each symbol.

    Args:
        exchange: `exchangeId` of the messages.
        types: message types to produce; None for all.
    """

    def __init__(self, exchange: str, types: frozenset[str] | None = None) -> None:
        self.exchange = exchange
        self._types = types
        self._wants_quotes = types is None or "level1" in types
        self._quotes: dict[str, tuple[float, float, float, float, datetime, str]] = {}
        self._prices: dict[str, tuple[Any, ...]] = {}
        self._price_times: dict[str, datetime] = {}

    def wants(self, name: str) -> bool:
        """Return whether messages of this type are to be produced."""
        return self._types is None or name in self._types

    def quote(
        self,
        instrument: Instrument,
        bid: float | None,
        ask: float | None,
        bid_size: float | None,
        ask_size: float | None,
        at: datetime,
        received: datetime,
        channel: str = "",
    ) -> Level1 | Reason:
        """Return the best bid and ask, or the reason why there is no quote. Sizes are in the exchange's unit.

        Args:
            instrument: instrument of the quote.
            bid: best bid price.
            ask: best ask price.
            bid_size: size at the bid.
            ask_size: size at the ask.
            at: time of the exchange; None if it sends none.
            received: receipt time.
            channel: stream of the quote; a quote of another stream that is older than the last is refused.
        """
        if not self._wants_quotes:
            return Reason.NOT_WANTED
        if not (bid and ask):
            return Reason.ONE_SIDED
        if bid_size is None or ask_size is None:
            return Reason.NO_SIZES
        if instrument.inverse or instrument.contract_size != 1.0:
            bid_size = instrument.base_size(bid_size, bid) or 0.0
            ask_size = instrument.base_size(ask_size, ask) or 0.0
        symbol = instrument.symbol
        last = self._quotes.get(symbol)
        if last is not None:
            if last[0] == bid and last[1] == ask and last[2] == bid_size and last[3] == ask_size:
                return Reason.TOP_UNCHANGED
            if channel != last[5] and at < last[4]:
                return Reason.OUT_OF_DATE
        mark = at
        # Add the times only if necessary: the addition costs as much as the lookup.
        if at > received and at > received + CLOCK_TOLERANCE:
            mark = last[4] if last else received
        self._quotes[symbol] = (bid, ask, bid_size, ask_size, mark, channel)
        return Level1(self.exchange, symbol, bid, ask, bid_size, ask_size, at, received)

    def ticker(
        self,
        instrument: Instrument,
        price: float | None,
        at: datetime | None,
        received: datetime,
        volume_24h: float | None = None,
        change_24h: float | None = None,
    ) -> Price | Reason:
        """Return the price of a ticker, or a reason: repeated, older, zero or not in dollars.

        Args:
            volume_24h: in base currency; None if the exchange sends none.
            change_24h: in per cent.
        """
        if not self.wants("price"):
            return Reason.NOT_WANTED
        if not price:
            return Reason.NO_PRICE
        if not instrument.is_in_dollars:
            return Reason.NOT_DOLLARS
        symbol = instrument.symbol
        news = (at, price, volume_24h, change_24h)
        if self._prices.get(symbol) == news:
            return Reason.DUPLICATE
        if at is not None:
            newest = self._price_times.get(symbol)
            if newest is not None and at < newest:
                return Reason.OUT_OF_DATE
            if at <= received + CLOCK_TOLERANCE:
                self._price_times[symbol] = at
        self._prices[symbol] = news
        return Price(self.exchange, symbol, price, at or received, volume_24h, change_24h)
