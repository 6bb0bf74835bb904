"""The memory behind verdicts and trends: per partition the last commits that polls saw.

A partition without lag needs no history: it is forgotten, and starts with that clear poll when lag appears.
So the store stays small (a sensor's cursor holds it) until something is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from coinstream.monitoring.cluster import TopicPartition
from coinstream.monitoring.evaluation import Commit, EvaluationRules, PartitionStatus, evaluate_partition

_SEPARATOR: Final = "/"
_TREND_POLLS: Final = 5


@dataclass(frozen=True)
class Observation:
    """What a poll saw of one partition. `alive`: a member holds it, or is about to (rebalance).

    `waiting_s` is the age of the oldest unhandled message, if it is known: it shows silence from before
    the first poll.
    """

    offset: int
    lag: int
    alive: bool
    waiting_s: float | None = None


@dataclass(frozen=True)
class Window:
    """History of a partition with lag: commits (oldest first), when it was last clear, and what is now."""

    commits: tuple[Commit, ...]
    last_clear: float | None
    polls: tuple[tuple[float, int], ...]
    """When, and how much lag: the last polls, for the trend."""


@dataclass(frozen=True)
class Evaluation:
    """A partition's verdict, and its trend in messages a second: positive grows, None is not known yet."""

    verdict: PartitionStatus
    trend: float | None


@dataclass
class GroupWindows:
    """The windows of one group. Not thread-safe: one monitor owns it."""

    rules: EvaluationRules = field(default_factory=EvaluationRules)
    windows: dict[TopicPartition, Window] = field(default_factory=dict)
    last_poll: float | None = None

    def observe(
        self, now: float, seen: Mapping[TopicPartition, Observation]
    ) -> dict[TopicPartition, Evaluation]:
        """Add a poll and evaluate each of its partitions. Deleted partitions are dropped."""
        judged = {place: self._observe(place, now, one) for place, one in seen.items()}
        self.windows = {place: window for place, window in self.windows.items() if place in seen}
        self.last_poll = now
        return judged

    def _observe(self, place: TopicPartition, now: float, seen: Observation) -> Evaluation:
        if seen.lag <= self.rules.allowed:
            self.windows.pop(place, None)
            return Evaluation(PartitionStatus.OK, 0.0)
        before = self.windows.get(place) or self._opened(seen, now)
        window = self._grown(before, Commit(now, seen.offset, seen.lag), alive=seen.alive)
        self.windows[place] = window
        verdict = evaluate_partition(window.commits, now, seen.lag, window.last_clear, self.rules)
        return Evaluation(verdict, _trend(window.polls))

    def _opened(self, seen: Observation, now: float) -> Window:
        if self.last_poll is not None:
            # It had no lag at the last poll, else there would be a window.
            clear = Commit(self.last_poll, seen.offset, 0)
            return Window((clear,), self.last_poll, ((self.last_poll, 0),))
        # Unhandled since long before anybody looked: whoever should handle it was silent as long.
        since = now if seen.alive else now - (seen.waiting_s or 0.0)
        return Window((Commit(since, seen.offset, seen.lag),), None, ())

    def _grown(self, window: Window, commit: Commit, *, alive: bool) -> Window:
        window = replace(window, polls=(*window.polls, (commit.at, commit.lag))[-_TREND_POLLS:])
        last = window.commits[-1]
        is_new = commit.offset != last.offset or (alive and commit.at > last.at)
        commits = (*window.commits, commit)[-self.rules.window :]
        return replace(window, commits=commits) if is_new else window

    def dump(self) -> dict[str, Any]:
        """As plain values for JSON."""
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
        """What `dump` wrote.

        Raises:
            ValueError, KeyError, TypeError: it is something else.
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
