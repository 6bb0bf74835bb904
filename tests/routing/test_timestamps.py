"""Test that the timestamp of a record is that of its message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.messages import Price
from coinstream.routing import record_time_ms


@given(
    st.datetimes(
        min_value=datetime(1960, 1, 1),
        max_value=datetime(2100, 1, 1),
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))]),
    )
)
def test_a_record_has_the_millisecond_in_which_its_message_was_updated(at: datetime) -> None:
    microseconds = (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert record_time_ms(Price("binance", "BTC/USDT", 1.0, last_updated=at)) == microseconds // 1000


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(TypeError):
        record_time_ms(Price("binance", "BTC/USDT", 1.0, last_updated=datetime(2026, 1, 1)))
