"""Finds damage in Kafka's log segments before Kafka does.

After a crash Kafka cuts a log at the first batch it cannot read. At a torn end that loses nothing that was
acknowledged. In the middle it throws away what follows, and with the metadata log of a single node
every topic, all with no more than a warning in its log; after a stop in good order it does not look, and
readers fail later. So a single node asks here first.

The layout of a batch (magic 2): base offset 8 bytes, length 4, leader epoch 4, magic 1, CRC-32C 4, then
what the CRC covers. Source: Apache Kafka, `DefaultRecordBatch`.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

METADATA_LOG: Final = "__cluster_metadata-0"

_HEADER: Final = struct.Struct(">qiibI")
_LENGTH_STARTS: Final = 12
"""A batch's length counts from here: behind base offset and length."""
_CRC_COVERS_FROM: Final = _HEADER.size
_SHORTEST: Final = 61 - _LENGTH_STARTS
_MAGIC: Final = 2
_CRC_LIMIT: Final = 4 * 1024 * 1024
"""Larger metadata logs are checked by their structure alone: Python computes some 5 MB of CRC a second."""


@dataclass(frozen=True, slots=True)
class Damage:
    """Where a log stops to be readable although more follows."""

    path: Path
    position: int


def find_damage(data: Path) -> Damage | None:
    """Return the first damage for which Kafka would discard acknowledged messages, or None.

    Looks at the metadata and at the last segment of each partition: the others were flushed long ago.
    """
    for folder in sorted(path for path in data.iterdir() if path.is_dir()):
        segments = sorted(folder.glob("*.log"))
        is_metadata = folder.name == METADATA_LOG
        for path in segments if is_metadata else segments[-1:]:
            position = _damaged_at(path, with_crc=is_metadata)
            if position is not None:
                return Damage(path, position)
    return None


def _damaged_at(path: Path, *, with_crc: bool) -> int | None:
    size = path.stat().st_size
    if size == 0:
        return None
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as log:
        position, bad = _walk(log, with_crc=with_crc and size <= _CRC_LIMIT)
        return position if bad or not _is_torn_end(log, position) else None


def _walk(log: mmap.mmap, *, with_crc: bool) -> tuple[int, bool]:
    """Where the last good batch ends, and whether the next one is whole but has a wrong CRC."""
    position, last_offset, size = 0, -1, len(log)
    while position + _HEADER.size <= size:
        offset, length, _, magic, crc = _HEADER.unpack_from(log, position)
        end = position + _LENGTH_STARTS + length
        if magic != _MAGIC or length < _SHORTEST or offset <= last_offset or end > size:
            break
        if with_crc and _crc32c(log[position + _CRC_COVERS_FROM : end]) != crc:
            return position, True
        position, last_offset = end, offset
    return position, False


def _is_torn_end(log: mmap.mmap, position: int) -> bool:
    left = len(log) - position
    if left < _HEADER.size:
        return True
    _, length, _, magic, _ = _HEADER.unpack_from(log, position)
    if magic == _MAGIC and length >= _SHORTEST:
        return bool(position + _LENGTH_STARTS + length > len(log))
    # A file that was made longer before it was written, when the power failed.
    return not any(log[position:])


def _make_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE: Final = _make_table()


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF
