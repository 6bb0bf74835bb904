"""Write messages as JSON lines to a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from coinstream.consumer import ConsumedMessage
from coinstream.sinks.base import Sink, SinkEntry, register_sink


class JsonlSink:
    """Sink that appends one line per message: topic, partition, offset, key, and the wire fields."""

    def __init__(self, target: str) -> None:
        self._file = Path(target).open("ab")  # noqa: SIM115 (closed by `close`)

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """See `Sink.write`: the lines are on disk when this returns."""
        self._file.write(msgspec.json.Encoder().encode_lines(map(_line, messages)))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """See `Sink.close`."""
        self._file.close()


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
