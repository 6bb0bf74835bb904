"""Look at the bytes of payloads with NumPy: whether Arrow reads a block of them right as it is."""

from __future__ import annotations

import re
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from coinstream.lake.schemas import SCALE, TIME

Bytes = npt.NDArray[np.uint8]

_TOO_LONG: Final = 38 - SCALE
"""A number with this many consecutive digits may be too large for a column."""
_LONG_RUN: Final = re.compile(rb"[0-9]{%d}" % _TOO_LONG)
_HIGH_HALVES: Final = np.uint64(0xF0F0F0F0F0F0F0F0)
_THREES: Final = np.uint64(0x3030303030303030)
_SIXES: Final = np.uint64(0x0606060606060606)
_FIVE_BYTES: Final = np.uint64(0x000000FFFFFFFFFF)
_WINDOW: Final = 131_072
"""Bytes that are looked at at a time: few enough for a processor's cache."""
_OVERLAP: Final = 32
_TIME_LENGTH: Final = len("2026-01-05T10:00:00.000Z")


def is_plain(values: pa.Array) -> bool:
    """Return whether payloads have no backslash, no exponent, and no number of too many digits."""
    data = _data(values)
    return not any(
        _is_doubtful(data[start : start + _WINDOW + _OVERLAP]) for start in range(0, len(data), _WINDOW)
    )


def count_quotes(values: pa.Array) -> int:
    """Return how many double quotes payloads have."""
    return int(np.count_nonzero(_data(values) == ord('"')))


def common_times(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return texts as times if all are UTC with milliseconds, as the serializer writes them; else None."""
    if texts.null_count or not all(_has_time_form(chunk) for chunk in texts.chunks):
        return None
    try:
        return texts.cast(TIME)
    except pa.ArrowInvalid:
        return None


def _has_time_form(chunk: pa.StringArray) -> bool:
    """Return whether all texts have the length of a time and its letters in place; Arrow checks the rest."""
    starts = _offsets(chunk)
    if not len(chunk) or (np.diff(starts) != _TIME_LENGTH).any():
        return not len(chunk)
    table = _data(chunk).reshape(-1, _TIME_LENGTH)
    letters = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":", 19: ".", 23: "Z"}
    return bool(
        all((table[:, at] == ord(letter)).all() for at, letter in letters.items())
        and ((table[:, 0] == ord("1")) | (table[:, 0] == ord("2"))).all()
    )


def _is_doubtful(data: Bytes) -> bool:
    exponents = ((data[1:] | 0x20) == ord("e")) & (data[:-1] - ord("0") < 10)
    return bool(exponents.any()) or bool((data == ord("\\")).any()) or _has_long_run(data)


def _has_long_run(data: Bytes) -> bool:
    """Return whether the data may have too many digits in a row.

    Such a run covers a whole aligned word of eight bytes and at least five bytes of the next one.
    """
    count = len(data) // 8
    words = data[: count * 8].view(np.dtype("<u8"))
    # The upper half of a digit is 3, also after 6 was added; that of a colon is 3 only before.
    at = np.flatnonzero(words[:-1] & _HIGH_HALVES == _THREES)
    first, second = words[at], words[at + 1] & _FIVE_BYTES
    digits = ((first + _SIXES) & _HIGH_HALVES == _THREES) & (second & _HIGH_HALVES == _THREES & _FIVE_BYTES)
    if digits.any():
        return True
    tail = data[max(count - 4, 0) * 8 :].tobytes()
    return _LONG_RUN.search(tail) is not None


def _data(values: pa.Array) -> Bytes:
    buffer = values.buffers()[2]
    starts = _offsets(values)
    return np.frombuffer(buffer if buffer is not None else b"", np.uint8)[starts[0] : starts[-1]]


def _offsets(values: pa.Array) -> npt.NDArray[np.int32]:
    return np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
