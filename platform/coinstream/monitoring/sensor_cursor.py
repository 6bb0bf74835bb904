"""What a watching sensor remembers between ticks: alarms, alerts that did not get out, notes of its own."""

from __future__ import annotations

import base64
import json
import logging
import zlib
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from coinstream.errors import CoinstreamError
from coinstream.monitoring.alarm import Alarm, Change, Hysteresis
from coinstream.monitoring.alerts import Alert, AlertError
from coinstream.settings import WatchSettings

_PENDING_KEPT: Final = 50
_LARGE: Final = 10_000
_COMPRESSED: Final = "z:"


class Sender(Protocol):
    """Where alerts go: `resources.alerts.AlertsResource`."""

    def send(self, alert: Alert) -> int:
        """Send to every channel, or raise."""
        ...


def hysteresis(settings: WatchSettings) -> Hysteresis:
    """How many ticks convince, as the settings say."""
    return Hysteresis(settings.confirm, settings.recover)


@dataclass
class SensorCursor:
    """The cursor of one sensor, taken apart."""

    hysteresis: Hysteresis
    alarms: dict[str, Alarm] = field(default_factory=dict)
    pending: list[Alert] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    """What else the sensor keeps; plain values."""

    @classmethod
    def load(cls, cursor: str | None, hysteresis: Hysteresis, log: logging.Logger) -> SensorCursor:
        """From a cursor. One that cannot be read (another release wrote it) starts anew, with a warning."""
        if not cursor:
            return cls(hysteresis)
        try:
            told = json.loads(_unpacked(cursor))
            return cls(
                hysteresis,
                {name: Alarm.load(alarm) for name, alarm in told["alarms"].items()},
                [Alert.load(alert) for alert in told["pending"]],
                dict(told["notes"]),
            )
        except (ValueError, TypeError, KeyError, AttributeError, zlib.error) as error:
            log.warning("The cursor cannot be read (%s: %s): starting anew.", type(error).__name__, error)
            return cls(hysteresis)

    def dump(self, now: float) -> str:
        """As a cursor, without what is not worth remembering."""
        aged = {name: alarm.aged(now, self.hysteresis) for name, alarm in self.alarms.items()}
        text = json.dumps(
            {
                "alarms": {name: alarm.dump() for name, alarm in aged.items() if not alarm.is_idle},
                "pending": [alert.dump() for alert in self.pending],
                "notes": self.notes,
            },
            separators=(",", ":"),
        )
        return _packed(text)

    def observe(self, subject: str, *, bad: bool, now: float) -> tuple[Alarm, Change]:
        """Take an observation of a subject in: its alarm before it was cleared, and what changed."""
        before = self.alarms.get(subject, Alarm())
        after, change = before.step(bad, now, self.hysteresis)
        self.alarms[subject] = after
        return (before if change is Change.CLEARED else after), change

    def gone(self, subjects: set[str]) -> None:
        """Forget subjects that do not exist any more."""
        for subject in subjects:
            self.alarms.pop(subject, None)

    def announce(self, alert: Alert) -> None:
        """Have an alert sent by the next `deliver`."""
        self.pending = [*self.pending, alert][-_PENDING_KEPT:]

    def deliver(self, sender: Sender, log: logging.Logger) -> None:
        """Send what waits, and note it in the tick's log. What reaches no channel waits for the next tick."""
        waiting, self.pending = self.pending, []
        for number, alert in enumerate(waiting):
            log.warning("%s\n%s", alert.title, alert.body)
            try:
                sender.send(alert)
            except AlertError as error:
                log.error("%s", error)
                if not error.delivered:
                    # The channels are down: do not spend the tick on waiting for each of the others too.
                    self.pending = waiting[number:]
                    return
            except CoinstreamError as error:
                log.error("%s", error)
                self.pending = waiting[number:]
                return


def _packed(text: str) -> str:
    """Every tick is stored with its cursor: a large one, as of a lag on all partitions, is compressed."""
    if len(text) < _LARGE:
        return text
    return _COMPRESSED + base64.b64encode(zlib.compress(text.encode())).decode()


def _unpacked(cursor: str) -> str:
    if not cursor.startswith(_COMPRESSED):
        return cursor
    return zlib.decompress(base64.b64decode(cursor.removeprefix(_COMPRESSED))).decode()
