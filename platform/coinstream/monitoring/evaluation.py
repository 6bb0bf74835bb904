"""Evaluate a partition by Burrow's rules over a window of observed commits.

The Kafka protocol does not tell when a group committed, so a commit is what a poll saw of one: the offset
moved, or a member holds the partition (it is alive, whether it moves or not). The order of the rules matters;
the first that holds decides:

1. OK: what is unhandled now is at most what is allowed.
2. STOP: no sign of a commit for longer than the window spans, and the lag was not recently zero.
3. REWIND: the offset moved back, and has not recovered since.
4. OK: the lag was at most what is allowed at some time in the window.
5. STALL: members live, but the offset did not move in the whole window.
6. WARN: the offset moves, but the lag never fell in the whole window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Final


class PartitionStatus(StrEnum):
    """Result of the evaluation of a partition. Worst last."""

    OK = "ok"
    WARN = "warn"
    REWIND = "rewind"
    STALL = "stall"
    STOP = "stop"


_SEVERITY: Final = {status: rank for rank, status in enumerate(PartitionStatus)}


@dataclass(frozen=True)
class Commit:
    """A commit that a poll observed: time (seconds since the epoch), offset, and lag at that time."""

    at: float
    offset: int
    lag: int


@dataclass(frozen=True)
class EvaluationRules:
    """Parameters of the evaluation.

    Attributes:
        window: commits that decide; STALL and WARN need as many.
        allowed: messages of lag that count as none.
        silence_s: without a sign of a commit for less than this a group is never called stopped, however
            short the window spans; and for how long a lag of zero counts as recent.
    """

    window: int = 10
    allowed: int = 0
    silence_s: float = 60.0


def evaluate_partition(
    commits: Sequence[Commit],
    now: float,
    lag: int,
    last_clear: float | None,
    rules: EvaluationRules | None = None,
) -> PartitionStatus:
    """Return the status of one partition.

    Args:
        commits: the window, oldest first; at least one.
        now: seconds since the epoch.
        lag: messages unhandled now.
        last_clear: when the lag was last seen at or below what is allowed.
        rules: size of the window, allowed lag and silence.
    """
    rules = rules or EvaluationRules()
    if lag <= rules.allowed:
        return PartitionStatus.OK
    if _stopped(commits, now, last_clear, rules):
        return PartitionStatus.STOP
    window = commits[-rules.window :]
    if _rewound(window):
        return PartitionStatus.REWIND
    if any(commit.lag <= rules.allowed for commit in window):
        return PartitionStatus.OK
    if len(window) < rules.window:
        return PartitionStatus.OK
    if window[0].offset == window[-1].offset:
        return PartitionStatus.STALL
    if all(later.lag >= earlier.lag for earlier, later in pairwise(window)):
        return PartitionStatus.WARN
    return PartitionStatus.OK


def worst(statuses: Iterable[PartitionStatus]) -> PartitionStatus:
    """Return the worst of some statuses; OK of none."""
    return max(statuses, key=_SEVERITY.__getitem__, default=PartitionStatus.OK)


def _stopped(commits: Sequence[Commit], now: float, last_clear: float | None, rules: EvaluationRules) -> bool:
    window = commits[-rules.window :]
    span = window[-1].at - window[0].at
    is_silent = now - window[-1].at > max(span, rules.silence_s)
    was_clear = last_clear is not None and now - last_clear <= rules.silence_s
    return is_silent and not was_clear


def _rewound(window: Sequence[Commit]) -> bool:
    return any(later.offset < earlier.offset for earlier, later in pairwise(window)) and window[
        -1
    ].offset < max(commit.offset for commit in window)
