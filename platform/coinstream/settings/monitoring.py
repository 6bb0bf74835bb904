"""Define the settings of lag evaluation, alerts, metrics and sensors."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from coinstream.settings.base import PlatformSettings, split_commas
from coinstream.settings.storage import LakeSettings


class LagSettings(PlatformSettings):
    """Thresholds of consumer lag. Environment: `COINSTREAM_LAG_SILENCE_S=120`."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_LAG_", frozen=True)

    window: int = Field(default=10, ge=2)
    """Number of observed commits in the evaluation window."""
    allowed: int = Field(default=0, ge=0)
    """Lag of a partition in messages that counts as no lag."""
    silence_s: float = Field(default=60.0, ge=0)
    """Minimum time without a commit after which a group is stopped."""
    batch_groups: Annotated[tuple[str, ...], NoDecode] = ("coinstream-landing",)
    """Groups without members whose offsets are advanced by jobs. They may pause for `batch_silence_s`."""
    batch_silence_s: float = Field(default=1_800.0, ge=0)
    """Maximum time without a commit, and maximum age of an unhandled message, of `batch_groups`."""
    late_s: float = Field(default=300.0, ge=0)
    """Age of the oldest unhandled message at which any other group is degraded."""
    degraded_messages: int = Field(default=1_000, ge=1)
    """Total lag in messages at which a group is degraded."""
    unhealthy_messages: int = Field(default=10_000, ge=1)
    """Total lag in messages at which a group is unhealthy."""
    read_budget_s: float = Field(default=0.6, ge=0)
    """Maximum time to read the timestamps of the oldest unhandled messages."""

    @field_validator("batch_groups", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)

    def is_advanced_by_jobs(self, group: str) -> bool:
        """Return whether jobs advance the group: it is one of `batch_groups`, or the landing group."""
        return group in self.batch_groups or group == LakeSettings().landing_group


class AlertSettings(PlatformSettings):
    """Destinations and links of alerts."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_", frozen=True)

    alerts: SecretStr = SecretStr("")
    """Destinations as apprise URLs, separated by commas or spaces. Empty shows alerts only in the web UI."""
    ui_url: str = "http://127.0.0.1:3000"
    """URL of Dagster's web UI, for links in alerts."""
    runbook_url: str = ""
    """URL of the runbook, for links in alerts. Empty uses the page served by the web UI."""

    @property
    def runbook_address(self) -> str:
        """Return the URL of the runbook."""
        return self.runbook_url or f"{self.ui_url.rstrip('/')}/docs/runbook"


class MetricsSettings(PlatformSettings):
    """Metrics endpoints of processes that produce or consume."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_METRICS_", frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 lets other machines scrape."""
    advertised: str = ""
    """Host name under which Prometheus reaches this machine or container. Empty uses `host`."""


class WatchSettings(PlatformSettings):
    """Dagster sensors. Environment: `COINSTREAM_WATCH_INTERVAL_S=10`."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_WATCH_", frozen=True)

    interval_s: int = Field(default=30, ge=1)
    """Interval between two ticks of a sensor."""
    confirm: int = Field(default=2, ge=1)
    """Consecutive unhealthy ticks before an alert."""
    recover: int = Field(default=2, ge=1)
    """Consecutive healthy ticks before a recovery message."""
    events_every_s: float = Field(default=60.0, ge=1)
    """Minimum interval between two events of an asset."""
    timeout_ms: int = Field(default=1_500, ge=100, le=4_000)
    """Timeout of a tick's requests to the cluster."""
    feeds: Annotated[tuple[str, ...], NoDecode] = ()
    """Supervised feeds, comma-separated. Empty supervises the default feed."""
    feed_run_s: float = Field(default=3_600.0, ge=1)
    """Duration of a supervised feed run before its successor takes over."""
    feed_handover_s: float = Field(default=90.0, ge=1)
    """Time before the end of a run at which its successor is launched."""
    feed_backoff_s: float = Field(default=10.0, ge=0)
    """Backoff before a crashed feed is restarted; it doubles with each consecutive crash."""
    feed_backoff_max_s: float = Field(default=600.0, ge=0)
    """Maximum backoff before a restart."""
    runs_kept_days: float = Field(default=14.0, gt=0)
    """Retention of finished runs and their events."""

    @field_validator("feeds", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)
