"""Burrow's rules, each with its own case and what holds for all."""

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.monitoring.evaluation import (
    Commit,
    EvaluationRules,
    PartitionStatus,
    evaluate_partition,
    worst,
)

RULES = EvaluationRules(window=4, allowed=0, silence_s=30)


def commits(*points: tuple[int, int], every: float = 10) -> list[Commit]:
    """Return commits of (offset, lag), ten seconds apart."""
    return [Commit(number * every, *point) for number, point in enumerate(points)]


def now_of(window: list[Commit], later: float = 5) -> float:
    return window[-1].at + later


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (((10, 5), (20, 7), (30, 7), (40, 9)), PartitionStatus.WARN),
        (((10, 5), (20, 7), (30, 6), (40, 9)), PartitionStatus.OK),
        (((10, 5), (10, 5), (10, 9), (10, 9)), PartitionStatus.STALL),
        (((10, 0), (10, 5), (10, 9), (10, 9)), PartitionStatus.OK),
        (((30, 5), (10, 25), (12, 24), (14, 23)), PartitionStatus.REWIND),
        (((30, 5), (10, 25), (40, 3), (50, 2)), PartitionStatus.OK),
        (((10, 5), (10, 5), (10, 5)), PartitionStatus.OK),
    ],
    ids=[
        "moves but never gains",
        "gains at times",
        "stands still",
        "was clear in the window",
        "went back",
        "went back and recovered",
        "too few commits to tell",
    ],
)
def test_a_living_group(points: tuple[tuple[int, int], ...], expected: PartitionStatus) -> None:
    window = commits(*points)
    assert evaluate_partition(window, now_of(window), points[-1][1], None, RULES) is expected


def test_silence_longer_than_the_window_is_a_stop() -> None:
    window = commits((10, 5), (20, 5), (30, 5), (40, 5))
    assert evaluate_partition(window, window[-1].at + 30, 5, None, RULES) is not PartitionStatus.STOP
    assert evaluate_partition(window, window[-1].at + 31, 5, None, RULES) is PartitionStatus.STOP


def test_a_stop_shows_even_if_the_window_holds_a_clear_commit() -> None:
    window = commits((10, 0), (20, 0), (30, 0), (40, 0))
    assert (
        evaluate_partition(window, window[-1].at + 100, 3, window[-1].at + 50, RULES) is PartitionStatus.STOP
    )


def test_messages_that_arrived_just_now_are_no_stop() -> None:
    window = commits((10, 0), (20, 0))
    now = window[-1].at + 1000
    assert evaluate_partition(window, now, 3, now - 10, RULES) is PartitionStatus.OK


def test_a_caught_up_group_that_is_reset_is_rewound() -> None:
    window = commits((100, 0), (100, 0), (0, 100))
    assert evaluate_partition(window, now_of(window), 100, window[1].at, RULES) is PartitionStatus.REWIND
    recovered = commits((100, 0), (0, 100), (110, 5))
    assert evaluate_partition(recovered, now_of(recovered), 5, None, RULES) is PartitionStatus.OK


windows = st.lists(st.tuples(st.integers(-3, 9), st.integers(0, 50)), min_size=1, max_size=12).map(
    lambda steps: commits(
        *zip(accumulate((step for step, _ in steps), initial=100), [lag for _, lag in steps], strict=False)
    )
)


@given(windows, st.floats(0, 1000), st.integers(0, 50), st.integers(0, 50))
def test_a_lag_that_is_allowed_is_ok_whatever_happened(
    window: list[Commit], later: float, lag: int, spare: int
) -> None:
    rules = EvaluationRules(window=4, allowed=lag + spare)
    assert evaluate_partition(window, now_of(window, later), lag, None, rules) is PartitionStatus.OK


@given(windows, st.integers(1, 50))
def test_a_window_with_a_clear_commit_is_ok_or_stopped(window: list[Commit], lag: int) -> None:
    highest = max(commit.offset for commit in window)
    window = [*window, Commit(window[-1].at + 1, highest, 0)]
    assert evaluate_partition(window, now_of(window, 1), lag, None, RULES) is PartitionStatus.OK
    assert evaluate_partition(window, now_of(window, 10_000), lag, None, RULES) is PartitionStatus.STOP


@given(windows, st.integers(1, 50))
def test_only_the_window_counts(window: list[Commit], lag: int) -> None:
    shown = evaluate_partition(window, now_of(window), lag, None, RULES)
    assert evaluate_partition(window[-RULES.window :], now_of(window), lag, None, RULES) is shown


@given(windows, st.integers(1, 50))
def test_who_only_gains_is_never_warned_of(window: list[Commit], lag: int) -> None:
    gaining = [Commit(commit.at, 100 + number, 500 - number) for number, commit in enumerate(window, start=1)]
    assert evaluate_partition(gaining, now_of(gaining), lag, None, RULES) is PartitionStatus.OK


@given(st.lists(st.sampled_from(list(PartitionStatus))))
def test_one_bad_partition_decides(statuses: list[PartitionStatus]) -> None:
    order = [
        PartitionStatus.OK,
        PartitionStatus.WARN,
        PartitionStatus.REWIND,
        PartitionStatus.STALL,
        PartitionStatus.STOP,
    ]
    assert worst(statuses) is order[max((order.index(status) for status in statuses), default=0)]
