"""Provide the alert channels to sensors."""

import dagster as dg
from pydantic import Field

from coinstream.monitoring.alerts import Alert, AlertChannels
from coinstream.settings import AlertSettings


class AlertsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Alert channels of `COINSTREAM_ALERTS`, which contains secrets and is read from the environment."""

    ui_url: str = Field(
        default=AlertSettings().ui_url,
        description="URL of this web UI for links in alerts (COINSTREAM_UI_URL).",
    )

    def send(self, alert: Alert) -> int:
        """Send an alert to every channel; return the number of channels.

        Raises:
            SettingsError: COINSTREAM_ALERTS contains an invalid URL.
            AlertError: a channel failed; the message names it and the number of channels reached.
        """
        return AlertChannels().send(alert)

    def page(self, path: str) -> str:
        """Return the URL of a page of the web UI."""
        return f"{self.ui_url.rstrip('/')}/{path.lstrip('/')}"
