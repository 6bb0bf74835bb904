"""Test the windows of observations: statuses and trends from polls."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coinstream.monitoring.cluster import Watermarks
from coinstream.monitoring.evaluation import (
    EvaluationRules,
    GroupWindows,
    Observation,
    PartitionStatus,
    WatermarkHistory,
)

P0, P1 = ("t", 0), ("a/b.c-d", 11)
RULES = EvaluationRules(window=4, silence_s=30)


def poll(windows: GroupWindows, at: float, offset: int, lag: int, *, alive: bool = True) -> PartitionStatus:
    return windows.observe(at, {P0: Observation(offset, lag, alive)})[P0].status


def test_a_consumer_that_dies_is_stopped_after_the_silence() -> None:
    windows = GroupWindows(RULES)
    for second in range(0, 60, 10):
        poll(windows, second, 10 + second, 0)
    shown = [poll(windows, 60 + second, 60, second + 1, alive=False) for second in range(0, 60, 10)]
    assert shown[0] is PartitionStatus.OK
    assert shown[-1] is PartitionStatus.STOP
    assert poll(windows, 130, 121, 0) is PartitionStatus.OK
    assert len(windows.windows[P0].commits) == 1, "a partition without lag keeps its last commit only"


def test_a_stuck_handler_is_a_stall_once_the_window_is_full() -> None:
    windows = GroupWindows(RULES)
    poll(windows, 0, 50, 0)
    shown = [poll(windows, 10 * number, 50, 5 * number) for number in range(1, 8)]
    assert shown[0] is PartitionStatus.OK
    assert shown[-1] is PartitionStatus.STALL


def test_the_age_of_the_oldest_message_tells_of_silence_before_the_first_poll() -> None:
    quiet = GroupWindows(RULES).observe(1000, {P0: Observation(5, 7, False, waiting_s=31)})
    fresh = GroupWindows(RULES).observe(1000, {P0: Observation(5, 7, False, waiting_s=3)})
    living = GroupWindows(RULES).observe(1000, {P0: Observation(5, 7, True, waiting_s=31)})
    assert [quiet[P0].status, fresh[P0].status, living[P0].status] == [
        PartitionStatus.STOP,
        PartitionStatus.OK,
        PartitionStatus.OK,
    ]


def test_the_trend_is_messages_a_second() -> None:
    windows = GroupWindows(RULES)
    assert windows.observe(0, {P0: Observation(5, 10, True)})[P0].trend is None
    assert windows.observe(10, {P0: Observation(5, 30, True)})[P0].trend == pytest.approx(2.0)
    assert windows.observe(20, {P0: Observation(30, 10, True)})[P0].trend == pytest.approx(0.0)


def test_partitions_that_are_gone_are_forgotten() -> None:
    windows = GroupWindows(RULES)
    windows.observe(0, {P0: Observation(5, 10, True), P1: Observation(5, 10, True)})
    windows.observe(1, {P1: Observation(5, 10, True)})
    assert set(windows.windows) == {P1}


polls = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 20), st.booleans()), min_size=1, max_size=20)


@given(polls, polls)
def test_a_restart_between_polls_changes_nothing(
    before: list[tuple[int, int, bool]], after: list[tuple[int, int, bool]]
) -> None:
    kept = GroupWindows(RULES)
    for number, (offset, lag, alive) in enumerate(before):
        kept.observe(number * 10, {P1: Observation(offset, lag, alive)})
    loaded = GroupWindows.load(json.loads(json.dumps(kept.dump())), RULES)
    for number, (offset, lag, alive) in enumerate(after, start=len(before)):
        seen = {P1: Observation(offset, lag, alive)}
        assert loaded.observe(number * 10, seen) == kept.observe(number * 10, seen)


def marks(high: int) -> dict[tuple[str, int], Watermarks]:
    return {P0: Watermarks(0, high)}


def test_growth_tells_when_a_record_was_appended() -> None:
    history = WatermarkHistory()
    for at, high in ((0, 100), (10, 100), (20, 100), (30, 200), (40, 200)):
        history.observe(at, marks(high))
    assert history.passed(P0, 99) is None
    assert history.passed(P0, 100) == pytest.approx(20.1)
    assert history.passed(P0, 149) == pytest.approx(25)
    assert history.passed(P0, 199) == pytest.approx(30)
    assert history.passed(("other", 0), 3) is None


@given(st.lists(st.integers(0, 50), min_size=2, max_size=40))
def test_growth_is_never_later_than_the_sight_of_it(steps: list[int]) -> None:
    history, end, first_seen = WatermarkHistory(), 0, dict[int, float]()
    for at, step in enumerate(steps):
        for offset in range(end, end + step):
            first_seen[offset] = at
        end += step
        history.observe(at, marks(end))
    for offset, seen in first_seen.items():
        passed = history.passed(P0, offset)
        assert passed is None or seen - 1 <= passed <= seen


def test_a_topic_made_anew_starts_a_new_history() -> None:
    history = WatermarkHistory()
    history.observe(0, marks(500))
    history.observe(10, marks(5))
    history.observe(20, marks(15))
    assert history.passed(P0, 400) == 20
    assert history.rate(P0) == pytest.approx(1.0)
