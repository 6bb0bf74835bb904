"""Encode and decode messages: JSON, compressed as an lz4 frame above a size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import lz4.frame
import msgspec

from coinstream.errors import DecodeError, MessageError
from coinstream.kafka.records import Headers
from coinstream.messages import MESSAGE_TYPES, Message, from_wire, type_for_topic
from coinstream.serialization.json_encoder import compile_encoder
from coinstream.serialization.precision import PriceRounder
from coinstream.settings import SerializationSettings

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


COMPRESS_ABOVE: Final = 1024
"""Payloads of more bytes are compressed."""
COMPRESSED_HEADER: Final = "compressed"

Writer = Callable[[Any], bytes]
UNWRITABLE: Final = (TypeError, msgspec.ValidationError)
"""Errors of a writer for a value of the wrong type."""
UNREADABLE: Final = (msgspec.DecodeError, UnicodeError, RecursionError)
"""Errors of decoding a payload that is not a JSON document of the expected type."""
_COMPRESSED: Final[Headers] = [(COMPRESSED_HEADER, b"true")]
_NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})


class Decoded(NamedTuple):
    """A message with the wire fields that its type does not have."""

    message: Message
    unknown: Mapping[str, Any]


class MessageSerializer:
    """Serializes messages.

    Args:
        strict: round every price to eight decimals, even if that changes it by more than one millionth. By
            default the value of `SerializationSettings`.

    Attributes:
        rounder: rounds prices and counts changed ones.
    """

    def __init__(self, *, strict: bool | None = None) -> None:
        chosen = SerializationSettings().strict if strict is None else strict
        self.rounder: Final = PriceRounder(strict=chosen)
        self._writers: dict[type, Writer] = {}

    @property
    def rounded_prices(self) -> Counter[str]:
        """Return the number of prices changed by rounding, by `type.field`."""
        return self.rounder.rounded

    @property
    def lossy_prices(self) -> Counter[str]:
        """Return the number of prices changed by more than one millionth, by `type.field`."""
        return self.rounder.lossy

    def encode(self, message: Message) -> tuple[bytes, Headers | None]:
        """Return the payload of a message, and its headers if it is compressed.

        Raises:
            MessageError: a value is not finite, negative, empty or of the wrong type, or the object's type is
                not registered.
        """
        try:
            value = self.writer(type(message))(message)
        except UNWRITABLE as error:
            raise unwritable(message, error) from None
        return (value, None) if len(value) <= COMPRESS_ABOVE else compressed(value)

    def writer(self, cls: type[Message]) -> Writer:
        """Return the function that writes messages of one type as JSON without compression.

        The function raises `MessageError` or one of `UNWRITABLE`.

        Raises:
            MessageError: the class is not registered.
        """
        found = self._writers.get(cls)
        if found is not None:
            return found
        if not any(kind.cls is cls for kind in MESSAGE_TYPES.values()):
            raise MessageError(f"{cls.__name__} is not a registered message type")
        return self._writers.setdefault(cls, compile_encoder(cls, self.rounder))


def unwritable(message: Message, error: Exception) -> MessageError:
    """Return the error for a message that a writer could not write."""
    return MessageError(f"cannot write {message!r}: {error}")


def compressed(value: bytes) -> tuple[bytes, Headers]:
    """Return the payload as an lz4 frame and the header that marks it."""
    return lz4.frame.compress(value), _COMPRESSED.copy()


class MessageDeserializer:
    """Deserializes messages, faster if their topic is known."""

    def __init__(self) -> None:
        self._by_topic: dict[str | None, msgspec.json.Decoder[Message] | None] = {None: None}

    def decode(
        self, value: bytes | None, headers: Sequence[tuple[str, Any]] | None = None, topic: str | None = None
    ) -> Decoded:
        """Return the message of a payload with the fields that its type does not have.

        Raises:
            DecodeError: the payload is empty, not UTF-8, not JSON, of no known type, or invalid for its type.
        """
        if not value:
            raise DecodeError("empty payload (a tombstone is not a market message)")
        if headers and is_compressed(headers):
            value = decompress(value)
        strict = self._strict(topic)
        if strict is None:
            return decode_any(value)
        try:
            return Decoded(strict.decode(value), _NOTHING)
        except UNREADABLE:
            # Unknown fields and other types take the slower path, which reports the error.
            return decode_any(value)

    def _strict(self, topic: str | None) -> msgspec.json.Decoder[Message] | None:
        try:
            return self._by_topic[topic]
        except KeyError:
            kind = type_for_topic(topic or "")
            decoder = msgspec.json.Decoder(kind.cls) if kind else None
            return self._by_topic.setdefault(topic, decoder)


def decode_any(value: bytes) -> Decoded:
    """Return the message of an uncompressed payload of unknown type.

    Raises:
        DecodeError: see `MessageDeserializer.decode`.
    """
    fields = load_json(value)
    if not isinstance(fields, dict):
        raise DecodeError(f"not a JSON object but {type(fields).__name__}")
    try:
        message, unknown = from_wire(fields)
    except MessageError as error:
        raise DecodeError(str(error)) from None
    return Decoded(message, restore_times(unknown) if unknown else _NOTHING)


def load_json(value: bytes) -> Any:
    """Return the content of a JSON document.

    Raises:
        DecodeError: the bytes are not UTF-8, not JSON, or nested too deeply.
    """
    try:
        return msgspec.json.decode(value)
    except UnicodeDecodeError as error:
        raise DecodeError(f"not UTF-8: {error.reason}: 0x{error.object[error.start]:02x}") from None
    except UNREADABLE as error:
        raise DecodeError(f"not JSON: {error}") from None


def is_compressed(headers: Sequence[tuple[str, Any]]) -> bool:
    """Return whether the headers mark the payload as lz4-compressed."""
    return any(name == COMPRESSED_HEADER and value in (b"true", "true") for name, value in headers)


def restore_times(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Convert ISO-8601 text to datetimes in fields whose name denotes a time."""
    return {name: _as_time(value) if is_time(name) else value for name, value in fields.items()}


def is_time(name: str) -> bool:
    """Return whether a wire field of this name contains a time."""
    return "Time" in name or "Updated" in name or name == "timestamp"


def _as_time(value: Any) -> Any:
    try:
        return msgspec.convert(value, datetime) if isinstance(value, str) else value
    except msgspec.ValidationError:
        return value
