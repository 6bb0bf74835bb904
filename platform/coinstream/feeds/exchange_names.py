"""List the names of the known exchanges without importing their clients."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from coinstream.errors import TopicError
from coinstream.feeds.protocols import known_exchanges
from coinstream.feeds.registry import entries
from coinstream.settings import HomeSettings
from coinstream.text import did_you_mean


def exchange_names() -> frozenset[str]:
    """Return the exchanges of feeds, of parsers, of ccxt, and of `COINSTREAM_EXCHANGE_TOPICS`."""
    feeds = {entry.exchange for entry in entries().values()}
    return frozenset({*feeds, *known_exchanges(), *_ccxt_names(), *HomeSettings().exchange_topics})


def require_exchanges(names: list[str]) -> None:
    """Check that all exchange names are known.

    Raises:
        TopicError: a name is unknown; the message suggests similar names.
    """
    known = exchange_names()
    for name in names:
        if name not in known:
            raise TopicError(
                f"unknown exchange {name!r}; {did_you_mean(name, known)} "
                "An exchange of your own: add it to COINSTREAM_EXCHANGE_TOPICS."
            )


def _ccxt_names() -> set[str]:
    """Return the names of ccxt's exchange modules without importing ccxt, which takes seconds."""
    found = find_spec("ccxt")
    folders = [Path(folder) for folder in found.submodule_search_locations or ()] if found else []
    return {path.stem for folder in folders for path in (folder / "async_support").glob("[a-z]*.py")}
