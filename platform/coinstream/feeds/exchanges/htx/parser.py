"""Parse HTX's websockets of spot, swaps, futures and options.

Source: "HTX API" (https://www.htx.com/en-us/opend/newApiPages/, "Spot: WebSocket Market Data",
"Coin-margined swaps" and "USDT-margined contracts"):

- Frames are gzip. The server sends `ping` and expects `pong` with the same number.
- Sizes of contracts are in contracts, except `quantity` of a trade and `amount` of a ticker or candle, which
  are base currency. Spot has base currency in `amount` everywhere.
- `mbp.N` sends changes that follow the frame whose `seqNum` is their `prevSeqNum`; `mbp.refresh.N` and
  `depth.stepN` are always whole. `depth.size_N.high_freq` starts with a snapshot, and its `version` grows
  by one.
- Trades of one frame come newest first.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from coinstream.feeds.exchanges.htx import instruments as names
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
    parsed,
    percent,
    side_of,
    signed,
)
from coinstream.feeds.exchanges.values import inflated
from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import ACKNOWLEDGED, HEARTBEAT, STATUS, Frame, Parsed, rejected

_PERIODS: Final = {
    **{"1min": "1m", "5min": "5m", "15min": "15m", "30min": "30m", "60min": "1h", "4hour": "4h"},
    **{"1day": "1d", "1week": "1w", "1mon": "1M", "1year": "12M"},
}
_PLAIN: Final = frozenset({"step0", "step6"})
"""Steps of depth whose prices are not merged; a merged book has no true best price."""
_UNREAD: Final = frozenset({"estimated_rate", "premium_index", "option_market_index", "iv", "batchmerge"})


class HtxParser(ExchangeParser):
    """Read all markets: their names do not overlap."""

    def read(self, frame: Frame) -> Parsed:
        """Decompress a frame and read it."""
        payload = inflated(frame.payload)
        return super().read(frame if payload is frame.payload else frame._replace(payload=payload))

    def on_json(self, value: Any, frame: Frame, received: datetime) -> Parsed:
        """Route a frame by its channel."""
        if "ping" in value or "pong" in value or value.get("op") in ("ping", "pong"):
            return HEARTBEAT
        if value.get("status") == "error" or value.get("err-code"):
            return rejected(Reason.REFUSED, str(value.get("err-msg", value)))
        if value.get("op") == "notify":
            return self._notice(value, received)
        if "rep" in value and isinstance(value.get("data"), dict):
            value = {**value, "ch": value["rep"], "tick": {**value["data"], "event": "snapshot"}}
        if "ch" not in value:
            known = "subbed" in value or "status" in value or "op" in value or "rep" in value
            reply = ACKNOWLEDGED if frame.url is None else STATUS
            return reply if known else rejected(Reason.UNKNOWN, "neither channel nor reply")
        _, name, kind, *detail = value["ch"].split(".")
        if kind in _UNREAD or (kind == "depth" and detail[0] not in _PLAIN and "size_" not in detail[0]):
            return rejected(Reason.OTHER_CHANNEL)
        at = moment(value["ts"]) if value.get("ts") else received
        instrument = self.named(name, at)
        if kind == "open_interest":
            return each(value["data"], lambda row: self._interest(row, at, received))
        tick = value["tick"]
        if kind == "trade":
            rows = ascending(tick["data"], lambda row: (row["ts"], _order(row)))
            return each(rows, lambda row: self._trade(instrument, row, received))
        if kind == "bbo":
            return parsed(self._best(instrument, tick, at, received))
        if kind in ("depth", "mbp"):
            channel = ".".join((kind, *detail))
            return parsed(self._book(channel, instrument, tick, at, received))
        if kind in ("detail", "ticker"):
            return parsed(self._ticker(instrument, tick, at, received))
        if kind == "kline":
            return parsed(self._candle(instrument, detail[0], tick, received))
        if kind in ("mark_price", "index", "basis"):
            return parsed(self._price_of(kind, instrument, tick, at, received))
        return rejected(Reason.UNKNOWN, f"channel {value['ch']!r}")

    def named(self, name: str, at: datetime) -> Instrument:
        """Return the instrument that a frame of some time names.

        Raises:
            UnknownSymbolError: the list does not contain it, and the name is ambiguous.
        """
        found = names.contract(name, at, self.instruments)
        if found is None:
            raise UnknownSymbolError(f"{name!r} is not in the instrument list of {self.exchange}")
        return found

    def _trade(self, instrument: Instrument, row: Any, received: datetime) -> Found:
        identity = row.get("tradeId") or row.get("id")
        is_number = isinstance(identity, int) and identity < 1 << 63
        yield from self.state.trade(
            instrument,
            number(row["price"]),
            number(row["amount"]),
            moment(row["ts"]),
            received,
            side=side_of(row["direction"]),
            trade_id=None if is_number or identity is None else str(identity),
            sequence=identity if is_number else None,
            consecutive=is_number and "tradeId" in row,
        )

    def _best(self, instrument: Instrument, tick: Any, at: datetime, received: datetime) -> Found:
        if isinstance(tick.get("bid"), list) or isinstance(tick.get("ask"), list):
            (bid, bid_size), (ask, ask_size) = (tick.get("bid") or (0, 0)), (tick.get("ask") or (0, 0))
            at = moment(tick.get("ts") or at.isoformat())
        else:
            bid, bid_size, ask, ask_size = (tick.get(key) for key in ("bid", "bidSize", "ask", "askSize"))
            at = moment(tick["quoteTime"])
        yield self.state.quote(
            instrument, number(bid), number(ask), number(bid_size), number(ask_size), at, received, "bbo"
        )

    def _book(
        self, channel: str, instrument: Instrument, tick: Any, at: datetime, received: datetime
    ) -> Found:
        bids, asks = levels(tick.get("bids") or ()), levels(tick.get("asks") or ())
        at = moment(tick["ts"]) if tick.get("ts") else at
        is_numbered = channel.endswith("high_freq") or (
            channel.startswith("mbp") and "refresh" not in channel
        )
        whole = not is_numbered or tick.get("event") == "snapshot"
        if whole:
            sequence = tick.get("seqNum", tick.get("version")) if is_numbered else None
            number_ = -1 if sequence is None else int(sequence)
            yield from self.state.book_snapshot(
                channel, instrument, bids, asks, at, received, sequence=number_
            )
            return
        last = int(tick["seqNum"] if "seqNum" in tick else tick["version"])
        first = int(tick["prevSeqNum"]) + 1 if "prevSeqNum" in tick else last
        yield from self.state.book_change(
            channel, instrument, bids, asks, at, received, first=first, last=last
        )

    def _ticker(self, instrument: Instrument, tick: Any, at: datetime, received: datetime) -> Found:
        close = number(tick.get("lastPrice") or tick["close"])
        change = percent(close, optional(tick.get("open")))
        yield self.state.ticker(instrument, close, at, received, optional(tick.get("amount")), change)

    def _candle(self, instrument: Instrument, period: str, tick: Any, received: datetime) -> Found:
        prices = number(tick["open"]), number(tick["high"]), number(tick["low"]), number(tick["close"])
        opened, volume = moment(tick["id"]), number(tick["amount"])
        yield self.state.candle(instrument, _PERIODS[period], opened, prices, volume, received)

    # Contract figures

    def _price_of(
        self, kind: str, instrument: Instrument, tick: Any, at: datetime, received: datetime
    ) -> Found:
        if kind == "mark_price":
            yield self.state.derivative(instrument, at, received, mark_price=number(tick["close"]))
        elif kind == "index":
            yield self.state.derivative(instrument, at, received, index_price=number(tick["close"]))
        else:
            index = number(tick["index_price"])
            yield self.state.derivative(instrument, at, received, index_price=index)

    def _interest(self, row: Any, at: datetime, received: datetime) -> Found:
        instrument, interest = self.named(row["contract_code"], at), optional(row.get("amount"))
        yield self.state.derivative(instrument, at, received, open_interest=interest)

    def _notice(self, value: Any, received: datetime) -> Parsed:
        kind = value["topic"].rpartition(".")[2]
        if kind == "liquidation_orders":
            return each(value["data"], lambda row: self._liquidation(row, received))
        if kind == "funding_rate":
            at = moment(value["ts"])
            return each(value["data"], lambda row: self._funding(row, at, received))
        known = kind in ("contract_info", "trade", "heartbeat", "contract_elements")
        return rejected(Reason.OTHER_CHANNEL if known else Reason.UNKNOWN, f"topic {value['topic']!r}")

    def _liquidation(self, row: Any, received: datetime) -> Found:
        at = moment(row["created_at"])
        instrument, side = self.named(row["contract_code"], at), side_of(row["direction"])
        price, contracts = number(row["price"]), number(row["volume"])
        yield self.state.liquidation(instrument, price, contracts, side, at, received)

    def _funding(self, row: Any, at: datetime, received: datetime) -> Found:
        instrument = self.named(row["contract_code"], at)
        due, rate = row.get("settlement_time") or row.get("funding_time"), signed(row.get("funding_rate"))
        figures = {"funding_rate": rate, "next_funding_time": moment(due) if due else None}
        yield self.state.derivative(instrument, at, received, **figures)


def _order(row: Any) -> float:
    identity = row.get("tradeId") or row.get("id") or 0
    return float(identity)
