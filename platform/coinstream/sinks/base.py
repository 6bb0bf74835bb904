"""Define the interface and the registry of sinks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from coinstream.consumer import ConsumedMessage
from coinstream.errors import SinkError
from coinstream.suggestions import did_you_mean


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
