"""Decode blocks of payloads of the serializer's own form: the same fields in each payload, without spaces.

Values are cut out at the double quotes and converted by Arrow's casts, which costs a third of reading JSON.
Every byte outside of values is compared with the form of the first payload. A block that differs, or that
contains a value that is not certain, is left to the other decoders. `is_plain` finds which blocks of another
form Arrow's JSON reader reads exactly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from coinstream.lake.schemas import NUMBER, SCALE, TIME, TableSpec

Bytes = npt.NDArray[np.uint8]
Positions = npt.NDArray[np.int64]

_QUOTE: Final = ord('"')
_WORD: Final = 8
_LONGEST_NUMBER: Final = 20
"""Longer texts may have more digits than a column holds."""
_LONGEST_INTEGER: Final = 18
_SMALL_NUMBER: Final = r"^[1-9](?:\.[0-9]{1,9})?e-[1-9]$"
"""Prices such as 1.5e-8, which have at most 18 decimals."""
_TIME_LENGTH: Final = len("2026-01-05T10:00:00.000Z")
_TIME_LETTERS: Final = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":", 19: ".", 23: "Z"}
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


@dataclass(frozen=True)
class _Field:
    """A field of the form: the literal before its value, and the quotes of its name and value."""

    name: str
    literal: bytes
    quote: int
    is_text: bool


class PlainDecoder:
    """Decoder of blocks of payloads of one type that all have one form."""

    def __init__(self, spec: TableSpec) -> None:
        self._columns = {column.wire: column for column in spec.columns}

    def decode(self, values: pa.Array) -> dict[str, pa.Array] | None:
        """Return the columns by name, times as texts; None if the block is not certainly of one form.

        Args:
            values: payloads without nulls.
        """
        data, starts = _bytes_of(values)
        if not len(values) or not _is_plain_text(data):
            return None
        found = np.flatnonzero(data == _QUOTE)
        per_row, rest = divmod(len(found), len(values))
        if rest or not per_row:
            return None
        # By field, so that the numbers that are used together are adjacent in memory.
        quotes = np.ascontiguousarray(found.reshape(len(values), per_row).T)
        form = self._form(data[: starts[1]].tobytes())
        if form is None or not _has_form(data, starts, quotes, form):
            return None
        texts = _cut(data, starts, quotes, form)
        try:
            return {
                field.name: self._converted(field, column) for field, column in zip(form, texts, strict=True)
            }
        except pa.ArrowInvalid:
            return None

    def _form(self, payload: bytes) -> list[_Field] | None:
        """Return the fields of a payload in order; None if it has another kind of value or field."""
        fields, names, quote, separator = list[_Field](), set[str](), 0, b"{"
        parts = payload.split(b'"')
        while quote < len(parts) - 1:
            column = self._columns.get(parts[quote + 1].decode())
            if column is None or column.name in names:
                return None
            names.add(column.name)
            is_text = column.type in (pa.string(), TIME)
            if not is_text and column.type not in (NUMBER, pa.int64()):
                return None
            literal = separator + b'"%s":' % column.wire.encode() + (b'"' if is_text else b"")
            fields.append(_Field(column.name, literal, quote, is_text))
            quote += 4 if is_text else 2
            separator = b","
        return fields if quote == len(parts) - 1 else None

    def _converted(self, field: _Field, texts: pa.Array) -> pa.Array:
        """Return texts as the column's type.

        Raises:
            pa.ArrowInvalid: a text is not certainly a value of the column.
        """
        if field.is_text:
            return texts
        kind = next(column.type for column in self._columns.values() if column.name == field.name)
        longest = _LONGEST_NUMBER if kind == NUMBER else _LONGEST_INTEGER
        if not _are_numbers(texts, longest):
            raise pa.ArrowInvalid("a number has a form that is not certain")
        return texts.cast(kind)


def is_plain(values: pa.Array) -> bool:
    """Return whether payloads have no backslash, no exponent, and no number of too many digits."""
    data, _ = _bytes_of(values)
    return not any(
        _is_doubtful(data[start : start + _WINDOW + _OVERLAP]) for start in range(0, len(data), _WINDOW)
    )


def count_quotes(values: pa.Array) -> int:
    """Return how many double quotes payloads have."""
    return int(np.count_nonzero(_bytes_of(values)[0] == ord('"')))


def common_times(texts: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return texts as times if all are UTC with milliseconds, as the serializer writes them; else None."""
    if texts.null_count or not all(_have_time_form(chunk) for chunk in texts.chunks):
        return None
    try:
        return texts.cast(TIME)
    except pa.ArrowInvalid:
        return None


def _have_time_form(texts: pa.Array) -> bool:
    """Return whether texts have the length and the letters of a UTC time with milliseconds."""
    data, starts = _bytes_of(texts)
    if not len(texts) or (np.diff(starts) != _TIME_LENGTH).any():
        return not len(texts)
    table = data.reshape(-1, _TIME_LENGTH)
    return bool(
        all((table[:, at] == ord(letter)).all() for at, letter in _TIME_LETTERS.items())
        and ((table[:, 0] == ord("1")) | (table[:, 0] == ord("2"))).all()
    )


def _bytes_of(values: pa.Array) -> tuple[Bytes, Positions]:
    """Return the bytes of texts or payloads, and where each begins, and the end of the last."""
    offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
    buffer = values.buffers()[2]
    data = np.frombuffer(buffer if buffer is not None else b"", np.uint8)
    return data[offsets[0] : offsets[-1]], (offsets - offsets[0]).astype(np.int64)


def _is_plain_text(data: Bytes) -> bool:
    """Return whether bytes are ASCII without control characters and backslashes."""
    return (
        len(data) >= _WORD
        and int(data.min()) >= ord(" ")
        and int(data.max()) < 0x7F
        and not (data == ord("\\")).any()
    )


def _has_form(data: Bytes, starts: Positions, quotes: Positions, form: list[_Field]) -> bool:
    """Return whether all bytes outside of values are those of the form, in every payload."""
    words: npt.NDArray[np.uint64] = np.ndarray((len(data) - _WORD + 1,), np.dtype("<u8"), data, strides=(1,))
    if (quotes[0] != starts[:-1] + 1).any() or (quotes[-1] >= starts[1:]).any():
        return False
    for before, field in zip([None, *form], form, strict=False):
        begin = quotes[field.quote] - 1
        if before is not None and before.is_text and (quotes[field.quote - 1] != begin - 1).any():
            return False
        literal = field.literal
        if len(literal) >= _WORD:
            same = ((words[begin + at] == word).all() for at, word in _words_of(literal))
        else:
            same = ((data[begin + at] == letter).all() for at, letter in enumerate(literal))
        if not all(same):
            return False
    if form[-1].is_text and (quotes[-1] != starts[1:] - 2).any():
        return False
    return bool((data[starts[1:] - 1] == ord("}")).all())


def _words_of(literal: bytes) -> Iterator[tuple[int, np.uint64]]:
    """Yield words of eight bytes that cover a literal of at least one word, and where they begin in it."""
    for at in sorted({*range(0, len(literal) - _WORD, _WORD), len(literal) - _WORD}):
        yield at, np.frombuffer(literal[at : at + _WORD], "<u8")[0]


def _cut(data: Bytes, starts: Positions, quotes: Positions, form: list[_Field]) -> list[pa.Array]:
    """Return the text of each field's values."""
    count, width = quotes.shape[1], 2 * len(form)
    bounds = np.empty((width, count), np.int32)
    for at, field in enumerate(form):
        bounds[2 * at] = quotes[field.quote] + (len(field.literal) - 1)
        if field.is_text:
            bounds[2 * at + 1] = quotes[field.quote + 3]
        elif at + 1 < len(form):
            bounds[2 * at + 1] = quotes[form[at + 1].quote] - 1
        else:
            bounds[2 * at + 1] = starts[1:] - 1
    # Values alternate with the text between them.
    pieces = pa.StringArray.from_buffers(
        count * width - 1, pa.py_buffer(bounds.T.reshape(-1)), pa.py_buffer(np.ascontiguousarray(data))
    )
    first = np.arange(0, count * width, width, dtype=np.int32)
    return [pieces.take(pa.array(first + 2 * at)) for at in range(len(form))]


def _are_numbers(texts: pa.Array, longest: int) -> bool:
    """Return whether texts are digits with at most one point between, or small numbers with an exponent.

    A cast to a number refuses a second point and every other character.
    """
    data, starts = _bytes_of(texts)
    if len(data) and int(data.max()) > ord("9"):
        small = pc.match_substring_regex(texts, _SMALL_NUMBER)
        others = texts.filter(pc.invert(small))
        return not pc.any(pc.match_substring_regex(others, "[^0-9.]")).as_py() and (
            not len(others) or _are_numbers(others, longest)
        )
    lengths = np.diff(starts)
    if not len(data) or int(lengths.min()) < 1 or int(lengths.max()) > longest:
        return False
    first, last = data[starts[:-1]], data[starts[1:] - 1]
    if int(first.min()) < ord("0") or int(last.min()) < ord("0"):
        return False
    zeros = np.flatnonzero((first == ord("0")) & (lengths > 1))
    return bool((data[starts[:-1][zeros] + 1] == ord(".")).all())


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
