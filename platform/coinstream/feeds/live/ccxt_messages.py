"""Turn ccxt's unified structures into messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast, get_args

from coinstream.feeds.exchanges.market_state import MarketState
from coinstream.feeds.exchanges.values import levels, number, optional, signed
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, Kind
from coinstream.feeds.parser import Gap, from_ms, from_ns
from coinstream.messages import Level1, Message, Ohlcv, Price

Ticker = Mapping[str, Any]

_BAD: Final = (ValueError, OverflowError, KeyError, TypeError, AttributeError, IndexError, OSError)
"""Errors that a structure of another shape than ccxt documents raises."""
_ROW: Final = ("time", "open", "high", "low", "close", "volume")


class UnifiedParser:
    """Reads tickers, trades, books and candles of one exchange, as ccxt unifies them.

    Args:
        exchange: the `exchangeId` of the messages.
        markets: ccxt's markets by symbol; determine which sizes are in contracts.
        types: message types wanted; None for all.
    """

    def __init__(
        self, exchange: str, markets: Mapping[str, Any] | None = None, types: frozenset[str] | None = None
    ) -> None:
        self.state = MarketState(exchange, types)
        self._instruments: dict[str, Instrument] = {}
        self._candles: dict[tuple[str, str], tuple[Any, ...]] = {}
        self.set_markets(markets)

    def set_markets(self, markets: Mapping[str, Any] | None) -> None:
        """Use these markets of ccxt from now on."""
        self._instruments = {
            symbol: instrument_of(symbol, market) for symbol, market in (markets or {}).items()
        }

    def quote(self, ticker: Any, received_ns: int) -> Level1 | Reason:
        """Return the quote in a ticker, or why there is none."""
        received = from_ns(received_ns)
        try:
            bid, ask = optional(ticker.get("bid")), optional(ticker.get("ask"))
            sizes = optional(ticker.get("bidVolume")), optional(ticker.get("askVolume"))
            at = _time_of(ticker)
            return self.state.quote(
                self._instrument(ticker), bid, ask, *sizes, from_ms(at) if at else received, received
            )
        except _BAD:
            return Reason.BAD_VALUE

    def price(self, ticker: Any, received_ns: int) -> Price | Reason:
        """Return the price in a ticker, or why there is none. A change that is not a number is left out."""
        try:
            last, volume = optional(ticker.get("last")), optional(ticker.get("baseVolume"))
            at, change = _time_of(ticker), ticker.get("percentage")
            return self.state.ticker(
                *(self._instrument(ticker), last, from_ms(at) if at else None, from_ns(received_ns)),
                volume,
                signed(change),
            )
        except _BAD:
            return Reason.BAD_VALUE

    def trade(self, trade: Any, received_ns: int) -> Iterator[Message | Reason | Gap]:
        """Yield a trade as `Trade` and, in dollars, as `Price`; or why it is none."""
        received = from_ns(received_ns)
        try:
            at, identity, side = _time_of(trade), trade.get("id"), trade.get("side")
            yield from self.state.trade(
                *(self._instrument(trade), number(trade.get("price")), number(trade.get("amount"))),
                *(from_ms(at) if at else received, received),
                side=side if side in ("buy", "sell") else None,
                trade_id=None if identity is None else str(identity),
            )
        except _BAD:
            yield Reason.BAD_VALUE

    def book(self, book: Any, received_ns: int) -> Iterator[Message | Reason | Gap]:
        """Yield the quote and the levels of a book, or why there are none."""
        received = from_ns(received_ns)
        try:
            at, (bids, asks) = _time_of(book), (levels(list(book[side])) for side in ("bids", "asks"))
            yield from self.state.book_snapshot(
                "book", self._instrument(book), bids, asks, from_ms(at) if at else received, received
            )
        except _BAD:
            yield Reason.BAD_VALUE

    def candles(self, symbol: str, timeframe: str, rows: Any, received_ns: int) -> Iterator[Message | Reason]:
        """Yield the candle of each row, or the reason why it has none; older rows are refused."""
        for row in rows if isinstance(rows, (list, tuple)) else ():
            try:
                yield self._candle(symbol, timeframe, row, received_ns)
            except _BAD:
                yield Reason.BAD_VALUE

    def _candle(self, symbol: str, timeframe: str, row: Any, received_ns: int) -> Ohlcv | Reason:
        begin_ms, values = float(row[0]), [optional(value) for value in row[1 : len(_ROW)]]
        opened = from_ms(begin_ms)
        if len(values) != len(_ROW) - 1 or any(value is None for value in values[:4]):
            return Reason.INCOMPLETE
        news, key = (begin_ms, *values), (symbol, timeframe)
        before = self._candles.get(key)
        if before == news:
            return Reason.DUPLICATE
        if before is not None and begin_ms < before[0]:
            return Reason.OUT_OF_DATE
        self._candles[key] = news
        begin, high, low, close, volume = (value or 0.0 for value in values)
        return self.state.candle(
            *(self._market(symbol), timeframe, opened, (begin, high, low, close), volume),
            from_ns(received_ns),
        )

    def _instrument(self, ticker: Ticker) -> Instrument:
        symbol = ticker["symbol"]
        if not isinstance(symbol, str) or not symbol:
            raise ValueError(f"{symbol!r} is not a symbol")
        return self._market(symbol)

    def _market(self, symbol: str) -> Instrument:
        found = self._instruments.get(symbol)
        if found is None:
            found = self._instruments[symbol] = instrument_of(symbol, {})
        return found


def tickers_in(update: Any) -> list[Any]:
    """Return the tickers of an update: one, several by symbol, or a list."""
    if isinstance(update, dict):
        return [update] if "symbol" in update else list(update.values())
    return list(update) if isinstance(update, list) else [update]


def is_tickers(update: Any) -> bool:
    """Return whether an update holds nothing but tickers, each with its symbol."""
    found = tickers_in(update)
    return bool(found) and all(
        isinstance(ticker, dict)
        and isinstance(ticker.get("symbol"), str)
        and ("bid" in ticker or "last" in ticker)
        for ticker in found
    )


def top_of(book: Any) -> dict[str, Any] | None:
    """Return the best bid and ask of a book as a ticker; None if it is not a book."""
    try:
        (bid, bid_size), (ask, ask_size) = (_best(book.get(side)) for side in ("bids", "asks"))
        return {
            **{"symbol": book.get("symbol"), "bid": bid, "bidVolume": bid_size, "ask": ask},
            **{"askVolume": ask_size, "timestamp": book.get("timestamp")},
        }
    except _BAD:
        return None


def instrument_of(symbol: str, market: Mapping[str, Any]) -> Instrument:
    """Return the instrument of a unified symbol.

    Args:
        market: ccxt's description; without it the symbol determines base, quote and settlement currency.
    """
    base, _, rest = symbol.partition("/")
    quote, _, settled = rest.partition(":")
    settle, _, detail = settled.partition("-")
    is_option = detail.count("-") >= 2
    default: Kind = "option" if is_option else "future" if detail else "swap" if settle else "spot"
    kind = market.get("type")
    size = signed(market.get("contractSize")) if market.get("contract") else None
    is_contract = bool(size and size > 0)
    return Instrument(
        *(str(market.get("id") or symbol), symbol, base, quote),
        kind=cast(Kind, kind) if kind in get_args(Kind) else default,
        settle=settle,
        contract_size=size if size and is_contract else 1.0,
        inverse=is_contract and bool(market.get("inverse")),
        price_currency=settle if is_option else "",
    )


def _best(side: Any) -> tuple[Any, Any]:
    return (side[0][0], side[0][1]) if side else (None, None)


def _time_of(ticker: Ticker) -> float | None:
    found = ticker.get("timestamp")
    return float(found) if found else None
