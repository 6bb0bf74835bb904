"""Define what a run of a feed reports, and while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Quantiles:
    """A distribution of milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Quantiles | None:
        """Of these samples; None when there are none."""
        ordered = sorted(samples)
        if not ordered:
            return None
        return cls(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1])


@dataclass(frozen=True, slots=True)
class FeedReport:
    """What a run of a feed did. Counts are messages unless said otherwise.

    Attributes:
        messages: acknowledged by the broker.
        by_type: the same by kind of message.
        frames: frames received; each gave messages or is in `rejected` (frames, by reason).
        entries: parts of frames that gave no message, by reason.
        flags: remarkable messages and events: crossed books, gaps, reconnects.
        dead_letters: faulty frames, all in the dead-letter topic.
        rounded_prices: prices that rounding changed, by `type.field`.
        lossy_prices: prices that rounding changed by more than one millionth of their value.
        lease_token: how many runs have held the feed's lease, this one included; None without a lease.
        clock_ahead_ms: how far the exchange's clock runs ahead of this machine's: as its time endpoint
            says, else at least so much as its quotes were ahead of their receipt; None: unknown.
        exchange_to_receipt: receipt time minus exchange time; negative when the exchange's clock is ahead.
        receipt_to_produce: from receipt until the client had taken the message.
        offsets: what was acknowledged, by `topic[partition]`.
    """

    feed: str
    exchange: str
    messages: int
    seconds: float
    rate: float
    by_type: dict[str, int]
    frames: int
    rejected: dict[str, int]
    entries: dict[str, int]
    flags: dict[str, int]
    dead_letters: int
    rounded_prices: dict[str, int]
    lossy_prices: dict[str, int]
    lease_token: int | None
    clock_ahead_ms: float | None
    exchange_to_receipt: Quantiles | None
    receipt_to_produce: Quantiles | None
    offsets: dict[str, Any]


@dataclass
class Progress:
    """How far a run is."""

    messages: int = 0
    seconds: float = 0.0
    by_type: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Messages per second so far."""
        return self.messages / self.seconds if self.seconds else 0.0
