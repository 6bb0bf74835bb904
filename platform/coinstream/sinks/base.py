"""Define the interface and the registry of sinks, and the built-in sinks."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from io import FileIO
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args, get_origin, get_type_hints

import msgspec

from coinstream.consumer import ConsumedMessage
from coinstream.errors import SinkError
from coinstream.messages import MessageType
from coinstream.text import did_you_mean


class Sink(Protocol):
    """Destination of messages. Its methods are called by one thread at a time."""

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """Store messages of one partition in order. They must be durable when this returns.

        After an exception the messages are retried, and finally sent to the dead-letter topic. Messages may
        be delivered twice after a crash; `(topic, partition, offset)` identifies them.
        """
        ...

    def close(self) -> None:
        """Close files and connections."""
        ...


@dataclass(frozen=True, slots=True)
class SinkEntry:
    """Registered sink.

    Attributes:
        open: opens the sink on a target, for example a path or a URL.
        batch_size: maximum messages per call of `write`.
    """

    name: str
    description: str
    open: Callable[[str], Sink]
    batch_size: int = 1_000


SINKS: Final[dict[str, SinkEntry]] = {}
"""All sinks by name. Add one with `register_sink`."""


def register_sink(entry: SinkEntry) -> SinkEntry:
    """Register a sink.

    Raises:
        ValueError: another sink has the name.
    """
    if SINKS.get(entry.name, entry) != entry:
        raise ValueError(f"sink {entry.name!r} is registered already")
    SINKS[entry.name] = entry
    return entry


def open_sink(name: str, target: str) -> Sink:
    """Open a registered sink on a target.

    Raises:
        SinkError: no sink has this name, or its target cannot be opened.
    """
    entry = SINKS.get(name)
    if entry is None:
        raise SinkError(f"no sink {name!r}; {did_you_mean(name, SINKS)}")
    try:
        return entry.open(target)
    except OSError as error:
        raise SinkError(f"sink {name}: cannot open {target}: {error.strerror or error}") from error


ColumnType = Literal["text", "float", "int", "time", "json"]


class SinkColumn(NamedTuple):
    """One field of a message type: its Python name and value type."""

    name: str
    type: ColumnType


def columns_of(kind: MessageType) -> list[SinkColumn]:
    """Return the columns of a message type; lists and objects are `json`."""
    hints = get_type_hints(kind.cls)
    return [SinkColumn(field.name, _type(hints[field.name])) for field in msgspec.structs.fields(kind.cls)]


def _type(hint: Any) -> ColumnType:
    kinds = {part for part in _parts(hint) if part is not type(None)}
    if kinds == {str}:
        return "text"
    if kinds == {datetime}:
        return "time"
    if kinds == {int}:
        return "int"
    if kinds <= {int, float}:
        return "float"
    return "json"


def _parts(hint: Any) -> Iterator[type]:
    if get_origin(hint) is Literal:
        yield from {type(value) for value in get_args(hint)}
    elif get_origin(hint) in (list, tuple, dict) or not get_args(hint):
        yield get_origin(hint) or hint
    else:
        for part in get_args(hint):
            yield from _parts(part)


class JsonlSink:
    """Sink that appends one line per message: topic, partition, offset, key, and the wire fields."""

    def __init__(self, target: str) -> None:
        # Unbuffered, so that no part of a failed write is written later.
        self._file = Path(target).open("ab", buffering=0)  # noqa: SIM115 (closed by `close`)
        self._is_regular = stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)
        if self._is_regular:
            with _locked(self._file):
                _repair_end(Path(target))

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """See `Sink.write`: the lines are on disk when this returns.

        Raises:
            SinkError: the file cannot be written; the batch is retried.
        """
        rest = memoryview(msgspec.json.Encoder().encode_lines(map(_line, messages)))
        try:
            with _locked(self._file) if self._is_regular else nullcontext():
                self._write(rest)
        except OSError as error:
            name = self._file.name
            raise SinkError(f"sink jsonl: cannot write {name}: {error.strerror or error}") from error

    def _write(self, rest: memoryview) -> None:
        end = os.fstat(self._file.fileno()).st_size
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
            if self._is_regular:
                os.fsync(self._file.fileno())
        except OSError:
            if self._is_regular:
                self._file.truncate(end)
            raise

    def close(self) -> None:
        """See `Sink.close`."""
        self._file.close()


@contextmanager
def _locked(file: FileIO) -> Iterator[None]:
    """Hold the lock of a file, so that no other process mistakes a write for an incomplete line."""
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


_CHUNK: Final = 65_536


def _repair_end(path: Path) -> None:
    """Remove a line that a killed process left incomplete; its message is delivered again.

    A complete last line without a line feed is kept.
    """
    with path.open("r+b") as file:
        start = size = file.seek(0, os.SEEK_END)
        tail = b""
        while start and b"\n" not in tail:
            start = max(start - _CHUNK, 0)
            file.seek(start)
            tail = file.read(size - start)
        last = tail[tail.rfind(b"\n") + 1 :]
        if last and _is_json(last):
            file.seek(size)
            file.write(b"\n")
        elif last:
            file.truncate(size - len(last))


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except ValueError:
        return False
    return True


def _line(received: ConsumedMessage) -> dict[str, object]:
    key = received.key
    return {
        "topic": received.topic,
        "partition": received.partition,
        "offset": received.offset,
        "key": key.decode(errors="replace") if key is not None else None,
        "message": received.message,
        **({"unknown": received.unknown} if received.unknown else {}),
    }


def _open(target: str) -> Sink:
    return JsonlSink(target)


JSONL: Final = register_sink(
    SinkEntry("jsonl", "Lines of JSON appended to a file; TARGET is its path", _open)
)
