"""Fetch the trades of a gap over REST and parse them as the stream would have sent them."""

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
from coinstream.messages import Message

_TYPES: Final = frozenset({"trade", "price"})
_json: Final = msgspec.json.Decoder(Any)


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
    parser = adapter.parser(InstrumentList([instrument]), _TYPES)
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
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, FeedError, RecursionError) as error:
        raise FeedError(
            f"{adapter.exchange}: cannot read the trades at {request.url}: {describe(error)}"
        ) from error
    return found
