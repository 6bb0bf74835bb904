"""Raise alarms with hysteresis, and send alerts through apprise.

The channels are URLs in `COINSTREAM_ALERTS` (see https://appriseit.com/services), separated by commas or
spaces. They contain tokens, so they are never logged or shown.
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
    """Change of an alarm by an observation."""

    NONE = "none"
    RAISED = "raised"
    CLEARED = "cleared"


@dataclass(frozen=True)
class Hysteresis:
    """Number of consecutive observations that raise or clear an alarm.

    Attributes:
        confirm: unhealthy observations that raise an alarm; doubles with each alarm of the last `memory_s`
            seconds.
        recover: healthy observations that clear an alarm.
        memory_s: time for which past alarms count, in seconds.
    """

    confirm: int = 2
    recover: int = 2
    memory_s: float = 3_600.0


@dataclass(frozen=True)
class Alarm:
    """Alarm of one subject. `since` is the time of the first unhealthy observation in Unix seconds."""

    raised: bool = False
    streak: int = 0
    since: float | None = None
    raises: tuple[float, ...] = ()

    def step(self, bad: bool, now: float, hysteresis: Hysteresis) -> tuple[Alarm, Change]:
        """Return the alarm after an observation, and its change."""
        if bad == self.raised:
            # The observation confirms the state and ends a series of contrary ones.
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
        """Return whether the alarm has no state worth storing."""
        return not self.raised and not self.streak and not self.raises

    def aged(self, now: float, hysteresis: Hysteresis) -> Alarm:
        """Return the alarm without past alarms older than `memory_s`."""
        return replace(self, raises=self._recent(now, hysteresis))

    def dump(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Alarm:
        """Restore the result of `dump`.

        Raises:
            TypeError, KeyError: the values have another form.
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
    """An alert did not reach every channel. `delivered` is the number of channels reached."""

    def __init__(self, message: str, delivered: int) -> None:
        super().__init__(message)
        self.delivered = delivered


class Kind(StrEnum):
    """Kind of an alert; the values are apprise's notification types."""

    FAILURE = "failure"
    WARNING = "warning"
    RECOVERY = "success"


@dataclass(frozen=True)
class Alert:
    """Text of an alert. `since` is in Unix seconds; `where` lists helpful commands and pages."""

    kind: Kind
    what: str
    since: float
    how_much: str
    where: tuple[str, ...]

    @property
    def title(self) -> str:
        """Return a one-line summary."""
        mark = "Recovered" if self.kind is Kind.RECOVERY else "Alert"
        return f"[coinstream] {mark}: {self.what}"

    @property
    def body(self) -> str:
        """Return the text: what, since when, how much, where to look."""
        since = datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        look = "\n".join(f"- {place}" for place in self.where)
        return f"What: {self.what}\nSince: {since}\nHow much: {self.how_much}\nWhere to look:\n{look}"

    def dump(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def load(cls, dumped: dict[str, Any]) -> Alert:
        """Restore the result of `dump`.

        Raises:
            TypeError, KeyError, ValueError: the values have another form.
        """
        return cls(**{**dumped, "kind": Kind(dumped["kind"]), "where": tuple(dumped["where"])})


class AlertChannels:
    """Configured alert channels, which are notified concurrently with a short timeout.

    Raises:
        SettingsError: a URL is invalid; the message contains its number, not its content.
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
        """Send an alert to every channel.

        Returns:
            The number of channels, which may be 0.

        Raises:
            AlertError: a channel failed; the message names it without secrets. The others were notified.
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


def alerts_as_text(alerts: Sequence[Alert]) -> str:
    """Return the titles of alerts for a log line."""
    return "; ".join(alert.title for alert in alerts)


def _channel(number: int, url: str) -> NotifyBase:
    from apprise import Apprise

    made = Apprise.instantiate(url, suppress_exceptions=True)
    if made is None:
        raise SettingsError(
            f"COINSTREAM_ALERTS: URL number {number} is not a valid apprise URL. "
            "See https://appriseit.com/services for the supported forms."
        )
    made.socket_connect_timeout = made.socket_read_timeout = _TIMEOUT_S
    return made


def _notify(channel: NotifyBase, alert: Alert) -> str:
    """Notify a channel; return the error, or an empty string."""
    shown: str = channel.url(privacy=True)  # type: ignore[no-untyped-call]
    name = f"{channel.service_name} ({shown.split('?')[0]})"
    try:
        succeeded = channel.notify(title=alert.title, body=alert.body, notify_type=str(alert.kind))
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything; it must not stop the others.
        return f"{name}: {type(error).__name__}"
    return "" if succeeded else f"{name} refused or did not answer"
