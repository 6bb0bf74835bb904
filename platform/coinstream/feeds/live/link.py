"""Hold the state that all connections of a live feed share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import httpx
import msgspec

from coinstream.errors import FeedError
from coinstream.feeds.exchanges.base import Connection, ExchangeAdapter
from coinstream.feeds.feed_stats import FeedStats
from coinstream.feeds.live.base import Inbox, Timeouts

REST_ERRORS: Final = (httpx.HTTPError, msgspec.DecodeError, FeedError, KeyError, TypeError, ValueError)
"""Errors of REST requests that failed or returned an unexpected body."""


@dataclass(frozen=True)
class Link:
    """State shared by the connections of a feed.

    Attributes:
        plan: returns the connections to open. It is called for each attempt, since a URL may contain a
            token that expires.
        is_listed: requests whether the exchange still lists a symbol.
    """

    name: str
    adapter: ExchangeAdapter
    plan: Callable[[], list[Connection]]
    types: frozenset[str]
    timeouts: Timeouts
    stats: FeedStats
    http: httpx.AsyncClient
    inbox: Inbox
    is_listed: Callable[[str], asyncio.Future[bool]]
