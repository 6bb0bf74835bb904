"""From lag to alarms: which group is in trouble, what people are told, which range the catch-up lands."""

from __future__ import annotations

from collections.abc import Iterable

from coinstream.monitoring.alarm import Alarm, Change
from coinstream.monitoring.alerts import Alert, Kind
from coinstream.monitoring.evaluation import PartitionStatus
from coinstream.monitoring.lag import GroupLag, PartitionLag
from coinstream.monitoring.runbook import section_of
from coinstream.monitoring.topic_report import is_alarming, is_far_behind
from coinstream.settings import LagSettings
from sensors.state import SensorCursor

_SAYS = {
    PartitionStatus.STOP: "has stopped",
    PartitionStatus.STALL: "stands still",
    PartitionStatus.REWIND: "went back",
}


def is_in_trouble(lag: GroupLag, settings: LagSettings, *, raised: bool) -> bool:
    """Whether a group is in trouble. Once raised, it is out of it only well below the threshold."""
    far = is_far_behind(lag.group, lag.messages, lag.seconds, settings, raised=raised)
    return far or is_alarming(lag.verdict)


def watch_groups(
    state: SensorCursor, groups: Iterable[GroupLag], settings: LagSettings, ui: str
) -> list[GroupLag]:
    """Take a measurement in, announce what changed; the groups whose alarm was raised just now."""
    raised, seen = [], set()
    for lag in groups:
        seen.add(lag.group)
        known = state.alarms.get(lag.group, Alarm())
        bad = is_in_trouble(lag, settings, raised=known.raised)
        alarm, change = state.observe(lag.group, bad=bad, now=lag.at)
        if change is Change.RAISED:
            raised.append(lag)
            state.announce(_raised(lag, alarm, ui))
        elif change is Change.CLEARED:
            state.announce(_cleared(lag, alarm, ui))
    state.gone(state.alarms.keys() - seen)
    return raised


def worst_partition(lag: GroupLag) -> PartitionLag:
    """The partition with the most unhandled messages."""
    return max(lag.partitions, key=lambda part: part.messages)


def run_key(lag: GroupLag) -> str:
    """Names what the catch-up is for: group, topic, partition and range of offsets."""
    part = worst_partition(lag)
    return f"catch-up/{lag.group}/{part.topic}/{part.partition}/{part.start}-{part.high}"


def _raised(lag: GroupLag, alarm: Alarm, ui: str) -> Alert:
    since = alarm.since or lag.at
    says = _SAYS.get(lag.verdict, "falls behind")
    return Alert(
        Kind.FAILURE,
        f"group {lag.group} {says} on {', '.join(lag.topics)}",
        since,
        _amount(lag),
        _where(lag, ui),
    )


def _cleared(lag: GroupLag, alarm: Alarm, ui: str) -> Alert:
    lasted = lag.at - (alarm.since or lag.at)
    return Alert(
        Kind.RECOVERY,
        f"group {lag.group} keeps up again on {', '.join(lag.topics)}",
        alarm.since or lag.at,
        f"it lasted {lasted:.0f} s; now {_amount(lag)}",
        _where(lag, ui),
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


def _where(lag: GroupLag, ui: str) -> tuple[str, ...]:
    pages = [f"{ui}/assets/topics/{topic}" for topic in lag.topics[:3]]
    return (f"coinstream lag {lag.group}", section_of(lag.verdict).address, *pages)
