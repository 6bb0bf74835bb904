"""Raise and clear the alarms of consumer groups, and write their alerts."""

from __future__ import annotations

from collections.abc import Iterable

from coinstream.monitoring.alarm import Alarm, Change
from coinstream.monitoring.alerts import Alert, Kind
from coinstream.monitoring.group_evaluation import GroupEvaluation, GroupStatus, evaluate_group
from coinstream.monitoring.group_lag import GroupLag, PartitionLag
from coinstream.monitoring.runbook import section_of
from coinstream.monitoring.sensor_cursor import SensorCursor
from coinstream.monitoring.status import Status
from coinstream.settings import LagSettings

_SAYS = {
    GroupStatus.STOP: "has stopped",
    GroupStatus.STALL: "stands still",
    GroupStatus.REWIND: "went back",
    GroupStatus.BEHIND: "falls behind",
}


def update_alarms(
    cursor: SensorCursor, groups: Iterable[GroupLag], settings: LagSettings, ui: str
) -> list[GroupLag]:
    """Add a measurement to the alarms and announce what changed.

    An alarm is raised while `evaluate_group` finds a group unhealthy, and cleared once it is healthy again.

    Returns:
        The groups whose alarm was raised by this measurement.
    """
    raised, seen = [], set()
    for lag in groups:
        seen.add(lag.group)
        found = evaluate_group(lag, settings)
        known = cursor.alarms.get(lag.group, Alarm())
        bad = found.is_alarming or (known.raised and found.health is not Status.HEALTHY)
        alarm, change = cursor.observe(lag.group, bad=bad, now=lag.at)
        if change is Change.RAISED:
            raised.append(lag)
            cursor.announce(_raised(lag, found, alarm, ui))
        elif change is Change.CLEARED:
            cursor.announce(_cleared(lag, found, alarm, ui))
    cursor.gone(cursor.alarms.keys() - seen)
    return raised


def worst_partition(lag: GroupLag) -> PartitionLag:
    """Return the partition with the most unhandled messages."""
    return max(lag.partitions, key=lambda part: part.messages)


def run_key(lag: GroupLag) -> str:
    """Return the key of a landing run: group, topic, partition and range of offsets."""
    part = worst_partition(lag)
    return f"landing/{lag.group}/{part.topic}/{part.partition}/{part.start}-{part.high}"


def _raised(lag: GroupLag, found: GroupEvaluation, alarm: Alarm, ui: str) -> Alert:
    says = _SAYS.get(found.status, "is unhealthy")
    return Alert(
        Kind.FAILURE,
        f"group {lag.group} {says} on {', '.join(lag.topics)}",
        alarm.since or lag.at,
        f"{found.status}: {found.detail}; {_amount(lag)}",
        _where(lag, found.status, ui),
    )


def _cleared(lag: GroupLag, found: GroupEvaluation, alarm: Alarm, ui: str) -> Alert:
    lasted = lag.at - (alarm.since or lag.at)
    return Alert(
        Kind.RECOVERY,
        f"group {lag.group} keeps up again on {', '.join(lag.topics)}",
        alarm.since or lag.at,
        f"it lasted {lasted:.0f} s; now {found.status}: {found.detail}; {_amount(lag)}",
        _where(lag, found.status, ui),
    )


def _amount(lag: GroupLag) -> str:
    age = "of unknown age" if lag.seconds is None else f"the oldest {lag.seconds:.0f} s old"
    text = f"{lag.messages:,} message(s) unhandled, {age}; {lag.members} member(s), {lag.state.lower()}"
    if lag.trend is not None and lag.messages:
        text += f"; {lag.trend:+,.1f} messages/s"
    if not lag.messages:
        return text
    part = worst_partition(lag)
    text += f"; most on {part.topic} partition {part.partition}: {part.messages:,} from {part.start}"
    return f"{text} ({part.remark})" if part.remark else text


def _where(lag: GroupLag, status: GroupStatus, ui: str) -> tuple[str, ...]:
    pages = [f"{ui}/assets/topics/{topic}" for topic in lag.topics[:3]]
    return (f"coinstream lag {lag.group}", section_of(status).address, *pages)
