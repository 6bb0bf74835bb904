"""Decompress frames, and convert the various forms of numbers, times and levels in them."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

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


def identifier(value: Any) -> str | None:
    """Return an id, which exchanges send as text or as a number; None for null.

    Raises:
        ValueError: neither text nor an integer.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise ValueError(f"{value!r} is not an id")


def side_of(value: Any) -> Literal["buy", "sell"]:
    """Return the side of a text such as `buy`, `Buy` or `BUY`.

    Raises:
        ValueError: the value is not a side.
    """
    match value.lower() if isinstance(value, str) else value:
        case "buy":
            return "buy"
        case "sell":
            return "sell"
    raise ValueError(f"{value!r} is not a side")


def optional_side(value: Any) -> Literal["buy", "sell"] | None:
    """Return the side of a text such as `buy`, `Buy` or `BUY`; None if the value is not a side."""
    try:
        return side_of(value)
    except ValueError:
        return None


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


LARGEST: Final = 16 * 1024 * 1024
"""Maximum bytes of a decompressed frame."""
_GZIP: Final = b"\x1f\x8b"
_TEXT: Final = frozenset(b'{["p \t\r\n')
"""First bytes of JSON, `ping` and `pong`."""


def inflated(payload: bytes) -> bytes:
    """Decompress a frame that may be gzip or raw deflate; return plain text unchanged.

    Raises:
        msgspec.DecodeError: the frame is cut off, damaged, or larger than `LARGEST`.
    """
    if payload[:2] == _GZIP:
        return _decompress(payload, 31)
    if not payload or payload[0] in _TEXT:
        return payload
    return _decompress(payload, -15)


def _decompress(payload: bytes, window: int) -> bytes:
    stream = zlib.decompressobj(window)
    try:
        text = stream.decompress(payload, LARGEST)
    except zlib.error as error:
        raise msgspec.DecodeError(f"neither text nor an intact compressed frame: {error}") from error
    if not stream.eof:
        more = "is larger than 16 MiB" if stream.unconsumed_tail else "is cut off"
        raise msgspec.DecodeError(f"compressed frame {more}")
    return text


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
