"""The retry schedule: from 100 ms, doubling, with jitter, 8 times."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from coinstream.consumer.options import GroupOptions
from coinstream.consumer.retry import JITTER, RetrySchedule
from coinstream.settings import ConsumerSettings


def test_the_defaults_are_those_of_the_specification() -> None:
    schedule = GroupOptions().schedule(ConsumerSettings())
    assert (schedule.retries, schedule.first_ms) == (8, 100)
    delays = [schedule.delay_s(failures) for failures in range(1, 10)]
    assert delays[-1] is None
    for failures, delay in enumerate(delays[:-1]):
        assert delay is not None
        assert abs(delay - 0.1 * 2**failures) <= 0.1 * 2**failures * JITTER + 1e-9


@given(
    retries=st.integers(0, 2000),
    first_ms=st.floats(1, 10_000),
    longest_ms=st.floats(1, 60_000),
    failures=st.integers(1, 3000),
    seed=st.integers(),
)
def test_delays_stay_in_their_bounds(
    retries: int, first_ms: float, longest_ms: float, failures: int, seed: int
) -> None:
    schedule = RetrySchedule(retries, first_ms, longest_ms, random.Random(seed))
    delay = schedule.delay_s(failures)
    if failures > retries:
        assert delay is None
        return
    assert delay is not None
    bare = min(first_ms * 2 ** min(failures - 1, 60), longest_ms) / 1000
    assert bare * (1 - JITTER) * 0.999999 <= delay <= bare * (1 + JITTER) * 1.000001


def test_jitter_spreads() -> None:
    schedule = RetrySchedule(dice=random.Random(1))
    assert len({schedule.delay_s(1) for _ in range(20)}) > 10
