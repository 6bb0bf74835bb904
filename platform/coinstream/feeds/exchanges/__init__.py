"""Implement exchange protocols, one adapter module or package per exchange.

`adapters` imports every module of this package, so that a new exchange needs no entry elsewhere.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from coinstream.feeds.exchanges.base import ADAPTERS, ExchangeAdapter


@cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(__path__):
        importlib.import_module(f"{__name__}.{module.name}")


def adapters() -> Mapping[str, type[ExchangeAdapter]]:
    """Return every adapter by exchange id, including those registered by plugins."""
    _import_all()
    return ADAPTERS


def exchange_at(url: str) -> str | None:
    """Return the exchange of a URL by the longest matching entry of `hosts`, or None."""
    found = [
        (len(end), exchange)
        for exchange, adapter in adapters().items()
        for end in adapter.hosts
        if host_matches(url, end)
    ]
    return max(found)[1] if found else None


def host_matches(url: str, end: str) -> bool:
    """Return whether a URL matches an entry of `hosts`."""
    rest = url.partition("://")[2]
    authority, _, path = rest.partition("/")
    host = authority.partition(":")[0]
    wanted_host, _, wanted_path = end.partition("/")
    if host != wanted_host and not host.endswith("." + wanted_host):
        return False
    return path.startswith(wanted_path)
