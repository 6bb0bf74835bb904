"""Test the retry schedule: exponential backoff from 100 ms with jitter, 8 retries."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from coinstream.consumer.handling import JITTER, GroupOptions, RetrySchedule
from coinstream.settings import ConsumerSettings


def test_the_defaults_are_those_of_the_specification() -> None:
    schedule = GroupOptions().schedule(ConsumerSettings())
    assert (schedule.retries, schedule.initial_ms) == (8, 100)
    delays = [schedule.delay_s(failures) for failures in range(1, 10)]
    assert delays[-1] is None
    for failures, delay in enumerate(delays[:-1]):
        assert delay is not None
        assert abs(delay - 0.1 * 2**failures) <= 0.1 * 2**failures * JITTER + 1e-9


@given(
    retries=st.integers(0, 2000),
    initial_ms=st.floats(1, 10_000),
    max_delay_ms=st.floats(1, 60_000),
    failures=st.integers(1, 3000),
    seed=st.integers(),
)
def test_delays_stay_in_their_bounds(
    retries: int, initial_ms: float, max_delay_ms: float, failures: int, seed: int
) -> None:
    schedule = RetrySchedule(retries, initial_ms, max_delay_ms, random.Random(seed))
    delay = schedule.delay_s(failures)
    if failures > retries:
        assert delay is None
        return
    assert delay is not None
    bare = min(initial_ms * 2 ** min(failures - 1, 60), max_delay_ms) / 1000
    assert bare * (1 - JITTER) * 0.999999 <= delay <= bare * (1 + JITTER) * 1.000001


def test_jitter_spreads() -> None:
    schedule = RetrySchedule(rng=random.Random(1))
    assert len({schedule.delay_s(1) for _ in range(20)}) > 10
