"""The alert channels, as sensors are given them."""

import dagster as dg
from pydantic import Field

from coinstream.monitoring.alerts import Alert, AlertChannels
from coinstream.settings import AlertSettings


class AlertsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Sends alerts to the channels of `COINSTREAM_ALERTS`. The URLs hold secrets: environment only."""

    ui_url: str = Field(
        default=AlertSettings().ui_url,
        description="Where people reach this web UI; alerts link to it (COINSTREAM_UI_URL).",
    )

    def send(self, alert: Alert) -> int:
        """Send to every channel; how many there are.

        Raises:
            SettingsError: COINSTREAM_ALERTS holds a URL of no known form.
            AlertError: a channel failed; says which and how many were reached.
        """
        return AlertChannels().send(alert)

    def page(self, path: str) -> str:
        """Return the address of a page of the web UI."""
        return f"{self.ui_url.rstrip('/')}/{path.lstrip('/')}"
