"""Parse Bitget's websockets v1, v2 and v3.

Source: "Bitget API" (https://www.bitget.com/api-doc/spot/websocket/public/Tickers-Channel,
.../contract/websocket/public/Order-Book-Channel, .../uta/websocket/public/Public-Trades-Channel; the page
of the order book was read on 2026-11-26), checked against a session of 2022-04-07:

- `books` sends a snapshot and then changes, with the CRC-32 of the best 25 levels, or 0 instead of it.
  `books1`, `books5` and `books15` are always complete. v3 adds `seq`, and `pseq` of the previous frame.
- Trades come newest first, without ids in v1; the first frame repeats the latest trades.
- Sizes and volumes are in base currency, also of futures.
- The first ticker of v1 for spot has rounded prices and no sizes.
- Spot and futures share names such as `BTCUSDT`: the id of an instrument is the market and the name, such as
  `spot.BTCUSDT` or `mix.BTCUSDT`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from coinstream.feeds.exchanges.order_book import TextBook
from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    UnknownSymbolError,
    ascending,
    each,
    levels,
    moment,
    number,
    optional,
    percent,
    side_of,
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instrument_lists import split_by_quotes
from coinstream.feeds.instruments import Instrument, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Gap, Parsed, from_ms, rejected

_QUOTES: Final = ("USDT", "USDC", "BTC", "ETH", "EUR", "BRL", "BGB")
"""Quote currencies of spot."""
_ENDINGS: Final = (("USDT", "USDT"), ("PERP", "USDC"), ("USD", "USD"))
"""Ends of the names of futures, with the quote currency that each stands for."""
_DELIVERY: Final = re.compile(r"(\w+?)_(?:[A-Z]MCBL_)?(\d{6})")


def read_instrument(url: str, entry: Any) -> Instrument:
    """Return the instrument of an entry of the v1, v2 or v3 list of spot or futures."""
    symbol, base, quote = entry["symbol"], entry["baseCoin"], entry["quoteCoin"]
    if "/spot/" in url or entry.get("category") == "SPOT":
        name = entry.get("symbolName") or symbol.removesuffix("_SPBL")
        active = entry.get("status", "online") == "online"
        return spot(f"spot.{name}", base, quote, active=active)
    name, _, detail = symbol.partition("_")
    day = detail.partition("_")[2]
    due = entry.get("deliveryTime")
    expiry = from_ms(float(due)) if due else _day(day) if day else None
    quote = "USDC" if name.endswith("PERP") else quote
    settle = base if quote == "USD" else quote
    return derivative(f"mix.{name}_{day}" if day else f"mix.{name}", base, quote, settle, expiry=expiry)


def instrument_named(market: str, name: str) -> Instrument | None:
    """Return the instrument of a name that is not listed, where the name leaves no doubt.

    A line of futures has one quote currency, which ends the name. Spot has the quote currencies of
    `_QUOTES`, of which none ends in another one.
    """
    if market == "spot":
        parts = split_by_quotes(name, _QUOTES)
        return spot(f"spot.{name}", *parts) if parts else None
    found = _DELIVERY.fullmatch(name)
    contract, expiry = (found[1], _day(found[2])) if found else (name, None)
    for ending, quote in _ENDINGS:
        base = contract.removesuffix(ending)
        if base and base != contract:
            settle = base if quote == "USD" else quote
            return derivative(f"mix.{name}", base, quote, settle, expiry=expiry)
    return None


def market_of(kind: str) -> str:
    """Return `spot` or `mix` for an `instType`.

    Raises:
        ValueError: the exchange documents no such type.
    """
    lower = kind.lower()
    if lower in ("sp", "spot"):
        return "spot"
    if lower == "mc" or lower.endswith("-futures"):
        return "mix"
    raise ValueError(f"{kind!r} is not an instrument type")


def _day(text: str) -> datetime:
    return datetime.strptime(text, "%y%m%d").replace(tzinfo=UTC)


_UNITS: Final = {"m": "m", "H": "h", "h": "h", "D": "d", "d": "d", "W": "w", "w": "w", "M": "M"}
_CONTROL: Final = frozenset({"subscribe", "unsubscribe", "login"})


class BitgetParser(ExchangeParser):
    """Read tickers, books, trades, candles and liquidations."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._texts: dict[tuple[str, str], TextBook] = {}
        self._newest: dict[str, datetime] = {}

    def renew(self) -> None:
        """Clear the books and their text."""
        super().renew()
        self._texts.clear()

    def read(self, frame: Frame) -> Parsed:
        """Read a frame; `ping` and `pong` are plain text."""
        return HEARTBEAT if frame.payload.strip() in (b"pong", b"ping") else super().read(frame)

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame by its channel."""
        event = value.get("event")
        if event in _CONTROL:
            return ACKNOWLEDGED
        if event == "error":
            return rejected(Reason.REFUSED, str(value.get("msg", value)))
        if "arg" not in value:
            known = frame.url is not None
            return STATUS if known else rejected(Reason.UNKNOWN, "neither event nor data")
        argument, rows = value["arg"], value["data"]
        channel = argument.get("channel") or argument["topic"]
        market, whole = market_of(argument["instType"]), value.get("action") != "update"
        if channel == "liquidation":
            return each(rows, lambda row: self._liquidation(market, row, received))
        instrument = self.named(market, argument.get("instId") or argument["symbol"])
        if channel.startswith("books"):
            return each(rows, lambda row: self._book(channel, instrument, row, received, whole=whole))
        if channel in ("trade", "publicTrade"):
            trades = ascending([_trade(row) for row in rows], lambda row: row["ts"])
            return self._trades(instrument, trades, received, whole=whole)
        if channel == "ticker":
            stamp = value.get("ts")
            return each(rows, lambda row: self._ticker(instrument, row, stamp, received))
        if channel.startswith("candle"):
            interval = channel.removeprefix("candle")
            return each(rows, lambda row: self._candle(instrument, interval, row, received))
        if channel == "kline":
            interval = argument["interval"]
            return each(rows, lambda row: self._candle(instrument, interval, row, received))
        return rejected(Reason.UNKNOWN, f"channel {channel!r}")

    def named(self, market: str, name: str) -> Instrument:
        """Return the instrument of a name in spot or futures.

        Raises:
            UnknownSymbolError: the list does not contain it, and the name is ambiguous.
        """
        found = self.instruments.get(f"{market}.{name}")
        if found is None:
            found = instrument_named(market, name)
            if found is None:
                raise UnknownSymbolError(f"{name!r} is not in the {market} instruments of {self.exchange}")
            self.instruments.add([found])
        return found

    def _ticker(self, instrument: Instrument, row: Any, stamp: Any, received: datetime) -> Found:
        stamp = row.get("ts") or row.get("systemTime") or stamp
        at = moment(stamp) if stamp else received
        bid, ask = _first(row, "bidPr", "bestBid", "bid1Price"), _first(row, "askPr", "bestAsk", "ask1Price")
        sizes = _first(row, "bidSz", "bid1Size"), _first(row, "askSz", "ask1Size")
        yield self.state.quote(
            instrument,
            *(optional(bid), optional(ask), optional(sizes[0]), optional(sizes[1])),
            *(at, received, "ticker"),
        )
        last = number(_first(row, "lastPr", "last", "lastPrice"))
        if instrument.kind != "spot":
            yield self._figures(instrument, row, last, at, received)
        change = signed(_first(row, "change24h", "priceChangePercent", "price24hPcnt"))
        before = _first(row, "open24h", "openPrice24h")
        percentage = percent(last, optional(before)) if change is None else change * 100
        volume = optional(_first(row, "baseVolume", "volume24h"))
        yield self.state.ticker(instrument, last, at, received, volume, percentage)

    def _figures(
        self, instrument: Instrument, row: Any, last: float, at: datetime, received: datetime
    ) -> Any:
        due = _first(row, "nextFundingTime", "nextSettleTime")
        return self.state.derivative(
            instrument,
            at,
            received,
            mark_price=optional(row.get("markPrice")),
            index_price=optional(row.get("indexPrice")) or None,
            last_price=last or None,
            funding_rate=signed(_first(row, "fundingRate", "capitalRate")),
            next_funding_time=moment(due) if due and str(due) != "0" else None,
            open_interest=optional(_first(row, "holdingAmount", "holding", "openInterest")),
        )

    def _book(
        self, channel: str, instrument: Instrument, row: Any, received: datetime, *, whole: bool
    ) -> Found:
        texts = row.get("bids", row.get("b", ())), row.get("asks", row.get("a", ()))
        at, bids, asks = moment(row["ts"]), levels(texts[0]), levels(texts[1])
        if channel == "books1":
            bid, ask = (bids or [(0.0, 0.0)])[0], (asks or [(0.0, 0.0)])[0]
            yield self.state.quote(instrument, bid[0], ask[0], bid[1], ask[1], at, received, channel)
            return
        sequence, before = row.get("seq"), row.get("pseq")
        book = self.state.order_book(channel, instrument)
        if whole or channel != "books":
            book.unsync()
            number_ = -1 if sequence is None else int(sequence)
            found: Found = self.state.book_snapshot(
                channel, instrument, bids, asks, at, received, sequence=number_
            )
        else:
            found = self.state.book_change(
                *(channel, instrument, bids, asks, at, received),
                first=int(before) + 1 if before else None,
                last=None if sequence is None else int(sequence),
            )
        given = list(found)
        if row.get("checksum") and channel == "books":
            text = self._texts.setdefault((channel, instrument.symbol), TextBook())
            if whole:
                text.clear()
            text.apply(*texts)
            if book.is_synced and text.crc32() != _signed32(int(row["checksum"])):
                number_ = book.sequence
                book.unsync()
                given = [Gap(instrument.symbol, number_, number_), Reason.CHECKSUM]
        yield from given

    def _trades(self, instrument: Instrument, rows: Any, received: datetime, *, whole: bool) -> Parsed:
        newest = self._newest.get(instrument.symbol)
        if rows:
            last = moment(rows[-1]["ts"])
            self._newest[instrument.symbol] = last if newest is None else max(newest, last)

        def read(row: Any) -> Found:
            at = moment(row["ts"])
            if whole and newest is not None and at <= newest and row["id"] is None:
                yield Reason.OUT_OF_DATE
                return
            yield from self.state.trade(
                instrument,
                number(row["price"]),
                number(row["size"]),
                at,
                received,
                side=side_of(row["side"]),
                trade_id=row["id"],
            )

        return each(rows, read)

    def _candle(self, instrument: Instrument, interval: str, row: Any, received: datetime) -> Found:
        text = interval.removesuffix("utc")
        timeframe = text[:-1] + _UNITS[text[-1]]
        if isinstance(row, dict):
            row = [row[name] for name in ("start", "open", "high", "low", "close", "volume")]
        prices = number(row[1]), number(row[2]), number(row[3]), number(row[4])
        yield self.state.candle(instrument, timeframe, moment(row[0]), prices, number(row[5]), received)

    def _liquidation(self, market: str, row: Any, received: datetime) -> Found:
        instrument, side = self.named(market, row["symbol"]), side_of(row["side"])
        price, size, at = number(row["price"]), number(row["amount"]), moment(row["ts"])
        yield self.state.liquidation(instrument, price, size, side, at, received)


def _trade(row: Any) -> dict[str, Any]:
    """Return a trade of v1 (a list), v2 or v3 under the same names."""
    if isinstance(row, list):
        return {"ts": row[0], "price": row[1], "size": row[2], "side": row[3], "id": None}
    if "T" in row:
        return {
            "ts": row["T"],
            "price": row["p"] if "p" in row else row["P"],
            "size": row["v"],
            "side": row["S"],
            "id": row.get("i"),
        }
    return {**row, "id": row.get("tradeId")}


def _first(row: Any, *keys: str) -> Any:
    return next((row[key] for key in keys if row.get(key) not in (None, "")), None)


def _signed32(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value
