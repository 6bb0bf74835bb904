"""When a failed message is tried again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

JITTER = 0.2
"""A delay is up to this part shorter or longer, so that failures do not come back in step."""


@dataclass(frozen=True)
class RetrySchedule:
    """Delays that double: 100 ms, 200 ms, … each with jitter.

    Attributes:
        retries: how often to try again after the first attempt.
        initial_ms: the delay before the first retry, in milliseconds.
        max_delay_ms: no delay is longer than this, before jitter.
    """

    retries: int = 8
    initial_ms: float = 100.0
    max_delay_ms: float = 30_000.0
    rng: random.Random = field(default_factory=random.Random, repr=False, compare=False)

    def delay_s(self, failures: int) -> float | None:
        """Seconds until the next attempt after so many failed ones; None: give up."""
        if failures > self.retries:
            return None
        # Doubling stops mattering long before a float would overflow.
        delay = min(self.initial_ms * 2.0 ** min(failures - 1, 60), self.max_delay_ms)
        return delay * self.rng.uniform(1 - JITTER, 1 + JITTER) / 1000
