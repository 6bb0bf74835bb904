"""Find the adapter modules, and choose the adapter of a URL."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

import coinstream.feeds.exchanges as package
from coinstream.feeds.exchanges.base import ADAPTERS, ExchangeAdapter, host_matches


@cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")


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
