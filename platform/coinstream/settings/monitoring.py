"""Settings of lag evaluation, alerts, metrics and sensors."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from coinstream.settings.base import PlatformSettings, split_commas
from coinstream.settings.storage import LakeSettings


class LagSettings(PlatformSettings):
    """When lag is something to worry about. Environment: `COINSTREAM_LAG_SILENCE_S=120`."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_LAG_", frozen=True)

    window: int = Field(default=10, ge=2)
    """Commits (polls that saw one) that decide a verdict."""
    allowed: int = Field(default=0, ge=0)
    """Messages of lag on a partition that count as none."""
    silence_s: float = Field(default=60.0, ge=0)
    """A group is not called stopped before it was silent for this long."""
    batch_groups: Annotated[tuple[str, ...], NoDecode] = ("coinstream-landing",)
    """Groups that jobs move now and then, without members: they may be silent for `batch_silence_s`."""
    batch_silence_s: float = Field(default=1_800.0, ge=0)
    """How long those groups may be silent, and how long a message may wait for them."""
    late_s: float = Field(default=300.0, ge=0)
    """Age of the oldest unhandled message from which any other group is degraded."""
    degraded_messages: int = Field(default=1_000, ge=1)
    """Total lag of a group from which it is degraded."""
    unhealthy_messages: int = Field(default=10_000, ge=1)
    """Total lag of a group from which it is unhealthy."""
    read_budget_s: float = Field(default=0.6, ge=0)
    """Longest time spent on reading the timestamps of the oldest unhandled messages."""

    @field_validator("batch_groups", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)

    def is_advanced_by_jobs(self, group: str) -> bool:
        """Return whether jobs advance the group now and then: one of `batch_groups`, or the landing group."""
        return group in self.batch_groups or group == LakeSettings().landing_group


class AlertSettings(PlatformSettings):
    """Who is told when something goes wrong, and where they look."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_", frozen=True)

    alerts: SecretStr = SecretStr("")
    """Channels as apprise URLs, separated by commas or spaces. Empty: alerts show in the web UI only."""
    ui_url: str = "http://127.0.0.1:3000"
    """Where people reach Dagster's web UI; alerts link to it."""
    runbook_url: str = ""
    """Where people read the runbook; alerts link to its sections. Empty: the page that the web UI serves."""

    @property
    def runbook_address(self) -> str:
        """Address of the runbook."""
        return self.runbook_url or f"{self.ui_url.rstrip('/')}/docs/runbook"


class MetricsSettings(PlatformSettings):
    """Where processes that produce or consume serve their own metrics."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_METRICS_", frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets other machines scrape."""
    advertised: str = ""
    """Under which name Prometheus reaches this machine or container. Empty: `host`."""


class WatchSettings(PlatformSettings):
    """How Dagster's sensors watch. Environment: `COINSTREAM_WATCH_INTERVAL_S=10`."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_WATCH_", frozen=True)

    interval_s: int = Field(default=30, ge=1)
    """Seconds between two ticks of a sensor."""
    confirm: int = Field(default=2, ge=1)
    """Bad ticks in a row before an alert."""
    recover: int = Field(default=2, ge=1)
    """Good ticks in a row before the message of recovery."""
    events_every_s: float = Field(default=60.0, ge=1)
    """At most one event in this time for an asset."""
    timeout_ms: int = Field(default=1_500, ge=100, le=4_000)
    """Longest wait of a tick for the cluster."""
    feeds: Annotated[tuple[str, ...], NoDecode] = ()
    """Feeds that the supervisor keeps alive; comma-separated. Empty: the default feed."""
    feed_run_s: float = Field(default=3_600.0, ge=1)
    """How long a supervised run of a feed lasts before its successor takes over."""
    feed_handover_s: float = Field(default=90.0, ge=1)
    """How long before the end of a run its successor is launched."""
    feed_backoff_s: float = Field(default=10.0, ge=0)
    """Wait before a crashed feed is started again; doubles with every crash in a row."""
    feed_backoff_max_s: float = Field(default=600.0, ge=0)
    """Longest of these waits."""
    runs_kept_days: float = Field(default=14.0, gt=0)
    """Finished runs older than this are deleted, with their events."""

    @field_validator("feeds", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)
