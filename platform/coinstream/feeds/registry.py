"""Open feeds by their name in `feeds.yaml`, and list the names of the known exchanges."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from coinstream.errors import FeedError, TopicError
from coinstream.feeds import recordings
from coinstream.feeds.config import FeedsConfig, load, part_of
from coinstream.feeds.feed_specs import (
    CcxtSpec,
    CoingeckoSpec,
    DirectSpec,
    FeedSpec,
    ReplaySpec,
    SimulatedSpec,
)
from coinstream.feeds.feed_stats import Feed
from coinstream.feeds.recordings import exchanges_with_parser
from coinstream.feeds.replay import ReplayFeed
from coinstream.routing import Shard
from coinstream.settings import HomeSettings
from coinstream.text import did_you_mean


def exchange_names() -> frozenset[str]:
    """Return the exchanges of feeds, of parsers, of ccxt, and of `COINSTREAM_EXCHANGE_TOPICS`."""
    feeds = {entry.exchange for entry in entries().values()}
    return frozenset({*feeds, *exchanges_with_parser(), *_ccxt_names(), *HomeSettings().exchange_topics})


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


_VARIABLE: Final = re.compile(r"\$\{(\w+)\}")
LIVE: Final = "live"
"""Value of the environment variable FEEDS that makes a real exchange the default feed."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of one run of a feed.

    Attributes:
        speed: speed of a replay as a multiple of real time; None replays as fast as possible. A simulated
            exchange that starts with its feed multiplies its rate; None leaves the rate unchanged.
        loop: restart a replay at its end.
        rebase: shift a replay's times to now.
        exchange: exchange of a recording whose frames do not identify it.
        shard: run only this shard of the feed's symbols.
    """

    speed: float | None = 1.0
    loop: bool = False
    rebase: bool = True
    exchange: str | None = None
    shard: Shard | None = None


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """A feed that can be run by name."""

    name: str
    exchange: str
    description: str
    open: Callable[[Options], Feed]
    source: str = "replay"
    symbols: tuple[str, ...] = ()
    types: tuple[str, ...] = ()


def sample_path(name: str) -> Path:
    """Return the path of a packaged recording."""
    return Path(str(resources.files("coinstream.feeds") / "data" / name))


def entries(config: FeedsConfig | None = None) -> dict[str, FeedEntry]:
    """Return every feed that can be run by name.

    Raises:
        SettingsError: a `feeds.yaml` is invalid; the message names file and line.
    """
    feeds = (config or load()).feeds
    return {name: _entry(name, spec) for name, spec in feeds.items()}


def default_feed() -> str:
    """Return the default feed: the simulated exchange, or a real one with FEEDS=live.

    Raises:
        SettingsError: as `entries`.
    """
    config = load()
    return config.live if os.environ.get("FEEDS", "").lower() == LIVE else config.default


def shards_of(name: str) -> tuple[str, ...]:
    """Return the feeds of a name in `feeds.yaml`: its shards, or the feed itself.

    Raises:
        SettingsError: as `entries`.
    """
    return load().parts.get(name, (name,))


def open_feed(name: str, options: Options | None = None) -> Feed:
    """Open the feed of a name, or a replay of the recording at a path.

    A folder contains the recordings of one session, for example of a websocket and of REST replies.

    Raises:
        FeedError: neither exists, the recording cannot be read, or the shard has no symbols.
        SettingsError: as `entries`.
    """
    options = options or Options()
    config = load()
    known = entries(config)
    if name in known:
        return known[name].open(options)
    if name in config.parts:
        raise FeedError(f"feed {name} has shards; use one of {', '.join(config.parts[name])}")
    path = Path(name)
    if not path.exists() and not path.suffix and path.parent == Path():
        raise FeedError(
            f"no feed and no recording {name!r}; {did_you_mean(name, known)} "
            "`coinstream feed list` shows the feeds"
        )
    if options.shard is not None:
        raise FeedError(f"{name}: a recording has no list of symbols to distribute to shards")
    return ReplayFeed(
        *recordings.files_of(path),
        speed=options.speed,
        name=path.name.partition(".")[0],
        exchange=options.exchange,
        loop=options.loop,
        rebase=options.rebase,
    )


def _entry(name: str, spec: FeedSpec) -> FeedEntry:
    return FeedEntry(
        name,
        spec.exchange,
        spec.description or _describe(spec),
        lambda options: _open(name, spec, options),
        spec.source,
        getattr(spec, "symbols", ()),
        getattr(spec, "types", ()),
    )


def _describe(spec: FeedSpec) -> str:
    if isinstance(spec, ReplaySpec):
        return f"Recording of {spec.exchange}, replayed" if spec.exchange else "Recording, replayed"
    types, symbols = ", ".join(getattr(spec, "types", ())), getattr(spec, "symbols", ())
    of = f" of {len(symbols)} symbols" if symbols else ""
    return f"Live {types}{of} at {spec.exchange}, {spec.source}"


def _open(name: str, spec: FeedSpec, options: Options) -> Feed:
    if options.shard is not None:
        part = part_of(spec, options.shard)
        if part is None:
            raise FeedError(f"feed {name}: shard {options.shard} gets none of its symbols; run fewer shards")
        return _open(options.shard.name(name), part, replace(options, shard=None))
    match spec:
        case ReplaySpec():
            return ReplayFeed(
                *(sample_path(file) if Path(file).name == file else Path(file) for file in spec.files),
                speed=options.speed,
                name=name,
                exchange=spec.exchange,
                loop=options.loop,
                rebase=options.rebase,
                books=spec.book_limits,
            )
        case SimulatedSpec():
            return _simulated(name, spec, options)
        case DirectSpec():
            from coinstream.feeds.exchanges import adapters
            from coinstream.feeds.live import DirectFeed

            adapter = adapters()[spec.exchange](spec.ws_url, spec.rest_url)
            return DirectFeed(adapter, spec.symbols, name, spec.types, spec.timeouts, books=spec.book_limits)
        case CcxtSpec():
            from coinstream.feeds.live import CcxtFeed

            return CcxtFeed(
                spec.exchange,
                spec.symbols,
                spec.types,
                name=name,
                timeframe=spec.timeframe,
                options=_expanded(name, spec.options),
                timeouts=spec.timeouts,
                books=spec.book_limits,
            )
        case CoingeckoSpec():
            from coinstream.feeds.live import CoingeckoFeed
            from coinstream.feeds.live.coingecko import URL

            return CoingeckoFeed(
                spec.types,
                name=name,
                url=spec.url or URL,
                coins=spec.coins,
                key=_expanded(name, spec.key),
                timeouts=spec.timeouts,
            )


def _simulated(name: str, spec: SimulatedSpec, options: Options) -> Feed:
    from coinstream.feeds.simulated.feed import SimulatedFeed

    recorded = None
    if spec.recording is not None:
        recorded = open_feed(spec.recording, Options(speed=None, rebase=False))
    return SimulatedFeed(
        name,
        spec.exchange,
        spec.symbols,
        spec.types,
        recorded=recorded,
        rate=spec.rate * (options.speed or 1.0),
        seed=spec.seed,
        url=spec.url,
        timeouts=spec.timeouts,
    )


def _expanded(feed: str, value: Any) -> Any:
    """Replace `${NAME}` by the environment variable at any depth, so that files contain no secrets.

    Raises:
        FeedError: a variable is not set; the message names it.
    """
    if isinstance(value, str):
        missing = [name for name in _VARIABLE.findall(value) if name not in os.environ]
        if missing:
            raise FeedError(f"feed {feed}: {', '.join(missing)} is not set in the environment")
        return _VARIABLE.sub(lambda found: os.environ[found[1]], value)
    if isinstance(value, dict):
        return {key: _expanded(feed, item) for key, item in value.items()}
    return [_expanded(feed, item) for item in value] if isinstance(value, list) else value


DEFAULT: Final = default_feed()
"""The default feed of this process's environment."""
