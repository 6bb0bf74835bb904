"""An exchange of its own: the top of HitBTC's order books.

Facts from the exchange's API documentation (version 3, "Subscribe to top of book"): a frame maps symbols to
`t` (milliseconds), `a` and `A` (best ask and its size), `b` and `B` (best bid and its size), all as text.
"""

import msgspec

from coinstream.feeds.accounting import Reason
from coinstream.feeds.parsers import Frame, Parsed, register_parser
from coinstream.feeds.parsers.base import ACKNOWLEDGED, Number, fault, from_ms, from_ns, read, rejected
from coinstream.feeds.symbols import split_joined
from coinstream.messages import Level1


class _Top(msgspec.Struct):
    t: int
    a: Number
    A: Number
    b: Number
    B: Number


class _Frame(msgspec.Struct):
    ch: str = ""
    data: dict[str, _Top] = {}


_decoder = msgspec.json.Decoder(_Frame, strict=False)


class HitbtcParser:
    """Frames of `orderbook/top` to Level1."""

    exchange = "hitbtc"

    def parse(self, frame: Frame) -> Parsed:
        """See `Parser.parse`."""
        try:
            body = read(_decoder, frame.payload)
        except msgspec.DecodeError as error:
            return fault(error)
        if not body.ch:
            return ACKNOWLEDGED
        if not body.ch.startswith("orderbook/top"):
            return rejected(Reason.UNKNOWN, f"channel {body.ch}")
        made = [self._quote(joined, top, frame) for joined, top in body.data.items()]
        quotes = [quote for quote in made if isinstance(quote, Level1)]
        return Parsed(quotes, tuple(reason for reason in made if isinstance(reason, Reason)))

    def _quote(self, joined: str, top: _Top, frame: Frame) -> Level1 | Reason:
        symbol = split_joined(joined)
        if symbol is None:
            return Reason.UNKNOWN_SYMBOL
        if not (top.a and top.b):
            return Reason.ONE_SIDED
        received = from_ns(frame.received_ns)
        return Level1(self.exchange, symbol, top.b, top.a, top.B, top.A, from_ms(top.t), received)


register_parser("hitbtc", HitbtcParser, "hitbtc.com")
