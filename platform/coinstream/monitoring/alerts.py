"""Sends alerts to people, through any channel that apprise knows: Slack, e-mail, PagerDuty, webhooks.

The channels are URLs in `COINSTREAM_ALERTS` (https://appriseit.com/services lists their forms), separated
by commas or spaces. They hold tokens, so they are never logged or shown.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from coinstream.errors import CoinstreamError, SettingsError
from coinstream.settings import AlertSettings

if TYPE_CHECKING:
    from apprise import NotifyBase

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
