"""Request and read REST replies: instrument lists, and snapshots as frames for the parser."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import httpx
import msgspec

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.parsing import describe
from coinstream.feeds.instruments import Instrument
from coinstream.feeds.parser import Frame

_json: Final = msgspec.json.Decoder(Any)


def read_instruments(
    exchange: str, url: str, body: bytes, read: Callable[[Any], Iterable[Instrument]]
) -> list[Instrument]:
    """Return the instruments that `read` yields for a JSON reply.

    Raises:
        FeedError: the reply is not JSON, or differs from the exchange's documentation.
    """
    try:
        return list(read(_json.decode(body)))
    except RecursionError:
        raise FeedError(f"{exchange}: the instrument list at {url} is nested too deeply") from None
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        raise FeedError(
            f"{exchange}: the instrument list at {url} is not as documented: {describe(error)}"
        ) from error


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
