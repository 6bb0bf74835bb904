"""Keep the state of each market of one exchange and convert its data to messages.

Duplicates and data older than published messages are refused, deltas are merged with the last values, and
sizes in contracts are converted to base currency. Quotes, books and trades have one module each.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from coinstream.feeds.exchanges.book_state import BookState
from coinstream.feeds.exchanges.trade_state import Side, TradeState
from coinstream.feeds.exchanges.values import closing_time, identifier
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.messages import DerivativeTicker, Liquidation, Ohlcv

_DERIVATIVE: Final = (
    *("mark_price", "index_price", "last_price", "funding_rate", "next_funding_time", "open_interest"),
)


class MarketState(BookState, TradeState):
    """Last quote, price, trade, book and contract figures of each symbol of one exchange.

    Args:
        exchange: `exchangeId` of the messages.
        types: message types to produce; None for all.
    """

    def __init__(self, exchange: str, types: frozenset[str] | None = None) -> None:
        super().__init__(exchange, types)
        self._derivatives: dict[str, dict[str, Any]] = {}

    def renew(self) -> None:
        """Clear the books of a closed connection. Trades are kept, to detect duplicates and gaps."""
        super().renew()
        self.expect_missing()

    # Derivatives

    def derivative(
        self, instrument: Instrument, at: datetime, received: datetime, **figures: Any
    ) -> DerivativeTicker | Reason:
        """Return the contract figures of a symbol, merged with earlier ones.

        Args:
            figures: `mark_price`, `index_price`, `last_price`, `funding_rate` (a fraction),
                `next_funding_time` (datetime) and `open_interest` (base currency); None keeps the last value.
        """
        if not self.wants("derivativeticker"):
            return Reason.NOT_WANTED
        known = self._derivatives.setdefault(instrument.symbol, {})
        news = {name: figures[name] for name in _DERIVATIVE if figures.get(name) is not None}
        if not news.keys() - {name for name, value in news.items() if known.get(name) == value}:
            return Reason.DUPLICATE if "mark_price" in known else Reason.INCOMPLETE
        known.update(news)
        if not known.get("mark_price"):
            return Reason.INCOMPLETE
        return DerivativeTicker(
            exchange_id=self.exchange,
            symbol=instrument.symbol,
            timestamp=at,
            last_updated=received,
            **known,
        )

    def liquidation(
        self,
        instrument: Instrument,
        price: float,
        contracts: float,
        side: Side,
        at: datetime,
        received: datetime,
        order_id: Any = None,
    ) -> Liquidation | Reason:
        """Return a liquidation.

        Args:
            side: side of the liquidation order.
            order_id: the exchange's id of the order, text or an integer.

        Raises:
            ValueError: `order_id` has another type.
        """
        if not self.wants("liquidation"):
            return Reason.NOT_WANTED
        if not price > 0:
            return Reason.NO_PRICE
        return Liquidation(
            exchange_id=self.exchange,
            symbol=instrument.symbol,
            liquidation_price=price,
            size=instrument.base_size(contracts, price) or 0.0,
            side=side,
            timestamp=at,
            last_updated=received,
            order_id=identifier(order_id),
        )

    # Candles

    def candle(
        self,
        instrument: Instrument,
        timeframe: str,
        opened: datetime,
        prices: tuple[float, float, float, float],
        volume: float,
        received: datetime,
    ) -> Ohlcv | Reason:
        """Return a candle.

        Args:
            timeframe: `1m`, `1h`, `1d`, `1w`, `1M`.
            prices: open, high, low, close.
            volume: in base currency; convert contracts first.
        """
        if not self.wants("ohlcv"):
            return Reason.NOT_WANTED
        if not all(prices):
            return Reason.NO_PRICE
        closes = closing_time(opened, timeframe)
        return Ohlcv(self.exchange, instrument.symbol, timeframe, opened, closes, *prices, volume, received)
