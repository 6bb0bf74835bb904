"""Raise and clear the alarms of consumer groups, store them between ticks, and deliver alerts."""

from __future__ import annotations

import base64
import json
import logging
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, Protocol

from coinstream.errors import CoinstreamError
from coinstream.monitoring.alerts import Alarm, Alert, AlertError, Change, Hysteresis, Kind
from coinstream.monitoring.group_lag import (
    GroupEvaluation,
    GroupLag,
    GroupStatus,
    PartitionLag,
    Status,
    evaluate_group,
)
from coinstream.settings import AlertSettings, LagSettings, WatchSettings


class Section(StrEnum):
    """Sections of the runbook linked in alerts; the values are the anchors."""

    GROUP_STOPPED = "a-group-has-stopped"
    GROUP_STALLED = "a-group-stands-still"
    GROUP_REWOUND = "a-group-went-back"
    GROUP_BEHIND = "a-group-falls-behind"
    CLUSTER = "the-cluster-is-unhealthy"
    PRODUCER = "the-producer-is-unhealthy"
    RUN = "a-run-failed"
    AUTOMATION = "a-sensor-or-schedule-failed"

    @property
    def address(self) -> str:
        """Return the URL of the section."""
        return f"{AlertSettings().runbook_address}#{self.value}"


def section_of(status: GroupStatus) -> Section:
    """Return the runbook section of a group status."""
    return {
        GroupStatus.STOP: Section.GROUP_STOPPED,
        GroupStatus.STALL: Section.GROUP_STALLED,
        GroupStatus.REWIND: Section.GROUP_REWOUND,
    }.get(status, Section.GROUP_BEHIND)


_PENDING_KEPT: Final = 50
"""Alerts that a cursor stores while they reach no channel; Dagster stores the cursor with every tick."""
_LARGE: Final = 500
_COMPRESSED: Final = "z:"


class Sender(Protocol):
    """Sender of alerts, for example `resources.alerts.AlertsResource`."""

    def send(self, alert: Alert) -> int:
        """Send an alert to every channel, or raise."""
        ...


def hysteresis(settings: WatchSettings) -> Hysteresis:
    """Return the hysteresis of the settings."""
    return Hysteresis(settings.confirm, settings.recover)


@dataclass
class SensorCursor:
    """Decoded cursor of one sensor."""

    hysteresis: Hysteresis
    alarms: dict[str, Alarm] = field(default_factory=dict)
    pending: list[Alert] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    """Further state of the sensor as plain values."""
    dropped: int = 0
    """Number of alerts that reached no channel and were not stored. It is sent before the next alert."""

    @classmethod
    def load(cls, cursor: str | None, hysteresis: Hysteresis, log: logging.Logger) -> SensorCursor:
        """Decode a cursor. An unreadable one, for example of another release, is reset with a warning."""
        if not cursor:
            return cls(hysteresis)
        try:
            told = json.loads(_unpacked(cursor))
            return cls(
                hysteresis,
                {name: Alarm.load(alarm) for name, alarm in told["alarms"].items()},
                [Alert.load(alert) for alert in told["pending"]],
                dict(told["notes"]),
                told.get("dropped", 0),
            )
        except (ValueError, TypeError, KeyError, AttributeError, zlib.error) as error:
            log.warning("The cursor cannot be read (%s: %s) and is reset.", type(error).__name__, error)
            return cls(hysteresis)

    def dump(self, now: float) -> str:
        """Encode the cursor, without idle alarms."""
        aged = {name: alarm.aged(now, self.hysteresis) for name, alarm in self.alarms.items()}
        text = json.dumps(
            {
                "alarms": {name: alarm.dump() for name, alarm in aged.items() if not alarm.is_idle},
                "pending": [alert.dump() for alert in self.pending],
                "notes": self.notes,
                "dropped": self.dropped,
            },
            separators=(",", ":"),
        )
        return _packed(text)

    def observe(self, subject: str, *, bad: bool, now: float) -> tuple[Alarm, Change]:
        """Add an observation of a subject; return its alarm before it was cleared, and the change."""
        before = self.alarms.get(subject, Alarm())
        after, change = before.step(bad, now, self.hysteresis)
        self.alarms[subject] = after
        return (before if change is Change.CLEARED else after), change

    def gone(self, subjects: set[str]) -> None:
        """Remove subjects that no longer exist."""
        for subject in subjects:
            self.alarms.pop(subject, None)

    def announce(self, alert: Alert) -> None:
        """Queue an alert for the next `deliver`."""
        self.pending.append(alert)

    def deliver(self, sender: Sender, log: logging.Logger) -> None:
        """Send queued alerts and log them.

        Alerts that reach no channel are kept for the next tick, at most 50. Older ones are logged, and their
        number is sent as soon as a channel is reached.
        """
        waiting, self.pending = self.pending, []
        if waiting and self.dropped:
            if not _is_sent(_dropped(self.dropped, waiting[0].since), sender, log):
                self._keep(waiting, log)
                return
            self.dropped = 0
        for number, alert in enumerate(waiting):
            if not _is_sent(alert, sender, log):
                # The channels are down: do not wait for the remaining alerts.
                self._keep(waiting[number:], log)
                return

    def _keep(self, unsent: list[Alert], log: logging.Logger) -> None:
        self.pending = unsent[-_PENDING_KEPT:]
        for alert in unsent[:-_PENDING_KEPT]:
            self.dropped += 1
            log.error("dropped, because no channel was reached: %s\n%s", alert.title, alert.body)


def _is_sent(alert: Alert, sender: Sender, log: logging.Logger) -> bool:
    """Send and log an alert; return whether it reached a channel, or there is none."""
    log.warning("%s\n%s", alert.title, alert.body)
    try:
        sender.send(alert)
    except CoinstreamError as error:
        log.error("%s", error)
        return isinstance(error, AlertError) and error.delivered > 0
    return True


def _dropped(count: int, since: float) -> Alert:
    return Alert(
        Kind.FAILURE,
        f"{count} earlier alert(s) reached no channel and were dropped",
        since,
        f"{count} alert(s); the log of the sensor's ticks has them",
        ("coinstream health", "coinstream lag"),
    )


def _packed(text: str) -> str:
    """Compress a large cursor, because Dagster stores it with every tick."""
    if len(text) < _LARGE:
        return text
    # In lines, so that the web UI can wrap it.
    return _COMPRESSED + base64.encodebytes(zlib.compress(text.encode())).decode()


def _unpacked(cursor: str) -> str:
    if not cursor.startswith(_COMPRESSED):
        return cursor
    return zlib.decompress(base64.b64decode(cursor.removeprefix(_COMPRESSED))).decode()


_SAYS = {
    GroupStatus.STOP: "has stopped",
    GroupStatus.STALL: "stands still",
    GroupStatus.REWIND: "went back",
    GroupStatus.BEHIND: "falls behind",
}


def update_alarms(
    cursor: SensorCursor, groups: Iterable[GroupLag], settings: LagSettings, ui: str
) -> list[GroupLag]:
    """Add a measurement to the alarms and queue alerts of changes.

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
