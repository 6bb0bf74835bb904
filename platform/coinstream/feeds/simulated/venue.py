"""Define a protocol of the simulated exchange, and the faults that can be set while it runs."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple, Protocol

import msgspec

from coinstream.errors import SettingsError
from coinstream.feeds.simulated.market import Market, Tick
from coinstream.text import did_you_mean

_HALF: Final = 2


@dataclass
class Faults:
    """Faults of the simulated exchange. Fractions from 0 to 1 refer to the data frames sent.

    Attributes:
        gap: fraction of frames dropped, which leaves a gap in the sequence numbers.
        garble: fraction of frames cut in half.
        duplicate: fraction of frames sent twice.
        cross: fraction of quotes with a bid above the ask.
        delay_ms: delay of every data frame.
        freeze: keep connections open and reply to requests, but send no data.
        drop: number of next data frames replaced by a broken connection (counts down).
        refuse: number of next connections and requests answered with 503 (counts down).
        rate_limit: number of next connections and requests answered with 429 (counts down).
        html: answer REST requests with an HTML page instead of JSON.
        skew_ms: offset of the exchange's clock, positive when it is ahead of this machine's.
        vanished: symbols that are no longer listed.
    """

    gap: float = 0.0
    garble: float = 0.0
    duplicate: float = 0.0
    cross: float = 0.0
    delay_ms: float = 0.0
    freeze: bool = False
    drop: int = 0
    refuse: int = 0
    rate_limit: int = 0
    html: bool = False
    skew_ms: float = 0.0
    vanished: set[str] = field(default_factory=set)

    def update(self, values: Mapping[str, str]) -> None:
        """Set faults from text values of a query or option: `garble=0.1`, `vanished=BTC/USDT,ETH/USDT`.

        Raises:
            SettingsError: a name is unknown or a value is invalid.
        """
        known = {item.name: getattr(self, item.name) for item in fields(self)}
        for name, text in values.items():
            if name not in known:
                raise SettingsError(f"unknown fault {name!r}; {did_you_mean(name, known)}")
            try:
                setattr(self, name, _parse(text, known[name]))
            except ValueError:
                raise SettingsError(f"fault {name}: invalid value {text!r}") from None

    def as_dict(self) -> dict[str, Any]:
        """Return all faults by name."""
        return {
            item.name: sorted(value) if isinstance(value := getattr(self, item.name), set) else value
            for item in fields(self)
        }

    @property
    def is_clean(self) -> bool:
        """Return whether frames are sent unchanged."""
        return not (self.gap or self.garble or self.duplicate)

    def spoil(self, frames: Iterable[bytes], dice: random.Random) -> Iterator[bytes]:
        """Yield the frames with random faults applied."""
        for frame in frames:
            if self.gap and dice.random() < self.gap:
                continue
            if self.garble and dice.random() < self.garble:
                yield frame[: len(frame) // _HALF]
                continue
            yield frame
            if self.duplicate and dice.random() < self.duplicate:
                yield frame


def _parse(text: str, before: Any) -> Any:
    if isinstance(before, bool):
        if text.lower() not in ("0", "1", "true", "false"):
            raise ValueError(text)
        return text.lower() in ("1", "true")
    if isinstance(before, set):
        return {symbol for symbol in text.split(",") if symbol}
    number = type(before)(text)
    if not 0 <= number < float("inf"):
        raise ValueError(text)
    return number


encode = msgspec.json.Encoder().encode


class Reply(NamedTuple):
    """The answer to a REST request."""

    status: int
    body: bytes


class Session(Protocol):
    """One websocket connection and its subscriptions."""

    def on_open(self) -> Iterable[bytes]:
        """Return the frames sent when the connection opens."""
        ...

    def on_message(self, text: bytes) -> Iterable[bytes]:
        """Process a client's frame; return the replies."""
        ...

    def on_tick(self, tick: Tick) -> Iterable[bytes]:
        """Return the frames of a quote for this connection."""
        ...

    def beat(self) -> Iterable[bytes]:
        """Return the heartbeat, sent once a second."""
        ...


class Venue(Protocol):
    """A protocol: REST replies and sessions."""

    def session(self, path: str, query: Mapping[str, str]) -> Session:
        """Open a session for a connection to a path."""
        ...

    def reply(self, path: str, query: Mapping[str, str]) -> Reply:
        """Return the reply to a REST request."""
        ...


class World(NamedTuple):
    """State shared by all protocols."""

    market: Market
    faults: Faults

    @property
    def listed(self) -> tuple[str, ...]:
        """Return the symbols that have not vanished."""
        return tuple(symbol for symbol in self.market.symbols if symbol not in self.faults.vanished)


def ok(value: Any) -> Reply:
    """Return a JSON reply."""
    return Reply(200, encode(value))


def iso_time(milliseconds: float) -> str:
    """Format Unix milliseconds in ISO 8601, as exchanges do."""
    return (
        datetime.fromtimestamp(milliseconds / 1000, UTC)
        .isoformat(timespec="microseconds")
        .replace("+00:00", "Z")
    )


def fixed(value: float) -> str:
    """Format a number with eight decimals, as exchanges do."""
    return f"{value:.8f}"
