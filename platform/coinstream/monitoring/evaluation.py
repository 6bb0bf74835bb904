"""Evaluate a partition by Burrow's rules over a window of observed commits.

The Kafka protocol does not report commit times. A poll therefore counts as an observed commit if the offset
moved or a member owns the partition. The first matching rule decides:

1. OK: the current lag is at most the allowed lag.
2. STOP: no observed commit for longer than the window spans, and the lag was not recently zero.
3. REWIND: the offset moved back and has not recovered.
4. OK: the lag was at most the allowed lag at some time in the window.
5. STALL: members are alive, but the offset did not move in the window.
6. WARN: the offset moves, but the lag never fell in the window.

A partition without lag keeps only its last commit, to detect a later rewind. The history is dropped after
five minutes without a poll.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

from coinstream.kafka.records import PartitionKey
from coinstream.monitoring.cluster import Watermarks


class PartitionStatus(StrEnum):
    """Status of a partition, from best to worst."""

    OK = "ok"
    WARN = "warn"
    REWIND = "rewind"
    STALL = "stall"
    STOP = "stop"


_SEVERITY: Final = {status: rank for rank, status in enumerate(PartitionStatus)}


@dataclass(frozen=True)
class Commit:
    """Observed commit: Unix time in seconds, offset, and lag at that time."""

    at: float
    offset: int
    lag: int


@dataclass(frozen=True)
class EvaluationRules:
    """Parameters of the evaluation.

    Attributes:
        window: number of observed commits in the window; STALL and WARN require a full window.
        allowed: lag in messages that counts as no lag.
        silence_s: minimum time without an observed commit before STOP, and the time for which a lag of zero
            counts as recent.
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
        commits: observed commits, oldest first; at least one.
        now: Unix time in seconds.
        lag: unhandled messages.
        last_clear: last time at which the lag was at most the allowed lag.
        rules: parameters of the evaluation.
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
    """Return the worst of statuses, or OK if there are none."""
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


_SEPARATOR: Final = "/"
_TREND_POLLS: Final = 5
_MAX_GAP_S: Final = 300.0


@dataclass(frozen=True)
class Observation:
    """One partition in one poll.

    Attributes:
        offset: the committed offset.
        lag: unhandled messages.
        alive: whether a member owns the partition, or the group rebalances.
        waiting_s: age of the oldest unhandled message, if known; it covers the time before the first poll.
    """

    offset: int
    lag: int
    alive: bool
    waiting_s: float | None = None


@dataclass(frozen=True)
class Window:
    """History of a partition: observed commits (oldest first), last time without lag, and last polls."""

    commits: tuple[Commit, ...]
    last_clear: float | None
    polls: tuple[tuple[float, int], ...]
    """Time and lag of the last polls, for the trend."""


@dataclass(frozen=True)
class Evaluation:
    """Status of a partition, and its trend in messages per second; None before the second poll."""

    status: PartitionStatus
    trend: float | None


@dataclass
class GroupWindows:
    """Windows of one group. Not thread-safe."""

    rules: EvaluationRules = field(default_factory=EvaluationRules)
    windows: dict[PartitionKey, Window] = field(default_factory=dict)
    last_poll: float | None = None

    def observe(self, now: float, seen: Mapping[PartitionKey, Observation]) -> dict[PartitionKey, Evaluation]:
        """Add a poll and evaluate its partitions. Other partitions are dropped."""
        if self.last_poll is not None and now - self.last_poll > max(_MAX_GAP_S, 2 * self.rules.silence_s):
            self.windows, self.last_poll = {}, None
        evaluated = {place: self._observe(place, now, one) for place, one in seen.items()}
        self.windows = {place: window for place, window in self.windows.items() if place in seen}
        self.last_poll = now
        return evaluated

    def _observe(self, place: PartitionKey, now: float, seen: Observation) -> Evaluation:
        before = self.windows.get(place)
        if seen.lag <= self.rules.allowed:
            commit = Commit(now, seen.offset, seen.lag)
            self.windows[place] = Window((commit,), now, ((now, seen.lag),))
            return Evaluation(PartitionStatus.OK, 0.0)
        commit = Commit(now, seen.offset, seen.lag)
        window = self._grown(before or self._opened(seen, now), commit, alive=seen.alive)
        self.windows[place] = window
        status = evaluate_partition(window.commits, now, seen.lag, window.last_clear, self.rules)
        return Evaluation(status, _trend(window.polls))

    def _opened(self, seen: Observation, now: float) -> Window:
        if self.last_poll is not None:
            # A partition that was not in the last poll had no lag until then.
            clear = Commit(self.last_poll, seen.offset, 0)
            return Window((clear,), self.last_poll, ((self.last_poll, 0),))
        # The oldest message is older than the first poll, and was not committed since.
        since = now if seen.alive else now - (seen.waiting_s or 0.0)
        return Window((Commit(since, seen.offset, seen.lag),), None, ())

    def _grown(self, window: Window, commit: Commit, *, alive: bool) -> Window:
        window = replace(window, polls=(*window.polls, (commit.at, commit.lag))[-_TREND_POLLS:])
        last = window.commits[-1]
        is_new = commit.offset != last.offset or (alive and commit.at > last.at)
        commits = (*window.commits, commit)[-self.rules.window :]
        return replace(window, commits=commits) if is_new else window

    def dump(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "at": self.last_poll,
            "windows": {
                f"{topic}{_SEPARATOR}{number}": [
                    window.last_clear,
                    [[at, lag] for at, lag in window.polls],
                    [[commit.at, commit.offset, commit.lag] for commit in window.commits],
                ]
                for (topic, number), window in self.windows.items()
            },
        }

    @classmethod
    def load(cls, dumped: Mapping[str, Any], rules: EvaluationRules) -> GroupWindows:
        """Restore the result of `dump`.

        Raises:
            ValueError, KeyError, TypeError: the values have another form.
        """
        windows = {}
        for name, (last_clear, polls, commits) in dumped["windows"].items():
            topic, _, number = name.rpartition(_SEPARATOR)
            windows[topic, int(number)] = Window(
                tuple(Commit(*values) for values in commits),
                last_clear,
                tuple((at, lag) for at, lag in polls),
            )
        return cls(rules, windows, dumped["at"])


def _trend(polls: Sequence[tuple[float, int]]) -> float | None:
    (first_at, first_lag), (last_at, last_lag) = polls[0], polls[-1]
    elapsed = last_at - first_at
    return (last_lag - first_lag) / elapsed if elapsed > 0 else None


_LOG_ENDS_KEPT: Final = 60


class WatermarkHistory:
    """Last log end offsets of each partition with their times. Not thread-safe."""

    def __init__(self, kept: int = _LOG_ENDS_KEPT) -> None:
        self._kept = kept
        self._ends: dict[PartitionKey, deque[tuple[int, float]]] = {}

    def observe(self, now: float, marks: Mapping[PartitionKey, Watermarks]) -> None:
        """Add observed log ends. An unchanged log end updates the time of its last observation."""
        for place, mark in marks.items():
            ends = self._ends.setdefault(place, deque(maxlen=self._kept))
            if ends and ends[-1][0] > mark.high:
                ends.clear()  # Truncated, or a new topic of the old name.
            if len(ends) > 1 and ends[-1][0] == ends[-2][0] == mark.high:
                ends.pop()
            ends.append((mark.high, now))

    def passed(self, place: PartitionKey, offset: int) -> float | None:
        """Return the time at which an offset was appended, interpolated between two observed log ends.

        Returns:
            Unix seconds, or None if the offset is before the first observation.
        """
        ends = self._ends.get(place, deque())
        # The last observation before the offset was appended.
        before = bisect_right(ends, offset, key=lambda end: end[0]) - 1
        if before < 0:
            return None
        low, low_at = ends[before]
        if before + 1 == len(ends):
            return low_at
        high, high_at = ends[before + 1]
        return low_at + (high_at - low_at) * (offset + 1 - low) / (high - low)

    def rate(self, place: PartitionKey) -> float | None:
        """Return the records per second between the last two observations; None before the second."""
        ends = self._ends.get(place, deque())
        if len(ends) < 2:
            return None
        (low, low_at), (high, high_at) = ends[-2], ends[-1]
        return (high - low) / (high_at - low_at) if high_at > low_at else None
