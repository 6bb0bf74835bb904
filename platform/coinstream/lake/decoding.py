"""Decode payloads to columns: blocks of well-formed messages with Arrow, others one by one.

Arrow's JSON reader converts the digits on the wire to decimals. Payloads that it would misread (numbers too
large for the column overflow silently; strings are accepted as numbers) or cannot read are detected first and
decoded by `StrictDecoder`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from coinstream.errors import DecodeError
from coinstream.lake.plain_payloads import PlainDecoder, common_times, count_quotes, is_plain
from coinstream.lake.schemas import EXTRA, LEVELS, NUMBER, SCALE, TIME, FieldColumn, TableSpec
from coinstream.lake.strict_decoder import StrictDecoder
from coinstream.serialization import decompress

_SMALL: Final = 32
"""Minimum block size. An unreadable block is halved down to this size and then decoded one by one."""

_BLOCK_BYTES: Final = 524_288
"""Block size of Arrow's reader threads, small enough for the processor's cache."""

_ONE_LINE: Final = re.compile(r"[!-~]+(?: [!-~]+)?")
_UTC_TIME: Final = r"^[12]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|\+00:00)$"
_NO_FAULTS: Final[Mapping[int, str]] = {}
_FAULT: Final = pa.field("fault", pa.string())


@dataclass(frozen=True)
class DecodedBlock:
    """Decoded payloads, one row per payload in order.

    Attributes:
        rows: message columns and `extra`; null if a field is missing or unreadable.
        fault: error of an unreadable payload, else null.
        utc_times: whether every present time is ISO-8601 in UTC.
        payloads: original bytes.
    """

    rows: pa.Table
    fault: pa.ChunkedArray
    utc_times: pa.ChunkedArray
    payloads: pa.Array


class BlockDecoder:
    """Decoder of payloads of one type."""

    def __init__(self, spec: TableSpec) -> None:
        self._spec = spec
        self._strict = StrictDecoder(spec)
        self._plain = PlainDecoder(spec)
        # Times are read as texts: Arrow would take local times for UTC.
        types = {c.name: pa.string() if c.type == TIME else c.type for c in spec.columns}
        wire = pa.schema([pa.field(c.wire, types[c.name]) for c in spec.columns])
        self._raw = pa.schema([*(pa.field(name, kind) for name, kind in types.items()), EXTRA, _FAULT])
        self._parse_options = pj.ParseOptions(explicit_schema=wire, unexpected_field_behavior="error")
        self._odd = _odd_pattern(spec)

    def decode(
        self, payloads: pa.Array, compressed: Sequence[int] = (), faults: Mapping[int, str] = _NO_FAULTS
    ) -> DecodedBlock:
        """Return the payloads as columns.

        Args:
            payloads: original bytes.
            compressed: mask of payloads whose headers mark them as lz4 frames.
            faults: errors of records, which make their payloads unreadable, by index.
        """
        values, faults = _opened(payloads, compressed, faults)
        plain = None if faults else self._plain_block(values)
        parts = [plain] if plain is not None else list(self._parts(values, self._odd_ones(values), faults))
        return self._typed(pa.concat_tables(parts) if parts else self._raw.empty_table(), payloads)

    def _plain_block(self, values: pa.Array) -> pa.Table | None:
        """Return a block of payloads of one form, or that Arrow reads exactly; None where not certain."""
        if values.null_count or not len(values):
            return None
        columns = self._plain.decode(values)
        if columns is not None:
            return self._of_one_form(columns, len(values))
        if not is_plain(values) or not pc.all(_framed(values)).as_py():
            return None
        try:
            table = self._read(values)
        except pa.ArrowInvalid:
            return None
        # Each value that was read has a quoted name, and each text is quoted. Without backslashes there are
        # more quotes exactly where a number is a text, or a field is null or there twice.
        quoted = [*self._spec.columns, *(column for column in self._spec.columns if self._is_text(column))]
        read = sum(len(values) - table[column.name].null_count for column in quoted)
        return table if count_quotes(values) == 2 * read else None

    def _of_one_form(self, columns: Mapping[str, pa.Array], count: int) -> pa.Table:
        return pa.Table.from_arrays(
            [columns.get(field.name, pa.nulls(count, field.type)) for field in self._raw], schema=self._raw
        )

    def _is_text(self, column: FieldColumn) -> bool:
        return bool(self._raw.field(column.name).type == pa.string())

    def _parts(self, values: pa.Array, odd: Sequence[int], faults: Mapping[int, str]) -> Iterator[pa.Table]:
        start = 0
        for at in odd:
            if at > start:
                yield from self._block(values[start:at])
            yield self._one(values[at].as_py(), faults.get(at))
            start = at + 1
        if start < len(values):
            yield from self._block(values[start:])

    def _odd_ones(self, column: pa.Array) -> list[int]:
        plain = pc.and_not(_framed(column), pc.match_substring_regex(column, self._odd))
        if pc.all(plain, skip_nulls=False).as_py():
            return []
        found: list[int] = pc.indices_nonzero(pc.invert(pc.fill_null(plain, False))).to_pylist()
        return found

    def _block(self, values: pa.Array) -> Iterator[pa.Table]:
        try:
            yield self._read(values)
        except pa.ArrowInvalid:
            if len(values) <= _SMALL:
                yield from (self._one(value, None) for value in values.to_pylist())
                return
            half = len(values) // 2
            yield from self._block(values[:half])
            yield from self._block(values[half:])

    def _read(self, values: pa.Array) -> pa.Table:
        values.cast(pa.string())  # fails where bytes are no text, which the reader would take for some
        lines = pa.ListArray.from_arrays(pa.array([0, len(values)], pa.int32()), values)
        text = pc.binary_join(lines, b"\n")[0].as_buffer()
        # Blocks end at line ends. Where that is inside of a value, its halves are no JSON, and all fail.
        options = pj.ReadOptions(block_size=_BLOCK_BYTES)
        table = pj.read_json(pa.BufferReader(text), read_options=options, parse_options=self._parse_options)
        # Each value begins and ends an object, so as many rows as values means one row each.
        if table.num_rows != len(values):
            raise pa.ArrowInvalid("a payload holds more than one object")
        if not all(_has_levels(table[c.wire]) for c in self._spec.columns if c.type == LEVELS):
            raise pa.ArrowInvalid("a level is not a price and a size")
        count = len(values)
        columns = [table[column.wire] for column in self._spec.columns]
        columns += [pa.nulls(count, pa.string()), pa.nulls(count, pa.string())]
        return pa.Table.from_arrays(columns, schema=self._raw)

    def _one(self, value: bytes | None, fault: str | None) -> pa.Table:
        row = self._strict.read(value) if fault is None else {_FAULT.name: fault}
        return pa.Table.from_pylist([row], schema=self._raw)

    def _typed(self, raw: pa.Table, payloads: pa.Array) -> DecodedBlock:
        raw = raw.combine_chunks()
        columns, good = [], None
        for column in self._spec.columns:
            values = raw[column.name]
            if column.type == TIME:
                values, fine = _times(values)
                good = fine if good is None else pc.and_(good, fine)
            columns.append(values)
        columns.append(raw[EXTRA.name])
        schema = pa.schema([*(pa.field(c.name, c.type) for c in self._spec.columns), EXTRA])
        if good is None:
            good = pa.chunked_array([pa.array([True] * raw.num_rows, pa.bool_())])
        return DecodedBlock(pa.Table.from_arrays(columns, schema=schema), raw[_FAULT.name], good, payloads)


def _framed(column: pa.Array) -> pa.Array:
    return pc.and_(pc.starts_with(column, b"{"), pc.ends_with(column, b"}"))


def _has_levels(column: pa.ChunkedArray) -> bool:
    """Return whether every level of a column is two numbers."""
    levels = pc.list_flatten(column)
    paired = pc.fill_null(pc.equal(pc.list_value_length(levels), 2), False)
    return bool(pc.all(paired).as_py() is not False) and not pc.list_flatten(levels).null_count


def _opened(
    payloads: pa.Array, compressed: Sequence[int], faults: Mapping[int, str]
) -> tuple[pa.Array, Mapping[int, str]]:
    """Return the payloads with lz4 frames opened, null where there is a fault, and the faults."""
    if not compressed and not faults:
        return payloads, faults
    values, found = payloads.to_pylist(), dict(faults)
    for at in compressed:
        try:
            values[at] = decompress(values[at] or b"")
        except DecodeError as error:
            found.setdefault(at, str(error))
    for at in found:
        values[at] = None
    return pa.array(values, pa.binary()), found


def _odd_pattern(spec: TableSpec) -> str:
    """Return a pattern of payloads that Arrow would misread. It may match other payloads too."""
    numbers = "|".join(c.wire for c in spec.columns if c.type in (NUMBER, pa.int64()))
    levels = [r'\[\s*"|"\s*\]'] if any(c.type == LEVELS for c in spec.columns) else []
    return "|".join(
        [
            *levels,  # a text where a number of a level belongs
            rf"[0-9]{{{38 - SCALE}}}",  # may be too large for the column
            r"[0-9][eE]\+?[0-9]",
            r"[0-9][eE]-0*[1-9][0-9]",  # may be too small for it
            rf'"(?:{numbers})"\s*:\s*"',  # a text where a number belongs
        ]
    )


def _times(texts: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Parse texts as times, null if they are not in UTC; return also whether each is valid or absent."""
    found = common_times(texts)
    if found is not None:
        return found, pa.chunked_array([pa.array(np.ones(len(texts), np.bool_))])
    common = pc.match_substring_regex(texts, _UTC_TIME)
    if pc.all(common).as_py():
        try:
            return texts.cast(TIME), pc.or_kleene(pc.is_null(texts), common)
        except pa.ArrowInvalid:  # of the right form, yet no day of any calendar
            pass
    known = {text: _time(text) for text in texts.unique().to_pylist()}
    parsed = pa.chunked_array([pa.array([known[text] for text in texts.to_pylist()], TIME)])
    return parsed, pc.or_(pc.is_null(texts), pc.is_valid(parsed))


def _time(text: str | None) -> datetime | None:
    """Return the time of a text as handlers read it, to the microsecond; None if it is not in UTC."""
    if text is None or not _ONE_LINE.fullmatch(text):
        return None
    try:
        moment = msgspec.convert(text, datetime)
    except (msgspec.ValidationError, ValueError, OverflowError):
        return None
    return moment if moment.utcoffset() == timedelta(0) else None
