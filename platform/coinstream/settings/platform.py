"""Define the settings of the home folder, plugins, tables, lag evaluation, alerts, metrics and sensors."""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from coinstream.errors import PluginError
from coinstream.settings.kafka import PlatformSettings, SerializationSettings, split_commas


class HomeSettings(PlatformSettings):
    """State of the platform on this machine."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_", frozen=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".coinstream")
    """Folder of the local broker's data, Dagster's storage and the tables."""
    broker_port: int = Field(default=19092, ge=0, le=65_500)
    """First port of the local broker; further ports follow. 0 takes free ports."""
    broker_java_options: Annotated[tuple[str, ...], NoDecode] = ()
    """Additional Java options of the local broker (`-Xmx2g -XX:+UseZGC`), separated by spaces."""

    explorer_url: str = ""
    """URL of the explorer, to which assets link. `coinstream up` sets it. Empty: assets have no link."""

    exchange_topics: Annotated[tuple[str, ...], NoDecode] = ()
    """Exchanges with separate topics (`crypto-prices-binance`), comma-separated in the environment."""

    plugins: Annotated[tuple[str, ...], NoDecode] = ()
    """Plugin modules to import in addition to installed plugins, comma-separated in the environment."""

    @field_validator("exchange_topics", "plugins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)

    @field_validator("broker_java_options", mode="before")
    @classmethod
    def _split_words(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()

    @property
    def leases(self) -> Path:
        """Return the folder of the feeds' leases."""
        return self.home / "leases"

    @property
    def feed_status(self) -> Path:
        """Return the folder of the status that running feeds write."""
        return self.home / "feed-status"


def _catalog_alias(name: str) -> AliasChoices:
    """Return the names of a catalog setting, including the spelling of earlier releases."""
    names = f"catalog_{name}", f"catalogue_{name}"
    return AliasChoices(*names, *(f"COINSTREAM_LAKE_{each}".upper() for each in names))


class LakeSettings(PlatformSettings):
    """Iceberg tables and landing."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_LAKE_", frozen=True)

    catalog_type: str = Field(default="sql", validation_alias=_catalog_alias("type"))
    """Type of the Iceberg catalog in pyiceberg: `sql`, `rest`, `glue`, `hive`."""
    catalog_uri: SecretStr | None = Field(default=None, validation_alias=_catalog_alias("uri"))
    """URI of the catalog, which may contain a password. None uses an SQLite file in the home folder."""
    warehouse: str | None = None
    """Location of data files: a folder or a URI such as `s3://bucket/lake`. None uses the home folder."""
    properties: dict[str, str] = Field(default_factory=dict, repr=False, exclude=True)
    """Additional properties of the catalog and the object store (`s3.endpoint` …) as JSON; may be secret."""
    first_hour: str = ""
    """First hourly partition in Dagster (`2026-01-05-10:00`). Empty uses the hour of the first use."""
    namespace: str = Field(default="market", pattern=r"^[a-z][a-z0-9_]*$")
    """Iceberg namespace of the tables."""
    memory_bytes: int = Field(default=536_870_912, ge=67_108_864)
    """Memory limit of landing, in addition to the loaded libraries."""
    batch_rows: int = Field(default=200_000, ge=1)
    """Maximum rows per commit; the memory limit may lower it."""
    exchanges: Annotated[tuple[str, ...], NoDecode] = ()
    """Additional exchanges whose topics (`crypto-level1-NAME`) are landed, comma-separated in the
    environment. Exchanges of feeds and of `COINSTREAM_EXCHANGE_TOPICS` are always landed.
    """
    engine: Literal["embedded", "ray"] = "embedded"
    """Engine that prepares slices: the landing process, or Ray (the extra `coinstream[ray]`)."""
    workers: int | None = Field(default=None, ge=1)
    """Workers of a Ray cluster that landing starts on this machine. None starts one per core."""
    slice_rows: int = Field(default=1_000_000, ge=1)
    """Approximate number of offsets per slice on Ray."""
    landing_group: str = "coinstream-landing"
    """Consumer group to which landed offsets are committed for lag tools. Landing does not read it."""
    commit_attempts: int = Field(default=20, ge=1)
    """Maximum attempts of a commit that conflicts with other writers."""
    keep_snapshots_hours: float = Field(default=72.0, ge=0)
    """Age at which compaction expires snapshots."""
    compact_below_bytes: int = Field(default=33_554_432, ge=0)
    """Size below which compaction merges data files."""
    compact_to_bytes: int = Field(default=134_217_728, ge=1_048_576)
    """Maximum size of files written by compaction."""
    docs_url: str = ""
    """URL of Data Docs (`coinstream lake docs`, or any web server), for links in the web UI. Empty shows the
    path of the pages.
    """
    strict_prices: bool = Field(default_factory=lambda: SerializationSettings().strict)
    """Refuse every price of more than 8 decimals. By default as `COINSTREAM_SERIALIZATION_STRICT` says."""
    jump_deviations: float = Field(default=20.0, gt=0)
    """Price step, in robust standard deviations, above which a jump is reported."""
    step_back_tolerance_ms: int = Field(default=1_000, ge=0)
    """Maximum step back of a series' event time that is not flagged. Exchanges send small steps back because
    their servers timestamp messages before they order them."""
    clock_tolerance_ms: int = Field(default=1_000, ge=0)
    """Maximum time ahead of an exchange's measured clock skew that is not flagged."""
    clock_skew_max_ms: int = Field(default=5_000, ge=0)
    """Maximum clock skew; larger differences are treated as wrong times."""

    def without_secrets(self) -> dict[str, Any]:
        """Return the settings without secrets. Workers read secrets from their own environment."""
        return self.model_dump(mode="json", exclude={"catalog_uri", "properties"})

    @field_validator("exchanges", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)


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


PLUGIN_GROUP: Final = "coinstream.plugins"
"""Entry-point group of installed plugins: modules that register types, topics, exchanges or sinks."""


def load_plugins(settings: HomeSettings | None = None) -> tuple[str, ...]:
    """Import every plugin. Plugins that are already imported are not imported again.

    Returns:
        The module names of the plugins.

    Raises:
        PluginError: a plugin cannot be imported.
    """
    named = (settings or HomeSettings()).plugins
    modules = dict.fromkeys([*(point.module for point in entry_points(group=PLUGIN_GROUP)), *named])
    for module in modules:
        _import_plugin(module)
    return tuple(modules)


def _import_plugin(module: str) -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        raise PluginError(
            f"plugin {module} cannot be imported: {type(error).__name__}: {error}. "
            "Fix it, or remove it from the installed packages or COINSTREAM_PLUGINS."
        ) from error
