"""Convert the various forms of numbers, times and levels in frames."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from coinstream.feeds.parser import Number, from_ms

_LARGEST: Final = 1e30
_MANY: Final = 8
"""Minimum number of levels for which bulk conversion is faster."""
_LEAST_MS: Final = 10**11
"""Minimum value of a time in milliseconds; smaller ones are in seconds."""
_LEAST_US: Final = 10**14
"""Minimum value of a time in microseconds; smaller ones are in milliseconds."""


class _Row(msgspec.Struct, array_like=True, gc=False):
    price: Number
    size: Number


def number(value: Any) -> float:
    """Return a price or size; empty text and null are zero.

    Raises:
        ValueError: not a number, negative, or implausibly large.
    """
    if value is True or value is False:
        raise ValueError(f"{value!r} is not a price or size")
    found = 0.0 if value is None or value == "" else float(value)
    if not 0 <= found < _LARGEST:  # neither is NaN
        raise ValueError(f"{value!r} is not a price or size")
    return found


def optional(value: Any) -> float | None:
    """Return a price or size, or None for empty text and null.

    Raises:
        ValueError: see `number`.
    """
    return None if value in ("", None) else number(value)


def signed(value: Any) -> float | None:
    """Return a number of either sign (a funding rate, a change), or None if it is not a number."""
    if value in ("", None) or isinstance(value, bool):
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        return None
    return found if math.isfinite(found) else None


def levels(rows: Iterable[Any]) -> list[tuple[float, float]]:
    """Return price and size of levels such as `[price, size, ...]` or `{"price": ..., "size": ...}`.

    Raises:
        ValueError: see `number`.
    """
    if isinstance(rows, list) and len(rows) >= _MANY and isinstance(rows[0], list):
        try:
            return _converted(rows)
        except msgspec.ValidationError:
            pass  # Text that only `number` reads, or a bad value, which it names.
    return [
        (number(row["price"]), number(row["size"]))
        if isinstance(row, dict)
        else (number(row[0]), number(row[1]))
        for row in rows
    ]


def _converted(rows: list[Any]) -> list[tuple[float, float]]:
    """Return what `levels` does, in compiled code.

    Raises:
        msgspec.ValidationError: a row is not an array that begins with two plain numbers.
    """
    if len(rows[0]) == len(("price", "size")):
        return msgspec.convert(rows, list[tuple[Number, Number]], strict=False)
    return [(row.price, row.size) for row in msgspec.convert(rows, list[_Row], strict=False)]


def moment(value: Any) -> datetime:
    """Parse a time in ISO form, or a Unix time in s, ms, us or ns, chosen by its magnitude.

    Raises:
        ValueError: the value is not a time.
    """
    if type(value) is int and _LEAST_MS <= value < _LEAST_US:  # as most exchanges write it
        return from_ms(value)
    if isinstance(value, bool) or value is None:
        raise ValueError(f"{value!r} is not a time")
    if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
        return _iso(value)
    since = float(value)
    if not since > 0:
        raise ValueError(f"{value!r} is not a time")
    for limit, to_ms in ((_LEAST_MS, 1000.0), (_LEAST_US, 1.0), (1e17, 1e-3)):
        if since < limit:
            return from_ms(since * to_ms)
    return from_ms(since / 1e6)


def _iso(text: str) -> datetime:
    try:
        found = msgspec.convert(text, datetime)
    except msgspec.ValidationError as error:
        raise ValueError(f"{text!r} is not a time") from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def percent(now: float | None, before: float | None) -> float | None:
    """Return the change in per cent since `before`, or None if a value is missing or zero."""
    return (now - before) / before * 100 if now and before else None
