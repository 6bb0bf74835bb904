"""Raise an alarm once however a measurement flaps, and send alerts through any channel that apprise knows.

The channels are URLs in `COINSTREAM_ALERTS` (https://appriseit.com/services lists their forms), separated
by commas or spaces. They hold tokens, so they are never logged or shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from coinstream.errors import CoinstreamError, SettingsError
from coinstream.settings import AlertSettings

if TYPE_CHECKING:
    from apprise import NotifyBase


_LONGEST_PATIENCE = 32


class Change(StrEnum):
    """What an observation changed."""

    NONE = "none"
    RAISED = "raised"
    CLEARED = "cleared"


@dataclass(frozen=True)
class Hysteresis:
    """How many observations in a row convince.

    Attributes:
        confirm: bad ones before an alarm is raised. Doubles with every alarm of the last `memory_s`
            seconds: who flaps must stay bad for longer to be heard again.
        recover: good ones before it is cleared.
        memory_s: for how long an alarm counts against its subject, in seconds.
    """

    confirm: int = 2
    recover: int = 2
    memory_s: float = 3_600.0


@dataclass(frozen=True)
class Alarm:
    """State of one subject. `since`: when it was first seen bad, seconds since the epoch."""

    raised: bool = False
    streak: int = 0
    since: float | None = None
    raises: tuple[float, ...] = ()

    def step(self, bad: bool, now: float, hysteresis: Hysteresis) -> tuple[Alarm, Change]:
        """Take an observation in."""
        if bad == self.raised:
            # What was expected: a streak to the contrary is broken.
            return replace(self, streak=0, since=self.since if self.raised else None), Change.NONE
        streak = self.streak + 1
        since = self.since if self.since is not None else now
        if streak < self._patience(now, hysteresis):
            return replace(self, streak=streak, since=since), Change.NONE
        if bad:
            recent = (*self._recent(now, hysteresis), now)
            return Alarm(True, 0, since, recent), Change.RAISED
        return Alarm(False, 0, None, self._recent(now, hysteresis)), Change.CLEARED

    @property
    def is_idle(self) -> bool:
        """Nothing to remember."""
        return not self.raised and not self.streak and not self.raises

    def aged(self, now: float, hysteresis: Hysteresis) -> Alarm:
        """Without the alarms that are too old to count."""
        return replace(self, raises=self._recent(now, hysteresis))

    def dump(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Alarm:
        """Return what `dump` wrote.

        Raises:
            TypeError, KeyError: it is something else.
        """
        return cls(**{**dumped, "raises": tuple(dumped["raises"])})

    def _patience(self, now: float, hysteresis: Hysteresis) -> int:
        if self.raised:
            return hysteresis.recover
        doubled = 1 << min(len(self._recent(now, hysteresis)), 5)
        return min(hysteresis.confirm * doubled, max(hysteresis.confirm, _LONGEST_PATIENCE))

    def _recent(self, now: float, hysteresis: Hysteresis) -> tuple[float, ...]:
        return tuple(at for at in self.raises if now - at <= hysteresis.memory_s)


_BETWEEN_URLS: Final = re.compile(r"[,\s]+(?=[A-Za-z0-9+.-]+://)")
_CHANNELS_AT_ONCE: Final = 8
_TIMEOUT_S: Final = 2.0


class AlertError(CoinstreamError):
    """An alert did not reach every channel. `delivered` says how many it did reach."""

    def __init__(self, message: str, delivered: int) -> None:
        super().__init__(message)
        self.delivered = delivered


class Kind(StrEnum):
    """What an alert is about; the values are apprise's."""

    FAILURE = "failure"
    WARNING = "warning"
    RECOVERY = "success"


@dataclass(frozen=True)
class Alert:
    """What people read. `since` in seconds since the epoch; `where` are commands and pages that help."""

    kind: Kind
    what: str
    since: float
    how_much: str
    where: tuple[str, ...]

    @property
    def title(self) -> str:
        """One line."""
        mark = "Recovered" if self.kind is Kind.RECOVERY else "Alert"
        return f"[coinstream] {mark}: {self.what}"

    @property
    def body(self) -> str:
        """What, since when, how much, where to look."""
        since = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        look = "\n".join(f"- {place}" for place in self.where)
        return f"What: {self.what}\nSince: {since}\nHow much: {self.how_much}\nWhere to look:\n{look}"

    def dump(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Alert:
        """Return what `dump` wrote.

        Raises:
            TypeError, KeyError, ValueError: it is something else.
        """
        return cls(**{**dumped, "kind": Kind(dumped["kind"]), "where": tuple(dumped["where"])})


class AlertChannels:
    """The configured channels. Sends to all of them at once, each with a short timeout.

    Raises:
        SettingsError: a URL cannot be read. Says which by its number, never what it holds.
    """

    def __init__(self, settings: AlertSettings | None = None) -> None:
        urls = (settings or AlertSettings()).alerts.get_secret_value().strip()
        self._channels: Final = [
            _channel(number, url.strip())
            for number, url in enumerate(_BETWEEN_URLS.split(urls) if urls else [], start=1)
        ]

    def __len__(self) -> int:
        return len(self._channels)

    def send(self, alert: Alert) -> int:
        """Send to every channel; how many there are. Without channels nothing is sent and it gives 0.

        Raises:
            AlertError: a channel failed. Names it without its secrets; the others have been served.
        """
        if not self._channels:
            return 0
        with ThreadPoolExecutor(_CHANNELS_AT_ONCE) as together:
            failures = [
                fault for fault in together.map(lambda one: _notify(one, alert), self._channels) if fault
            ]
        if failures:
            delivered = len(self._channels) - len(failures)
            raise AlertError(
                f"{alert.title!r} did not reach {len(failures)} of {len(self._channels)} alert channel(s): "
                + "; ".join(failures)
                + ". Check COINSTREAM_ALERTS.",
                delivered,
            )
        return len(self._channels)


def describe(alerts: Sequence[Alert]) -> str:
    """Return the titles, for a log line."""
    return "; ".join(alert.title for alert in alerts)


def _channel(number: int, url: str) -> NotifyBase:
    from apprise import Apprise

    made = Apprise.instantiate(url, suppress_exceptions=True)
    if made is None:
        raise SettingsError(
            f"COINSTREAM_ALERTS: URL number {number} is of no form that apprise knows. "
            "https://appriseit.com/services lists them."
        )
    made.socket_connect_timeout = made.socket_read_timeout = _TIMEOUT_S
    return made


def _notify(channel: NotifyBase, alert: Alert) -> str:
    """Why it failed; empty when it did not."""
    shown: str = channel.url(privacy=True)  # type: ignore[no-untyped-call]
    name = f"{channel.service_name} ({shown.split('?')[0]})"
    try:
        succeeded = channel.notify(title=alert.title, body=alert.body, notify_type=str(alert.kind))
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it must not stop the others.
        return f"{name}: {type(error).__name__}"
    return "" if succeeded else f"{name} refused or did not answer"
