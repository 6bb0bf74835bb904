"""What a sink is, and which there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from coinstream.consumer import ConsumedMessage
from coinstream.errors import SinkError
from coinstream.suggestions import did_you_mean


class Sink(Protocol):
    """Writes messages somewhere. Called by one thread at a time."""

    def write(self, messages: Sequence[ConsumedMessage]) -> None:
        """Store messages of one partition, in order. They must be durable when this returns.

        What raises is tried again, and goes to the dead-letter topic in the end. Messages may come
        twice after a crash: `(topic, partition, offset)` tells them apart.
        """
        ...

    def close(self) -> None:
        """Let go of files and connections."""
        ...


@dataclass(frozen=True, slots=True)
class SinkEntry:
    """A sink that can be run by name.

    Attributes:
        open: is given the target, for example a path or an address.
        batch_size: messages of one partition that `write` is given at most.
    """

    name: str
    description: str
    open: Callable[[str], Sink]
    batch_size: int = 1_000


SINKS: Final[dict[str, SinkEntry]] = {}
"""All sinks by name. Add one with `register_sink`."""


def register_sink(entry: SinkEntry) -> SinkEntry:
    """Make a sink known to `coinstream sink`.

    Raises:
        ValueError: another sink has the name.
    """
    if SINKS.get(entry.name, entry) != entry:
        raise ValueError(f"sink {entry.name!r} is registered already")
    SINKS[entry.name] = entry
    return entry


def open_sink(name: str, target: str) -> Sink:
    """Open the sink of that name on its target.

    Raises:
        SinkError: there is none of that name, or its target cannot be opened.
    """
    entry = SINKS.get(name)
    if entry is None:
        raise SinkError(f"no sink {name!r}; {did_you_mean(name, SINKS)}")
    try:
        return entry.open(target)
    except OSError as error:
        raise SinkError(f"sink {name}: cannot open {target}: {error.strerror or error}") from error
