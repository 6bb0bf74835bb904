"""Parse LEAN's minute bars: `<yyyymmdd>_<symbol>_minute_<trade|quote>.csv`, one candle per line.

Source: the description of LEAN's data format. The first field is milliseconds since midnight UTC. A trade bar
is open, high, low, close, volume. A quote bar is the candle of the bid with its last size and the candle of
the ask with its last size; empty fields mean that the side had no quote. Crypto prices are not scaled.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from coinstream.feeds.exchanges.parsing import ExchangeParser, UnknownSymbolError
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instrument_lists import split_listed
from coinstream.feeds.instruments import InstrumentList
from coinstream.feeds.parser import ONE_SIDED, Frame, Number, Parsed, from_ns, rejected
from coinstream.messages import Level1, Ohlcv

MINUTE: Final = timedelta(minutes=1)
_MARKETS: Final = {"gdax": "coinbase"}
"""Exchange names of LEAN that differ from ours."""

_TRADE_FIELDS: Final = 6
_QUOTE_FIELDS: Final = 11


class LeanParser(ExchangeParser):
    """Parser of LEAN's minute bars: trade bars to Ohlcv, quote bars to the Level1 at the end of the minute.

    The receipt time of a frame is the end of its minute; its URL names the file in the archive.
    """

    def __init__(self, exchange: str = "lean") -> None:
        super().__init__(exchange, InstrumentList())

    def read(self, frame: Frame) -> Parsed:
        """See `ExchangeParser.read`."""
        name = (frame.url or "").rpartition("/")[2].removesuffix(".csv")
        parts = name.split("_")
        if len(parts) != 4 or parts[2] != "minute":
            return rejected(Reason.UNKNOWN, f"not minute bars: {name!r}")
        split = split_listed(parts[1], self.exchange)
        if split is None:
            raise UnknownSymbolError(f"{parts[1]!r} is not in the instrument list of {self.exchange}")
        symbol = "/".join(split)
        fields = frame.payload.decode().split(",")
        if parts[3] == "trade" and len(fields) >= _TRADE_FIELDS:
            return self._trade(symbol, _numbers(fields[1:6]), frame)
        if parts[3] == "quote" and len(fields) >= _QUOTE_FIELDS:
            if not all(fields[1:11]):
                return ONE_SIDED
            return self._quote(symbol, _numbers(fields[1:11]), frame)
        return rejected(Reason.MALFORMED, f"{len(fields)} fields in a bar of {parts[3]!r}")

    def _trade(self, symbol: str, values: Sequence[float], frame: Frame) -> Parsed:
        end = from_ns(frame.received_ns)
        opened, high, low, close, volume = values
        return Parsed(
            (Ohlcv(self.exchange, symbol, "1m", end - MINUTE, end, opened, high, low, close, volume, end),)
        )

    def _quote(self, symbol: str, values: Sequence[float], frame: Frame) -> Parsed:
        end = from_ns(frame.received_ns)
        bid, bid_size, ask, ask_size = values[3], values[4], values[8], values[9]
        if not (bid and ask):
            return ONE_SIDED
        return Parsed((Level1(self.exchange, symbol, bid, ask, bid_size, ask_size, end, end),))


def _numbers(fields: Sequence[str]) -> list[float]:
    return msgspec.convert(fields, list[Number], strict=False)


def midnight_ns(name: str) -> int | None:
    """Return the begin of the day of a file such as `20180404_btcusd_minute_trade.csv`, or None."""
    try:
        day = datetime.strptime(name[:8], "%Y%m%d").replace(tzinfo=UTC)
    except ValueError:
        return None
    return int(day.timestamp()) * 1_000_000_000


def exchange_of_archive(path: Path) -> str:
    """Return the exchange of a LEAN archive by its folders (`crypto/gdax/minute/btcusd/`), else `lean`."""
    folders = path.resolve().parts
    if len(folders) >= 4 and folders[-3] == "minute":
        return _MARKETS.get(folders[-4], folders[-4])
    return "lean"
