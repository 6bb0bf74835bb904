"""How often and how deep books are published."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from coinstream.feeds.exchanges.book_state import BookLimits
from coinstream.feeds.exchanges.market_state import MarketState
from coinstream.feeds.instruments import spot
from coinstream.feeds.replay import ReplayFeed
from coinstream.messages import Book
from tests.feeds.running import Running

START = datetime(2026, 1, 1, tzinfo=UTC)
BTC = spot("BTCUSD", "BTC", "USD")
RECORDING = Path(__file__).parents[2] / "data" / "recordings" / "hitbtc.gz"


def books(limits: BookLimits | None, changes: int, every_ms: int) -> list[Book]:
    """Return the books of a snapshot and of changes in equal intervals."""
    state = MarketState("x", frozenset({"book"}))
    if limits is not None:
        state.limit_books(limits)
    bids = [(100.0 - level, 1.0) for level in range(40)]
    asks = [(101.0 + level, 1.0) for level in range(40)]
    found = list(state.book_snapshot("book", BTC, bids, asks, START, START))
    for number in range(1, changes + 1):
        at = START + timedelta(milliseconds=number * every_ms)
        found += state.book_change("book", BTC, [(100.0, float(number + 1))], [], at, at)
    return [item for item in found if isinstance(item, Book)]


def test_by_default_a_book_of_20_levels_at_most_every_100_ms() -> None:
    found = books(None, changes=100, every_ms=10)
    assert len(found) == 11
    gaps = [after.last_updated - before.last_updated for before, after in pairwise(found)]
    assert min(gaps) == timedelta(milliseconds=100)
    assert {(book.depth, len(book.bids), len(book.asks)) for book in found} == {(20, 20, 20)}


@pytest.mark.parametrize(("interval_ms", "count"), [(0.0, 101), (250.0, 5), (10_000.0, 1)])
def test_the_interval_is_a_setting(interval_ms: float, count: int) -> None:
    assert len(books(BookLimits(interval_ms), changes=100, every_ms=10)) == count


def test_the_depth_is_a_setting() -> None:
    (book,) = books(BookLimits(10_000.0, 3), changes=5, every_ms=10)
    assert (book.depth, book.bids, book.asks) == (
        3,
        [(100.0, 1.0), (99.0, 1.0), (98.0, 1.0)],
        [(101.0, 1.0), (102.0, 1.0), (103.0, 1.0)],
    )


def test_a_replay_takes_the_limits_too() -> None:
    def published(limits: BookLimits) -> list[Book]:
        feed = ReplayFeed(RECORDING, rebase=False, books=limits)
        return [message for message in _all(feed) if isinstance(message, Book)]

    every, some = published(BookLimits(0.0, 2)), published(BookLimits(60_000.0, 2))
    assert len(every) > len(some) > 0
    assert max(len(book.bids) for book in every) == 2


def _all(feed: ReplayFeed) -> list[object]:
    running = Running(feed)
    running._read()
    return list(running.messages)
