"""Test the supervisor's rules, and its ticks on a real instance."""

from __future__ import annotations

import time

import dagster as dg
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sensors.feeds
from coinstream.feeds.handover import Failures, FeedRun, Timing, counted, needs_run
from coinstream.feeds.registry import DEFAULT
from coinstream.settings import WatchSettings
from sensors.feeds import SUPERVISED, enabled_feeds, feed_supervisor

TIMING = Timing(run_s=100, handover_s=10, backoff_s=4, backoff_max_s=60)


def runs(*started: float) -> list[FeedRun]:
    return [FeedRun(f"r{at}", at) for at in started]


@pytest.mark.parametrize(
    ("alive", "now", "expected"),
    [
        ((), 1000, True),
        ((1000,), 1089, False),
        ((1000,), 1090, True),
        ((1000, 1090), 1099, False),
        ((1000, 1090), 1500, False),
        ((1090,), 1120, False),
    ],
    ids=["none", "runs", "ends soon", "handing over", "both linger", "successor alone"],
)
def test_one_run_and_its_successor(alive: tuple[float, ...], now: float, expected: bool) -> None:
    assert needs_run(runs(*alive), Failures(), now, TIMING) is expected


def test_crashes_wait_longer_and_longer() -> None:
    waits = [Failures(count, 0).wait(TIMING) for count in range(7)]
    assert waits == [0, 4, 8, 16, 32, 60, 60]
    assert not needs_run([], Failures(3, 1000), 1015, TIMING)
    assert needs_run([], Failures(3, 1000), 1016, TIMING)


def test_a_good_end_forgives() -> None:
    assert counted(Failures(), [(1, True), (2, True)], False) == Failures(2, 2)
    assert counted(Failures(5, 9), [(10, False)], False) == Failures()
    assert counted(Failures(5, 9), [], True) == Failures()


@given(st.integers(1, 400), st.lists(st.integers(0, 400), max_size=4))
def test_a_feed_is_never_without_a_run_and_never_has_three(every: int, crashes: list[int]) -> None:
    """A simulated hour: the supervisor ticks every `every` tenths of a second."""
    alive: list[FeedRun] = []
    failures, most = Failures(), 0
    for number in range(36_000 // every):
        now = number * every / 10
        ended = [run for run in alive if now >= run.started + TIMING.run_s]
        alive = [run for run in alive if run not in ended]
        failures = counted(failures, [(now, False) for _ in ended], False)
        if alive and number in crashes:
            alive.pop()
            failures = counted(failures, [(now, True)], False)
        if needs_run(alive, failures, now, TIMING):
            alive.append(FeedRun("r", now))
        most = max(most, len(alive))
        assert alive or now < failures.at + failures.wait(TIMING)
    assert most <= 2


def tick(instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult:
    result = feed_supervisor(dg.build_sensor_context(instance=instance, cursor=cursor))
    assert isinstance(result, dg.SensorResult)
    return result


def set_run(instance: dg.DagsterInstance, status: dg.DagsterRunStatus, feed: str = DEFAULT) -> str:
    @dg.job(name="run_feed")
    def job() -> None:
        """Stands for the feed's job: only its runs' records matter here."""

    return instance.create_run_for_job(job, status=status, tags={SUPERVISED: feed}).run_id


def test_a_feed_without_a_run_gets_one_and_only_one(instance: dg.DagsterInstance) -> None:
    first = tick(instance)
    (request,) = first.run_requests or []
    assert request.partition_key == DEFAULT
    assert request.tags[SUPERVISED] == DEFAULT
    set_run(instance, dg.DagsterRunStatus.STARTED)
    assert not tick(instance, first.cursor).run_requests


def test_runs_of_others_do_not_count(instance: dg.DagsterInstance) -> None:
    set_run(instance, dg.DagsterRunStatus.STARTED, feed="other")
    assert tick(instance).run_requests


def test_a_crashed_feed_is_started_again_after_a_wait(
    instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = tick(instance)
    run_id = set_run(instance, dg.DagsterRunStatus.STARTED)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_failed(run, "the exchange is gone")
    second = tick(instance, first.cursor)
    assert not second.run_requests
    assert "1 crash(es)" in str(second.skip_reason)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + WatchSettings().feed_backoff_s + 1)
    assert tick(instance, second.cursor).run_requests


def test_the_run_is_one_that_the_job_accepts(instance: dg.DagsterInstance) -> None:
    from definitions import defs

    (request,) = tick(instance).run_requests or []
    job = defs.resolve_job_def("run_feed")
    dg.validate_run_config(job, request.run_config)


def test_a_feed_that_is_unknown_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sensors.feeds, "WATCH", WatchSettings(feeds=("nope",)))
    with pytest.raises(ValueError, match=r"COINSTREAM_WATCH_FEEDS names nope; the feeds are .*" + DEFAULT):
        enabled_feeds()
