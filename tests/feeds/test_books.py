"""The order book against a plain model of one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coinstream.feeds import Reason
from coinstream.feeds.parsers import Gap
from coinstream.feeds.parsers.market_state import Book, Change, Level

levels = st.builds(Level, st.integers(1, 30).map(float), st.sampled_from([0.0, 1.0, 2.5]))
sides = st.lists(levels, max_size=6)


def told(bids: dict[float, float], asks: dict[float, float]) -> tuple[float, float, float, float]:
    bid, ask = max(bids, default=0.0), min(asks, default=0.0)
    return bid, ask, bids.get(bid, 0.0), asks.get(ask, 0.0)


def settle(side: dict[float, float], changes: list[Level]) -> None:
    for level in changes:
        if level.size:
            side[level.price] = level.size
        else:
            side.pop(level.price, None)


@given(sides, sides, st.lists(st.tuples(sides, sides), max_size=10))
def test_the_top_is_that_of_all_levels(
    bids: list[Level], asks: list[Level], changes: list[tuple[list[Level], list[Level]]]
) -> None:
    book = Book()
    book.replace(bids, asks)
    model_bids: dict[float, float] = {level.price: level.size for level in bids if level.size}
    model_asks: dict[float, float] = {level.price: level.size for level in asks if level.size}
    for more_bids, more_asks in changes:
        book.apply(more_bids, more_asks)
        settle(model_bids, more_bids)
        settle(model_asks, more_asks)
        assert book.top == told(model_bids, model_asks)


@given(st.integers(0, 9))
def test_changes_before_the_snapshot_are_applied_when_they_go_beyond_it(at: int) -> None:
    book = Book()
    for number in range(10):
        assert book.change(Change(number, number, [Level(1.0 + number, 1.0)], [])) is Reason.BOOK_UNSYNCED
    assert book.replace([Level(0.5, 1.0)], [Level(100.0, 1.0)], at)
    assert book.top[0] == (10.0 if at < 9 else 0.5)
    assert book.number == 9


def test_a_hole_unsyncs_the_book_until_its_snapshot() -> None:
    book = Book()
    book.replace([Level(1.0, 1.0)], [Level(2.0, 1.0)], 5)
    assert book.change(Change(6, 7, [Level(1.1, 1.0)], [])) is None
    assert book.change(Change(7, 7, [], [])) is Reason.DUPLICATE
    assert book.change(Change(3, 4, [], [])) is Reason.OUT_OF_DATE
    assert book.change(Change(10, 11, [Level(1.5, 1.0)], [])) == Gap("", 8, 9)
    assert not book.is_synced
    assert book.change(Change(12, 12, [Level(1.6, 1.0)], [])) is Reason.BOOK_UNSYNCED
    assert book.replace([Level(1.4, 1.0)], [Level(2.0, 1.0)], 10)
    assert book.top == (1.6, 2.0, 1.0, 1.0)


def test_an_older_snapshot_changes_nothing() -> None:
    book = Book()
    book.replace([Level(1.0, 1.0)], [Level(2.0, 1.0)], 5)
    assert not book.replace([Level(0.1, 1.0)], [Level(0.2, 1.0)], 4)
    assert book.top == (1.0, 2.0, 1.0, 1.0)


def test_levels_beyond_the_depth_are_cut() -> None:
    book = Book(depth=2)
    book.replace([Level(3.0, 1.0), Level(2.0, 1.0)], [Level(4.0, 1.0)])
    book.apply([Level(3.5, 1.0)], [])
    book.apply([Level(3.5, 0.0), Level(3.0, 0.0)], [])
    assert book.top == (0.0, 4.0, 0.0, 1.0)
