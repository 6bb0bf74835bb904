"""Request instrument lists, book snapshots, the clock, and the trades of a gap over REST."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, Final

import httpx
import msgspec

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.base import ExchangeAdapter, TradesRequest
from coinstream.feeds.exchanges.parsing import ExchangeParser, describe
from coinstream.feeds.exchanges.trade_state import Missing
from coinstream.feeds.instruments import Instrument, InstrumentList
from coinstream.feeds.parser import Frame, Gap
from coinstream.messages import Message, Trade

_json: Final = msgspec.json.Decoder(Any)
_RECOVERED: Final = frozenset({"trade", "price"})


async def fetch_frame(http: httpx.AsyncClient, url: str, params: dict[str, str] | None = None) -> Frame:
    """Request a REST reply as a frame for the parser.

    Raises:
        httpx.HTTPError: the request failed, or the exchange answered with an error.
    """
    reply = await http.get(url, params=params)
    reply.raise_for_status()
    return Frame(time.time_ns(), reply.content, str(reply.request.url))


def path_after(url: str | None, part: str) -> str:
    """Return the path segment of a URL after `part` (`btcusd` in `/order_book/btcusd/?group=1`)."""
    return (url or "").partition(part)[2].partition("?")[0].partition("/")[0]


async def server_time_ms(http: httpx.AsyncClient, url: str, *path: str | int) -> float:
    """Request the clock of an exchange in Unix milliseconds.

    Args:
        path: keys of the number in the reply.

    Raises:
        httpx.HTTPError: the request failed.
        FeedError: the reply differs from the exchange's documentation.
    """
    reply = (await http.get(url)).raise_for_status()
    try:
        value: Any = _json.decode(reply.content)
        for key in path:
            value = value[key]
        return float(value)
    except (msgspec.DecodeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise FeedError(f"no server time at {url}: {describe(error)}") from error


async def fetch_missing(
    adapter: ExchangeAdapter,
    http: httpx.AsyncClient,
    request: TradesRequest,
    instrument: Instrument,
    gap: Gap,
    known: Callable[[], Collection[str]] = tuple,
) -> list[Message]:
    """Fetch the missing trades of one symbol, oldest first.

    Args:
        adapter: of the exchange.
        http: client for the request.
        request: what `ExchangeAdapter.trades_request` returned.
        instrument: whose trades are missing.
        gap: the numbers or times of the trades.
        known: returns the ids of trades that the stream sent, once the reply is there.

    Raises:
        httpx.HTTPError: the request failed.
        FeedError: the reply is not what the exchange documents.
    """
    reply = (await http.get(request.url, params=request.params)).raise_for_status()
    parser = adapter.parser(InstrumentList([instrument]), _RECOVERED)
    if not isinstance(parser, ExchangeParser):
        return []
    parser.state.accept_only(Missing(gap, frozenset(known())))
    found: list[Message] = []
    try:
        for value in adapter.trade_frames(instrument, _json.decode(reply.content), gap):
            parsed = parser.parse(Frame(time.time_ns(), msgspec.json.encode(value)))
            found += parsed.messages
            if fault := next((reason for reason in parsed.rejected if reason.is_fault), None):
                raise FeedError(f"{fault}: {parsed.detail}")
            for message in parsed.messages:
                if isinstance(message, Trade) and message.symbol != instrument.symbol:
                    raise FeedError(f"the reply is about {message.symbol} instead of {instrument.symbol}")
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, FeedError, RecursionError) as error:
        raise FeedError(
            f"{adapter.exchange}: cannot read the trades at {request.url}: {describe(error)}"
        ) from error
    return found
