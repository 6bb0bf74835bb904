"""Compute the close times of candles from their timeframes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def closing_time(opened: datetime, timeframe: str) -> datetime:
    """Return the close time of a candle; `1M` is a calendar month.

    Args:
        timeframe: a count and a unit: `s`, `m`, `h`, `d`, `w`, or `M` for months.

    Raises:
        ValueError: the timeframe is not of this form.
    """
    count, unit = timeframe[:-1], timeframe[-1:]
    if not count.isdigit() or int(count) < 1:
        raise ValueError(f"{timeframe!r} is not a timeframe such as 1m, 1h, 1d, 1w or 1M")
    if unit == "M":
        months = opened.month - 1 + int(count)
        return opened.replace(year=opened.year + months // 12, month=months % 12 + 1)
    if unit not in _SECONDS:
        raise ValueError(f"{timeframe!r} is not a timeframe such as 1m, 1h, 1d, 1w or 1M")
    return opened + timedelta(seconds=int(count) * _SECONDS[unit])
