"""Keep the observations behind the evaluation: per partition the last commits that polls saw.

A partition without lag keeps its last commit only, so that a later rewind is seen. The history is dropped
after a gap of five minutes without a poll: what happened meanwhile is not known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from coinstream.monitoring.evaluation import Commit, EvaluationRules, PartitionStatus, evaluate_partition
from coinstream.records import PartitionKey

_SEPARATOR: Final = "/"
_TREND_POLLS: Final = 5
_MAX_GAP_S: Final = 300.0


@dataclass(frozen=True)
class Observation:
    """One partition in one poll.

    Attributes:
        offset: the committed offset.
        lag: unhandled messages.
        alive: a member owns the partition, or the group rebalances.
        waiting_s: age of the oldest unhandled message, if known. It shows silence before the first poll.
    """

    offset: int
    lag: int
    alive: bool
    waiting_s: float | None = None


@dataclass(frozen=True)
class Window:
    """History of a partition: commits (oldest first), when it was last without lag, and the last polls."""

    commits: tuple[Commit, ...]
    last_clear: float | None
    polls: tuple[tuple[float, int], ...]
    """Time and lag of the last polls, for the trend."""


@dataclass(frozen=True)
class Evaluation:
    """Status of a partition, and its trend in messages per second: None until it was polled twice."""

    status: PartitionStatus
    trend: float | None


@dataclass
class GroupWindows:
    """The windows of one group. Not thread-safe: one monitor owns it."""

    rules: EvaluationRules = field(default_factory=EvaluationRules)
    windows: dict[PartitionKey, Window] = field(default_factory=dict)
    last_poll: float | None = None

    def observe(self, now: float, seen: Mapping[PartitionKey, Observation]) -> dict[PartitionKey, Evaluation]:
        """Add a poll and evaluate each of its partitions. Partitions that it lacks are dropped."""
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
            # A partition that the last poll did not have: without lag until then.
            clear = Commit(self.last_poll, seen.offset, 0)
            return Window((clear,), self.last_poll, ((self.last_poll, 0),))
        # The messages wait since before the first poll, and so long no commit was made for them.
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
        """Restore what `dump` returned.

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
