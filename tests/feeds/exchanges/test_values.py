"""Reading numbers, times and levels: many at once give what one by one gives."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.feeds.exchanges.values import identifier, levels, moment, number

PLAIN = st.decimals(min_value=0, max_value=10**12, places=10).map(lambda value: f"{value:f}")
NUMBERS = st.one_of(
    PLAIN,
    st.floats(min_value=0, max_value=1e29),
    st.integers(min_value=0, max_value=10**25),
    st.floats(min_value=0, max_value=1e29).map(repr),
    st.sampled_from(["", None, " 1.5 ", "1_0", "+2", ".5", "5.", "-0", "1e-400", "00.25"]),
)
BAD = st.sampled_from(["nan", "inf", "-1", "1e400", "1e30", "x", True, False, -0.5, float("nan"), 10**40])


def expected(value: Any) -> float:
    return 0.0 if value in ("", None) else float(value)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=40), st.integers(min_value=0, max_value=2))
def test_levels_have_the_price_and_size_of_each_row(rows: list[tuple[Any, Any]], further: int) -> None:
    found = levels([[price, size, *["0"] * further] for price, size in rows])
    assert found == [(expected(price), expected(size)) for price, size in rows]


@given(st.lists(st.tuples(PLAIN, PLAIN), min_size=8, max_size=40))
def test_levels_written_as_objects_or_pairs_or_with_more_columns_are_the_same(
    rows: list[tuple[str, str]],
) -> None:
    pairs = levels([[price, size] for price, size in rows])
    assert pairs == levels([{"price": price, "size": size} for price, size in rows])
    assert pairs == levels([[price, size, "0", 3] for price, size in rows])
    assert pairs == levels(iter(rows))


@pytest.mark.parametrize("count", [1, 7, 8, 30])
@given(bad=BAD, data=st.data())
def test_a_bad_value_among_levels_is_refused(count: int, bad: Any, data: st.DataObject) -> None:
    rows: list[list[Any]] = [["1.5", "2"] for _ in range(count)]
    at = data.draw(st.tuples(st.integers(0, count - 1), st.integers(0, 1)))
    rows[at[0]][at[1]] = bad
    with pytest.raises(ValueError):
        levels(rows)
    with pytest.raises(ValueError):
        number(bad)


@pytest.mark.parametrize("row", [[], ["1"], 5, None])
def test_a_row_that_is_no_level_is_refused(row: Any) -> None:
    with pytest.raises((TypeError, IndexError)):
        levels([["1", "2"]] * 9 + [row])


@given(st.datetimes(min_value=datetime(2009, 1, 3), max_value=datetime(2100, 1, 1)), st.booleans())
def test_a_time_in_milliseconds_is_read_as_number_and_text(at: datetime, as_text: bool) -> None:
    at = at.replace(tzinfo=UTC)
    milliseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    found = moment(str(milliseconds) if as_text else milliseconds)
    assert abs(found - at) <= timedelta(milliseconds=1)
    assert found == moment(float(milliseconds))


@pytest.mark.parametrize(("told", "found"), [("a7", "a7"), (7, "7"), ("", ""), (None, None)])
def test_an_id_is_text_or_an_integer(told: Any, found: str | None) -> None:
    assert identifier(told) == found


@pytest.mark.parametrize("told", [True, 7.5, [7], {"id": 7}])
def test_another_value_is_no_id(told: Any) -> None:
    with pytest.raises(ValueError, match="is not an id"):
        identifier(told)
