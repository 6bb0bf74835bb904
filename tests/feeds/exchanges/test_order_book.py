"""An order book equals a plain dictionary of levels, whatever the order of changes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coinstream.feeds.exchanges.order_book import BookChange, BookGap, OrderBook

PRICES = st.integers(1, 30).map(float)
SIZES = st.sampled_from([0.0, 0.5, 1.0, 2.0])
LEVELS = st.lists(st.tuples(PRICES, SIZES), max_size=6)


@given(snapshot=st.tuples(LEVELS, LEVELS), changes=st.lists(st.tuples(LEVELS, LEVELS), max_size=20))
def test_the_best_levels_are_those_of_a_plain_dictionary(
    snapshot: tuple[list[tuple[float, float]], list[tuple[float, float]]],
    changes: list[tuple[list[tuple[float, float]], list[tuple[float, float]]]],
) -> None:
    book = OrderBook()
    book.replace(*snapshot)
    bids, asks = ({price: size for price, size in side if size} for side in snapshot)
    for new_bids, new_asks in changes:
        book.apply(new_bids, new_asks)
        for levels, side in ((new_bids, bids), (new_asks, asks)):
            for price, size in levels:
                side[price] = size
                if not size:
                    del side[price]
        best_bids, best_asks = book.best(3)
        assert best_bids == sorted(bids.items(), reverse=True)[:3]
        assert best_asks == sorted(asks.items())[:3]
        bid, ask = max(bids, default=0.0), min(asks, default=0.0)
        assert book.top == (bid, ask, bids.get(bid, 0.0), asks.get(ask, 0.0))


def test_a_level_beyond_the_depth_never_comes_back() -> None:
    book = OrderBook(depth=2)
    book.replace([(10.0, 1.0), (9.0, 1.0)], [(11.0, 1.0)])
    book.apply([(10.5, 1.0)], [])
    book.apply([(10.5, 0.0), (10.0, 0.0)], [])
    assert book.best(5)[0] == []


@given(st.integers(0, 9))
def test_changes_before_the_snapshot_are_applied_when_they_go_beyond_it(at: int) -> None:
    book = OrderBook()
    for number in range(10):
        assert book.change(BookChange(number, number, [(1.0 + number, 1.0)], [])) is None
    assert book.replace([(0.5, 1.0)], [(100.0, 1.0)], at)
    assert book.top[0] == (10.0 if at < 9 else 0.5)
    assert book.sequence == 9


def test_an_older_snapshot_changes_nothing() -> None:
    book = OrderBook()
    book.replace([(1.0, 1.0)], [(2.0, 1.0)], 5)
    assert not book.replace([(0.1, 1.0)], [(0.2, 1.0)], 4)
    assert book.top == (1.0, 2.0, 1.0, 1.0)


def test_a_hole_in_the_numbers_unsyncs_the_book_until_a_snapshot_covers_it() -> None:
    book = OrderBook()
    assert book.change(BookChange(6, 6, [(1.0, 6.0)], [])) is None
    book.replace([(1.0, 1.0)], [(2.0, 1.0)], 5)
    assert book.top == (1.0, 2.0, 6.0, 1.0)
    assert book.change(BookChange(6, 6, [(1.0, 9.0)], [])) is False
    assert book.change(BookChange(9, 9, [(1.0, 9.0)], [])) == BookGap(7, 8)
    assert not book.is_synced
    assert book.replace([(1.0, 8.0)], [(2.0, 1.0)], 8)
    assert book.top == (1.0, 2.0, 9.0, 1.0)
    assert book.replace([(1.0, 8.0)], [(2.0, 1.0)], 8) is False
