"""Decompress the binary frames of exchanges with a size limit."""

from __future__ import annotations

import zlib
from typing import Final

import msgspec

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
