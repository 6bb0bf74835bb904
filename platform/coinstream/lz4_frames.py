"""Decompress lz4 payloads: one or more frames, with skippable frames between them."""

from __future__ import annotations

from typing import Final

import lz4.frame

from coinstream.errors import DecodeError

MAX_DECOMPRESSED: Final = 16 * 1024 * 1024
"""Maximum bytes of a decompressed payload."""
MAX_FRAMES: Final = 1_024
"""Maximum frames of a payload, because decompressing them takes quadratic time."""
_SKIPPABLE: Final = 0x184D2A50
_SKIPPABLE_MASK: Final = 0xFFFFFFF0


def decompress(value: bytes) -> bytes:
    """Return the content of all lz4 frames of a payload.

    Raises:
        DecodeError: no lz4 frame, a truncated one, or content above `MAX_DECOMPRESSED` bytes.
    """
    parts: list[bytes] = []
    room, rest = MAX_DECOMPRESSED, value
    for _ in range(MAX_FRAMES):
        rest = _without_skippable(rest)
        if not rest:
            break
        part, rest = _frame(rest, room)
        room -= len(part)
        parts.append(part)
    else:
        raise DecodeError(f"header says compressed, but it has more than {MAX_FRAMES} lz4 frames")
    if not parts:
        raise DecodeError("header says compressed, but the payload holds no lz4 frame with data")
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _frame(value: bytes, room: int) -> tuple[bytes, bytes]:
    """Return the content of the first frame and the bytes that follow it."""
    decompressor = lz4.frame.LZ4FrameDecompressor()
    try:
        # One byte more than the limit distinguishes a frame that fits exactly from one that is too large.
        content = bytes(decompressor.decompress(value, max_length=room + 1))
    except RuntimeError as error:
        raise DecodeError(f"header says compressed, but: {error}") from None
    if len(content) > room or not decompressor.eof:
        raise DecodeError(f"lz4 frame is truncated or unpacks to more than {MAX_DECOMPRESSED} bytes")
    return content, decompressor.unused_data or b""


def _without_skippable(value: bytes) -> bytes:
    at = 0
    while len(value) - at >= 8 and _magic(value, at) & _SKIPPABLE_MASK == _SKIPPABLE:
        size = int.from_bytes(value[at + 4 : at + 8], "little")
        at += 8 + size
        if at > len(value):
            raise DecodeError("header says compressed, but a skippable lz4 frame is truncated")
    return value[at:] if at else value


def _magic(value: bytes, at: int) -> int:
    return int.from_bytes(value[at : at + 4], "little")
