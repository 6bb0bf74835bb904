"""Define the progress and the final report of a feed run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Quantiles:
    """Quantiles of a distribution, in milliseconds."""

    p50_ms: float
    p99_ms: float
    max_ms: float

    @classmethod
    def of(cls, samples: Iterable[float]) -> Quantiles | None:
        """Return the quantiles of samples, or None if there are none."""
        ordered = sorted(samples)
        if not ordered:
            return None
        return cls(ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1])


@dataclass(frozen=True, slots=True)
class FeedReport:
    """Report of one feed run.

    Attributes:
        messages: messages acknowledged by the broker.
        by_type: acknowledged messages by message type.
        frames: frames received; each produced messages or is counted in `rejected` by reason.
        entries: entries of frames that produced no message, by reason.
        flags: anomalies by kind: crossed books, gaps, reconnects.
        dead_letters: faulty frames, all in the dead-letter topic.
        rounded_prices: prices changed by rounding, by `type.field`.
        lossy_prices: prices changed by rounding by more than one millionth of their value.
        lease_token: number of runs that have held the feed's lease, including this one; None without a
            lease.
        clock_ahead_ms: offset of the exchange's clock, positive when it is ahead of this machine's. Measured
            by its time endpoint, else a lower bound from quotes ahead of their receipt; None if unknown.
        exchange_to_receipt: receipt time minus exchange time; negative if the exchange's clock is ahead.
        receipt_to_produce: time from receipt until the client accepted the message.
        offsets: acknowledged offsets by `topic[partition]`.
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
    """Progress of a feed run."""

    messages: int = 0
    seconds: float = 0.0
    by_type: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Return the messages per second since the start of the run."""
        return self.messages / self.seconds if self.seconds else 0.0
