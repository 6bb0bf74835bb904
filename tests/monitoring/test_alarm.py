"""Alarms are raised and cleared in turns, and flapping is not heard."""

import json

from hypothesis import given
from hypothesis import strategies as st

from coinstream.monitoring.alerts import Alarm, Change, Hysteresis

HYSTERESIS = Hysteresis(confirm=2, recover=3, memory_s=1000)


def run(observations: list[bool], alarm: Alarm | None = None, every: float = 10) -> list[Change]:
    alarm, changes = alarm or Alarm(), []
    for number, bad in enumerate(observations):
        alarm, change = alarm.step(bad, number * every, HYSTERESIS)
        changes.append(change)
    return changes


def heard(changes: list[Change]) -> list[Change]:
    return [change for change in changes if change is not Change.NONE]


def test_an_alarm_is_raised_once_and_cleared_once() -> None:
    changes = run([False, True, True, True, True, False, False, False, False])
    assert [number for number, change in enumerate(changes) if change is Change.RAISED] == [2]
    assert [number for number, change in enumerate(changes) if change is Change.CLEARED] == [7]


def test_since_is_the_first_bad_observation() -> None:
    alarm = Alarm()
    for number, bad in enumerate([True, False, True, True]):
        alarm, _ = alarm.step(bad, number * 10.0, HYSTERESIS)
    assert (alarm.raised, alarm.since) == (True, 20)


def test_single_bad_observations_are_not_heard() -> None:
    assert heard(run([True, False] * 30)) == []


def test_who_flaps_is_heard_less_and_less() -> None:
    bout = [True] * 3 + [False] * 3
    few, calm = heard(run(bout * 20)), heard(run(bout * 20, every=2000))
    assert len(few) < len(calm) == 40


@given(st.lists(st.booleans(), max_size=200), st.floats(0.1, 1000))
def test_alarms_and_recoveries_alternate(observations: list[bool], every: float) -> None:
    changes = heard(run(observations, every=every))
    assert changes == [Change.RAISED, Change.CLEARED] * (len(changes) // 2) + [Change.RAISED] * (
        len(changes) % 2
    )


@given(st.lists(st.booleans(), max_size=60), st.lists(st.booleans(), max_size=60))
def test_the_state_survives_a_restart(before: list[bool], after: list[bool]) -> None:
    alarm = Alarm()
    for number, bad in enumerate(before):
        alarm, _ = alarm.step(bad, number * 10.0, HYSTERESIS)
    loaded = Alarm.load(json.loads(json.dumps(alarm.dump())))
    assert loaded == alarm
    for number, bad in enumerate(after, start=len(before)):
        alarm, change = alarm.step(bad, number * 10.0, HYSTERESIS)
        loaded, same = loaded.step(bad, number * 10.0, HYSTERESIS)
        assert (loaded, same) == (alarm, change)


@given(st.lists(st.booleans(), max_size=60))
def test_what_stays_bad_is_always_heard_at_last(observations: list[bool]) -> None:
    changes = heard(run([*observations, *[True] * 40]))
    assert changes[-1] is Change.RAISED
