"""Decide when a supervised feed needs a new run.

A run lasts `run_s` seconds. Its successor is launched `handover_s` before it ends; the feed's lease decides
which of the two publishes. A crashed feed is restarted after a backoff that doubles with each consecutive
crash.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """Run length, handover time and backoff, in seconds."""

    run_s: float
    handover_s: float
    backoff_s: float
    backoff_max_s: float


@dataclass(frozen=True)
class FeedRun:
    """A supervised run of a feed that has not ended. `started` is when it was launched."""

    run_id: str
    started: float


@dataclass(frozen=True)
class Failures:
    """Number of consecutive crashes and the time of the last one."""

    count: int = 0
    at: float = 0.0

    def wait(self, timing: Timing) -> float:
        """Return the backoff after the last crash, in seconds."""
        if not self.count:
            return 0.0
        doubled = timing.backoff_s * 2.0 ** min(self.count - 1, 32)
        return min(doubled, timing.backoff_max_s)

    def dump(self) -> list[Any]:
        """Return the values as a list for JSON."""
        return [self.count, self.at]


def needs_run(alive: Sequence[FeedRun], failures: Failures, now: float, timing: Timing) -> bool:
    """Return whether a run should be launched now."""
    if now < failures.at + failures.wait(timing):
        return False
    if not alive:
        return True
    # One run and its successor are enough, however long the handover takes.
    newest = max(run.started for run in alive)
    return len(alive) == 1 and now >= newest + timing.run_s - timing.handover_s


def counted(failures: Failures, ended: Sequence[tuple[float, bool]], lasted_well: bool) -> Failures:
    """Return the failures after runs have ended.

    Args:
        failures: failures so far.
        ended: `(time, failed)` of each ended run, oldest first. A success resets the count.
        lasted_well: whether a run has been alive long enough to reset the count.
    """
    for at, failed in ended:
        failures = Failures(failures.count + 1, at) if failed else Failures()
    return Failures() if lasted_well else failures
