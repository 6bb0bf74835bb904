"""Parse the frames of Phemex; see the package's docstring for their format."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, NamedTuple

from coinstream.feeds.exchanges.parsing import (
    ExchangeParser,
    Found,
    UnknownSymbolError,
    ascending,
    each,
    moment,
    number,
    optional,
    optional_side,
    parsed,
    percent,
    signed,
)
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument, InstrumentList, derivative, spot
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Parsed, rejected

_STABLE: Final = ("USDT", "USDC")
_RATIO: Final = 100_000_000
_PERIODS: Final = {
    **{60: "1m", 300: "5m", 900: "15m", 1800: "30m", 3600: "1h", 14_400: "4h", 86_400: "1d"},
    **{604_800: "1w", 2_592_000: "1M"},
}
_COLUMNS: Final = (
    *("symbol", "openRp", "highRp", "lowRp", "lastRp", "volumeRq", "turnoverRv", "openInterestRv"),
    *("indexRp", "markRp", "fundingRateRr", "predFundingRateRr"),
)
"""Columns of `perp_market24h_pack_p`; a snapshot names them."""


class _Scale(NamedTuple):
    """Divisors of scaled integers: prices and sizes."""

    price: int
    size: int


_TEXT: Final = _Scale(1, 1)
_SPOT: Final = _Scale(100_000_000, 100_000_000)
_CONTRACT: Final = _Scale(10_000, 1)


class PhemexParser(ExchangeParser):
    """Parser of Phemex's frames: books, trades, candles, figures over 24 hours."""

    def __init__(
        self, exchange: str, instruments: InstrumentList, types: frozenset[str] | None = None
    ) -> None:
        super().__init__(exchange, instruments, types)
        self._newest: dict[str, int] = {}
        self._columns: tuple[str, ...] = _COLUMNS

    def instrument(self, name: str) -> Instrument:
        """See `ExchangeParser.instrument`; `sOLUSDT` is spot OL/USDT, `SOLUSDT` a contract."""
        found = self.instruments.get(name)
        if found is None or found.id != name:
            found = self.unlisted(name)
            if found is None:
                raise UnknownSymbolError(f"{name!r} is not in the instrument list of {self.exchange}")
            self.instruments.add([found])
        return found

    def unlisted(self, name: str) -> Instrument | None:
        """See `ExchangeParser.unlisted`: spot markets and contracts that are quoted in USDT or USDC."""
        pair = name.removeprefix("s")
        quote = next((quote for quote in _STABLE if pair.endswith(quote) and pair != quote), None)
        if quote is None:
            return None
        base = pair.removesuffix(quote)
        return derivative(name, base, quote, quote) if pair == name else spot(name, base, quote)

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """See `ExchangeParser.on_json`."""
        if frame.url is not None:
            return STATUS
        for name, read in (("book", self._book), ("trades", self._trades), ("kline", self._candles)):
            for key in (name, f"{name}_p", f"order{name}_p"):
                if key in value:
                    instrument = self.instrument(value["symbol"])
                    scale = _TEXT if key.endswith("_p") else _scale(instrument)
                    return read(instrument, scale, value[key], value, received)
        if "market24h" in value:
            return parsed(self._contract_figures(value["market24h"], value, received))
        if "spot_market24h" in value:
            return parsed(self._spot_figures(value["spot_market24h"], value, received))
        if value.get("method") == "perp_market24h_pack_p.update":
            self._columns = tuple(value.get("fields") or self._columns)
            at = moment(value["timestamp"])
            return each(value["data"], lambda row: self._packed(row, at, received))
        if "tick" in value:
            return parsed(self._tick(value["tick"], received))
        if value.get("error"):
            return rejected(Reason.REFUSED, str(value["error"])[:200])
        if "result" in value:
            return HEARTBEAT if value["result"] == "pong" else ACKNOWLEDGED
        return rejected(Reason.UNKNOWN, f"fields {sorted(value)[:10]}")

    def _book(
        self, instrument: Instrument, scale: _Scale, body: Any, value: Any, received: datetime
    ) -> Parsed:
        bids, asks = (
            [(number(row[0]) / scale.price, number(row[1]) / scale.size) for row in body[side]]
            for side in ("bids", "asks")
        )
        at = moment(value["timestamp"])
        if value["type"] != "snapshot":
            return parsed(self.state.book_change("orderbook", instrument, bids, asks, at, received))
        depth = int(value.get("depth") or 0) or None
        return parsed(
            self.state.book_snapshot("orderbook", instrument, bids, asks, at, received, depth=depth)
        )

    def _trades(
        self, instrument: Instrument, scale: _Scale, body: Any, value: Any, received: datetime
    ) -> Parsed:
        repeats = self._newest.get(instrument.id, 0) if value["type"] == "snapshot" else 0
        rows = ascending(body[::-1], lambda row: row[0])
        found = each(rows, lambda row: self._trade(instrument, scale, row, repeats, received))
        self._newest[instrument.id] = max(self._newest.get(instrument.id, 0), *(row[0] for row in rows), 0)
        return found

    def _trade(
        self, instrument: Instrument, scale: _Scale, row: Any, repeats: int, received: datetime
    ) -> Found:
        at, side, price, size = row[:4]
        if at <= repeats:
            return (Reason.DUPLICATE,)
        return self.state.trade(
            instrument,
            number(price) / scale.price,
            number(size) / scale.size,
            moment(at),
            received,
            side=optional_side(side),
        )

    def _candles(
        self, instrument: Instrument, scale: _Scale, body: Any, value: Any, received: datetime
    ) -> Parsed:
        rows = ascending(body, lambda row: row[0])
        return each(rows, lambda row: self._candle(instrument, scale, row, received))

    def _candle(self, instrument: Instrument, scale: _Scale, row: Any, received: datetime) -> Found:
        opened, seconds, _, *figures = row
        begin, high, low, close = (number(figure) / scale.price for figure in figures[:4])
        volume = number(figures[4]) / scale.size
        base = instrument.base_size(volume, close) or 0.0
        timeframe = _PERIODS[int(seconds)]
        yield self.state.candle(
            instrument, timeframe, moment(opened), (begin, high, low, close), base, received
        )

    def _contract_figures(self, row: Any, value: Any, received: datetime) -> Found:
        instrument = self.instrument(row["symbol"])
        at, scale = moment(row.get("timestamp") or value["timestamp"]), _CONTRACT.price
        last, begin = number(row["close"]) / scale, number(row["open"]) / scale
        volume = instrument.base_size(number(row["volume"]), last)
        yield self.state.ticker(instrument, last, at, received, volume, percent(last, begin))
        funding = signed(row.get("fundingRate"))
        yield self.state.derivative(
            instrument,
            at,
            received,
            mark_price=number(row["markPrice"]) / scale,
            index_price=number(row["indexPrice"]) / scale,
            last_price=last,
            funding_rate=None if funding is None else funding / _RATIO,
            open_interest=instrument.base_size(number(row["openInterest"]), last),
        )

    def _spot_figures(self, row: Any, value: Any, received: datetime) -> Found:
        instrument, at = self.instrument(row["symbol"]), moment(row.get("timestamp") or value["timestamp"])
        last, begin = number(row["lastEp"]) / _SPOT.price, number(row["openEp"]) / _SPOT.price
        volume = number(row["volumeEv"]) / _SPOT.size
        yield self.state.ticker(instrument, last, at, received, volume, percent(last, begin))

    def _packed(self, row: Any, at: datetime, received: datetime) -> Found:
        told = dict(zip(self._columns, row, strict=False))
        instrument, last = self.instrument(told["symbol"]), number(told["lastRp"])
        change = percent(last, optional(told.get("openRp")))
        yield self.state.ticker(instrument, last, at, received, optional(told.get("volumeRq")), change)
        yield self.state.derivative(
            instrument,
            at,
            received,
            mark_price=optional(told["markRp"]),
            index_price=optional(told["indexRp"]),
            last_price=last,
            funding_rate=signed(told["fundingRateRr"]),
            open_interest=optional(told["openInterestRv"]),
        )

    def _tick(self, tick: Any, received: datetime) -> Found:
        name = tick["symbol"]
        if not name.startswith(".M"):
            yield Reason.STATUS
            return
        mark = number(tick["last"]) / 10 ** int(tick["scale"])
        at = moment(tick["timestamp"])
        yield self.state.derivative(self.instrument(name[2:]), at, received, mark_price=mark)


def _scale(instrument: Instrument) -> _Scale:
    return _SPOT if instrument.kind == "spot" else _CONTRACT
