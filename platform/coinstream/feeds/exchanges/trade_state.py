"""Remember the trades of each symbol of one exchange: refuse repeats and notice gaps."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

from coinstream.feeds.exchanges.quote_state import QuoteState
from coinstream.feeds.exchanges.values import identifier
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Gap
from coinstream.messages import Message, Price, Trade

Side = Literal["buy", "sell"]
_IDS_KEPT: Final = 512


class Missing(NamedTuple):
    """Trades of one gap: what a parser of recovered trades accepts.

    Attributes:
        gap: numbers or times of the trades.
        known: ids of trades that were received.
    """

    gap: Gap
    known: Collection[str] = ()

    def has(self, number: int | None, trade_id: str | None, at: datetime) -> bool:
        """Return whether a trade is missing."""
        gap = self.gap
        if gap.first >= 0 and number is not None:
            return gap.first <= number <= gap.last
        if trade_id is not None and trade_id in self.known:
            return False
        return (gap.since is None or at >= gap.since) and (gap.until is None or at <= gap.until)


class TradeState(QuoteState):
    """The last trade of each symbol, by number or by id."""

    def __init__(self, exchange: str, types: frozenset[str] | None = None) -> None:
        super().__init__(exchange, types)
        self._missing: Missing | None = None
        self._numbers: dict[str, int] = {}
        self._ids: dict[str, dict[str, None]] = {}
        self._trade_times: dict[str, datetime] = {}
        self._reconnected: set[str] = set()

    def accept_only(self, missing: Missing) -> None:
        """Refuse all trades but those of a gap."""
        self._missing = missing

    def known_ids(self, symbol: str) -> Collection[str]:
        """Return the newest trade ids of a symbol that were received."""
        return self._ids.get(symbol, {})

    def remember(self, trades: Collection[Trade]) -> None:
        """Note the ids of recovered trades, so that a repeat of one is refused."""
        for trade in trades:
            if trade.symbol in self._ids and trade.trade_id is not None:
                self._ids[trade.symbol][trade.trade_id] = None

    def expect_missing(self) -> None:
        """Treat the next trade of each symbol as the first one of a new connection."""
        self._reconnected = set(self._trade_times)

    def trade(
        self,
        instrument: Instrument,
        price: float,
        contracts: float,
        at: datetime,
        received: datetime,
        *,
        side: Side | None = None,
        trade_id: Any = None,
        sequence: int | None = None,
        consecutive: bool = False,
        count: int = 1,
        unique_id: bool = True,
    ) -> Iterator[Message | Reason | Gap]:
        """Yield a trade as `Trade` and, if in dollars, as `Price`; or a reason. Pass trades oldest first.

        Args:
            contracts: size in the exchange's unit, converted to base currency by the instrument.
            side: side of the taker.
            trade_id: the exchange's id of the trade, text or an integer; duplicates are refused.
            sequence: number that increases per symbol; older ones are refused.
            consecutive: whether numbers increase by one, so that a missing number is a gap.
            count: trades that the exchange reports as one; `sequence` is the number of the last.
            unique_id: whether no other trade of the symbol has the same `trade_id`.

        Raises:
            ValueError: `trade_id` has another type.
        """
        identity = identifier(trade_id)
        repeat = self._repeat(instrument.symbol, identity if unique_id else None, sequence, at)
        if repeat is not None:
            yield repeat
            return
        if not price > 0:
            yield Reason.NO_PRICE
            return
        yield from self._gap(instrument.symbol, sequence, at, count if consecutive else 0)
        yield from self._messages(instrument, price, contracts, at, received, side, identity, sequence)

    def _messages(
        self,
        instrument: Instrument,
        price: float,
        contracts: float,
        at: datetime,
        received: datetime,
        side: Side | None,
        trade_id: str | None,
        sequence: int | None,
    ) -> Iterator[Message | Reason]:
        size = instrument.base_size(contracts, price)
        sent = self.wants("trade")
        if sent and not size:
            yield Reason.NO_TRADE_SIZE
        elif sent and size:
            yield Trade(
                exchange_id=self.exchange,
                symbol=instrument.symbol,
                trade_price=price,
                size=size,
                timestamp=at,
                last_updated=received,
                trade_id=trade_id or (None if sequence is None else str(sequence)),
                side=side,
            )
        if self.wants("price") and instrument.is_in_dollars:
            yield Price(self.exchange, instrument.symbol, price, at)
        elif not sent:
            yield Reason.NOT_WANTED if not self.wants("price") else Reason.NOT_DOLLARS

    def _gap(self, symbol: str, sequence: int | None, at: datetime, count: int) -> Iterator[Gap]:
        """Note a trade and yield the gap before it: a hole in the numbers, or a new connection.

        Args:
            count: trades of this one where the numbers grow by one; otherwise 0.
        """
        before, since = self._numbers.get(symbol), self._trade_times.get(symbol)
        if sequence is not None:
            if count and before is not None and sequence - count > before:
                yield Gap(symbol, before + 1, sequence - count, "trades", since, at)
            self._numbers[symbol] = sequence
        self._trade_times[symbol] = at
        if symbol in self._reconnected:
            self._reconnected.discard(symbol)
            if not count and sequence is not None and before is not None:
                yield Gap(symbol, before + 1, sequence - 1, "reconnect", since, at)
            elif sequence is None:
                yield Gap(symbol, -1, -1, "reconnect", since, at)

    def _repeat(self, symbol: str, trade_id: str | None, sequence: int | None, at: datetime) -> Reason | None:
        if self._missing is not None and not self._missing.has(sequence, trade_id, at):
            return Reason.DUPLICATE
        if sequence is not None:
            before = self._numbers.get(symbol)
            if before is not None and sequence <= before:
                return Reason.DUPLICATE if sequence == before else Reason.OUT_OF_DATE
            return None
        if trade_id is None:
            return None
        known = self._ids.setdefault(symbol, {})
        if trade_id in known:
            return Reason.DUPLICATE
        known[trade_id] = None
        if len(known) > _IDS_KEPT:
            del known[next(iter(known))]
        return None
