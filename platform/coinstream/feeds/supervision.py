"""When a feed needs a run: the rules of the supervisor, pure.

A run lasts `run_s` seconds. Its successor is launched `handover_s` before it ends, so that it is up in time;
who of the two produces is settled by the feed's lease. A feed whose runs crash is started again after a
wait that doubles with every crash in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timing:
    """In seconds."""

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
    """Crashes in a row, and when the last one was seen."""

    count: int = 0
    at: float = 0.0

    def wait(self, timing: Timing) -> float:
        """Seconds to wait after the last crash."""
        if not self.count:
            return 0.0
        doubled = timing.backoff_s * 2.0 ** min(self.count - 1, 32)
        return min(doubled, timing.backoff_max_s)

    def dump(self) -> list[Any]:
        """As plain values for JSON."""
        return [self.count, self.at]


def needs_run(alive: Sequence[FeedRun], failures: Failures, now: float, timing: Timing) -> bool:
    """Whether a run is to be launched now."""
    if now < failures.at + failures.wait(timing):
        return False
    if not alive:
        return True
    # One run and its successor are enough, however long the handover takes.
    newest = max(run.started for run in alive)
    return len(alive) == 1 and now >= newest + timing.run_s - timing.handover_s


def counted(failures: Failures, ended: Sequence[tuple[float, bool]], lasted_well: bool) -> Failures:
    """The failures after some runs have ended: `(when, failed)`, oldest first.

    A run that lives on past its handover, or ended well, ends the row.
    """
    for at, failed in ended:
        failures = Failures(failures.count + 1, at) if failed else Failures()
    return Failures() if lasted_well else failures
