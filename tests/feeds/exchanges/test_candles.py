"""Candles close at the end of their interval; months are calendar months."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from coinstream.feeds.exchanges.values import closing_time


@pytest.mark.parametrize(
    ("opened", "timeframe", "closes"),
    [
        (datetime(2024, 1, 1, tzinfo=UTC), "1M", datetime(2024, 2, 1, tzinfo=UTC)),
        (datetime(2024, 2, 1, tzinfo=UTC), "1M", datetime(2024, 3, 1, tzinfo=UTC)),
        (datetime(2024, 11, 1, tzinfo=UTC), "3M", datetime(2025, 2, 1, tzinfo=UTC)),
        (datetime(2024, 12, 1, tzinfo=UTC), "1M", datetime(2025, 1, 1, tzinfo=UTC)),
        (datetime(2024, 2, 28, tzinfo=UTC), "2d", datetime(2024, 3, 1, tzinfo=UTC)),
    ],
)
def test_closing_time(opened: datetime, timeframe: str, closes: datetime) -> None:
    assert closing_time(opened, timeframe) == closes


def test_shorter_timeframes_are_durations() -> None:
    opened = datetime(2024, 5, 6, tzinfo=UTC)
    lengths = {frame: closing_time(opened, frame) - opened for frame in ("1s", "5m", "4h", "1w")}
    assert lengths == {
        "1s": timedelta(seconds=1),
        "5m": timedelta(minutes=5),
        "4h": timedelta(hours=4),
        "1w": timedelta(weeks=1),
    }


@pytest.mark.parametrize("timeframe", ["", "m", "0m", "1x", "1.5h", "-1d"])
def test_a_bad_timeframe_is_refused(timeframe: str) -> None:
    with pytest.raises(ValueError, match="is not a timeframe"):
        closing_time(datetime(2024, 1, 1, tzinfo=UTC), timeframe)
