"""An exchange of its own: Bitvavo, live over its websocket and from recordings.

Facts from the exchange's API documentation ("Ticker 24h", "Markets", "Time"): the channel `ticker24h` sends a
list; of each market it tells best bid and ask with their sizes, the last price and the time in milliseconds.
"""

from collections.abc import Iterator, Sequence

import httpx
import msgspec

from coinstream.feeds.feed_stats import Reason
from coinstream.feeds.live.dialects import register_dialect
from coinstream.feeds.parsers import Frame, Gap, Parsed, register_parser
from coinstream.feeds.parsers.base import (
    ACKNOWLEDGED,
    Number,
    fault,
    from_ms,
    from_ns,
    read,
    rejected,
    trade_price,
)
from coinstream.messages import Level1, Message


class _Ticker(msgspec.Struct, rename="camel"):
    market: str
    bid: Number
    bid_size: Number
    ask: Number
    ask_size: Number
    last: Number
    timestamp: int


class _Frame(msgspec.Struct):
    event: str = ""
    data: list[_Ticker] = []


_decoder = msgspec.json.Decoder(_Frame, strict=False)


class BitvavoParser:
    """Frames of `ticker24h` to Level1 and, where the price is in dollars, Price."""

    exchange = "bitvavo"

    def parse(self, frame: Frame) -> Parsed:
        """See `Parser.parse`."""
        try:
            body = read(_decoder, frame.payload)
        except msgspec.DecodeError as error:
            return fault(error)
        if body.event == "subscribed":
            return ACKNOWLEDGED
        if body.event != "ticker24h":
            return rejected(Reason.UNKNOWN, f"event {body.event!r}")
        made = [item for ticker in body.data for item in self._items(ticker, frame)]
        messages = [item for item in made if isinstance(item, Message)]
        return Parsed(messages, tuple(item for item in made if isinstance(item, Reason)))

    def _items(self, told: _Ticker, frame: Frame) -> Iterator[Message | Reason]:
        symbol, at = told.market.replace("-", "/"), from_ms(told.timestamp)
        received = from_ns(frame.received_ns)
        if told.bid and told.ask:
            yield Level1(
                self.exchange, symbol, told.bid, told.ask, told.bid_size, told.ask_size, at, received
            )
        else:
            yield Reason.ONE_SIDED
        yield trade_price(self.exchange, symbol, told.last, at)


class BitvavoDialect:
    """What `source: direct` must know: where to connect, how to subscribe, what to ask over REST."""

    exchange = "bitvavo"

    def __init__(self, types: Sequence[str], ws: str | None = None, rest: str | None = None) -> None:
        self.ws_url = ws or "wss://ws.bitvavo.com/v2"
        self._rest = rest or "https://api.bitvavo.com/v2"

    def parser(self) -> BitvavoParser:
        """See `Dialect.parser`."""
        return BitvavoParser()

    def subscribe(self, symbols: Sequence[str]) -> Iterator[bytes]:
        """See `Dialect.subscribe`."""
        yield self._request("subscribe", symbols)

    def unsubscribe(self, symbols: Sequence[str]) -> Iterator[bytes]:
        """See `Dialect.unsubscribe`."""
        yield self._request("unsubscribe", symbols)

    def _request(self, action: str, symbols: Sequence[str]) -> bytes:
        channel = {"name": "ticker24h", "markets": [symbol.replace("/", "-") for symbol in symbols]}
        return msgspec.json.encode({"action": action, "channels": [channel]})

    async def recover(self, http: httpx.AsyncClient, gap: Gap) -> list[Message]:
        """See `Dialect.recover`: tickers are not numbered, each one replaces the one before."""
        return []

    async def is_listed(self, http: httpx.AsyncClient, symbol: str) -> bool:
        """See `Dialect.is_listed`."""
        reply = await http.get(f"{self._rest}/markets", params={"market": symbol.replace("/", "-")})
        return bool(reply.is_success and reply.json().get("status") == "trading")

    async def clock_ms(self, http: httpx.AsyncClient) -> float:
        """See `Dialect.clock_ms`."""
        return float((await http.get(f"{self._rest}/time")).raise_for_status().json()["time"])


register_parser("bitvavo", BitvavoParser, "bitvavo.com")
register_dialect("bitvavo", BitvavoDialect)
