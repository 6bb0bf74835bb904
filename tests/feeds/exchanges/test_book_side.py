"""A side of a book equals a plain dictionary, sorted by price."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from coinstream.feeds.exchanges.order_book import BookSide

PRICES = st.one_of(st.integers(1, 20).map(float), st.floats(min_value=1e-9, max_value=1e9))
CHANGES = st.lists(st.tuples(PRICES, st.one_of(st.none(), st.text(max_size=2))), max_size=40)


@given(
    descending=st.booleans(),
    first=st.dictionaries(PRICES, st.text(max_size=2), max_size=20),
    changes=CHANGES,
    count=st.integers(0, 25),
    depth=st.integers(0, 25),
)
def test_the_best_levels_are_those_of_a_sorted_dictionary(
    descending: bool,
    first: dict[float, str],
    changes: list[tuple[float, str | None]],
    count: int,
    depth: int,
) -> None:
    side, model = BookSide[str](descending=descending), dict(first)
    side.replace(first)
    for price, value in changes:
        side.update([(price, "none" if value is None else value)], "none")
        if value is None:
            model.pop(price, None)
        else:
            model[price] = value
        best = (max if descending else min)(model, default=0.0)
        assert side.top("none") == (best, model.get(best, "none"))
    ordered = sorted(model.items(), key=lambda level: level[0], reverse=descending)
    assert side.best(count) == ordered[:count]
    side.cut(depth)
    assert len(side) == min(depth, len(model))
    assert side.best(len(model)) == ordered[:depth]
