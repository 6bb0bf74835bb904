"""Feeds by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from coinstream.errors import FeedError
from coinstream.feeds.base import Feed
from coinstream.feeds.replay import ReplayFeed

DEFAULT: Final = "binance"


@dataclass(frozen=True, slots=True)
class Options:
    """What a run may ask of a feed.

    Attributes:
        speed: of a replay: 1 as it happened, N times faster, None as fast as possible.
        loop: a replay starts over at its end.
        rebase: a replay's times are moved to now.
        exchange: whose frames a recording holds, where it does not tell.
    """

    speed: float | None = 1.0
    loop: bool = False
    rebase: bool = True
    exchange: str | None = None


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """A feed that can be run by name."""

    name: str
    exchange: str
    description: str
    open: Callable[[Options], Feed]


def sample_path(name: str) -> Path:
    """Where a packaged recording lies."""
    return Path(str(resources.files("coinstream.feeds") / "data" / name))


def _sample(*files: str, name: str, exchange: str) -> Callable[[Options], Feed]:
    def build(options: Options) -> Feed:
        return ReplayFeed(
            *map(sample_path, files),
            speed=options.speed,
            name=name,
            exchange=exchange,
            loop=options.loop,
            rebase=options.rebase,
        )

    return build


def entries() -> dict[str, FeedEntry]:
    """Every feed that can be run by name."""
    known = [
        FeedEntry(
            "binance",
            "binance",
            "Recorded quotes and trades of BTC/USDT and ETH/USDT at Binance, 2024-08-08",
            _sample("binance-spot.gz", "binance-klines.gz", name="binance", exchange="binance"),
        ),
    ]
    return {entry.name: entry for entry in known}


def open_feed(name: str, options: Options | None = None) -> Feed:
    """The feed of that name, or a replay of the recording at that path.

    Raises:
        FeedError: there is neither; or the recording cannot be read.
    """
    options = options or Options()
    entry = entries().get(name)
    if entry is not None:
        return entry.open(options)
    path = Path(name)
    if not path.is_file():
        raise FeedError(f"no feed and no recording {name!r}; feeds: {', '.join(sorted(entries()))}")
    return ReplayFeed(
        path,
        speed=options.speed,
        exchange=options.exchange,
        loop=options.loop,
        rebase=options.rebase,
    )
