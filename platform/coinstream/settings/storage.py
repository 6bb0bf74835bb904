"""Settings of the home folder and of the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from coinstream.settings.base import PlatformSettings, split_commas


class HomeSettings(PlatformSettings):
    """Where the platform keeps its state on this machine."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_", frozen=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".coinstream")
    """Folder of the local broker's data, Dagster's storage and the lake."""
    broker_port: int = Field(default=19092, ge=0, le=65_500)
    """First port of the local broker; the others follow. 0 takes free ones."""
    broker_java_options: Annotated[tuple[str, ...], NoDecode] = ()
    """More options for the local broker's Java (`-Xmx2g -XX:+UseZGC`), separated by spaces."""

    exchange_topics: Annotated[tuple[str, ...], NoDecode] = ()
    """Exchanges with topics of their own (`crypto-prices-binance`); comma-separated in the environment."""

    plugins: Annotated[tuple[str, ...], NoDecode] = ()
    """Modules to import besides the installed plugins; comma-separated in the environment."""

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


def _catalog_alias(name: str) -> AliasChoices:
    """Return the names of a catalog setting, with the spelling of earlier releases."""
    names = f"catalog_{name}", f"catalogue_{name}"
    return AliasChoices(*names, *(f"COINSTREAM_LAKE_{each}".upper() for each in names))


class LakeSettings(PlatformSettings):
    """Where tables live, and how topics are landed in them."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_LAKE_", frozen=True)

    catalog_type: str = Field(default="sql", validation_alias=_catalog_alias("type"))
    """Kind of Iceberg catalog as pyiceberg names it: `sql`, `rest`, `glue`, `hive`."""
    catalog_uri: SecretStr | None = Field(default=None, validation_alias=_catalog_alias("uri"))
    """The catalog's address, which may hold a password. None: an SQLite file in the home folder."""
    warehouse: str | None = None
    """Where data files go: a folder or an address such as `s3://bucket/lake`. None: the home folder."""
    properties: dict[str, str] = Field(default_factory=dict, repr=False, exclude=True)
    """Further properties of the catalog and its object store (`s3.endpoint` …), as JSON; may be secret."""
    first_hour: str = ""
    """First hour of the tables in Dagster (`2026-01-05-10:00`). Empty: that of the first `coinstream up`."""
    namespace: str = Field(default="market", pattern=r"^[a-z][a-z0-9_]*$")
    """Iceberg namespace of the tables."""
    memory_bytes: int = Field(default=536_870_912, ge=67_108_864)
    """Memory that landing may take beyond what the loaded libraries take."""
    batch_rows: int = Field(default=200_000, ge=1)
    """Rows of one commit at most; memory may make it fewer."""
    exchanges: Annotated[tuple[str, ...], NoDecode] = ()
    """Further exchanges whose topics (`crypto-level1-NAME`) land; comma-separated in the environment.
    Those of feeds and of `COINSTREAM_EXCHANGE_TOPICS` always do.
    """
    engine: Literal["embedded", "ray"] = "embedded"
    """Where landing prepares slices: in its own process, or on Ray (the extra `coinstream[ray]`)."""
    workers: int | None = Field(default=None, ge=1)
    """Workers of a Ray cluster that landing starts on this machine. None: one per core."""
    slice_rows: int = Field(default=1_000_000, ge=1)
    """Offsets of one slice on Ray, about."""
    landing_group: str = "coinstream-landing"
    """Consumer group that landed offsets are reported to, for lag tools only."""
    commit_attempts: int = Field(default=20, ge=1)
    """How often a commit is tried again when other writers were faster."""
    keep_snapshots_hours: float = Field(default=72.0, ge=0)
    """Age from which compaction expires snapshots."""
    compact_below_bytes: int = Field(default=33_554_432, ge=0)
    """Data files smaller than this are merged by compaction."""
    compact_to_bytes: int = Field(default=134_217_728, ge=1_048_576)
    """Size of the files that compaction writes, at most."""
    docs_url: str = ""
    """Where Data Docs are served (`coinstream lake docs`, or any web server); the web UI links there.
    Empty: it shows the path of the pages.
    """
    jump_deviations: float = Field(default=20.0, gt=0)
    """A price step of more robust deviations than this is reported as a jump."""
    step_back_tolerance_ms: int = Field(default=1_000, ge=0)
    """How far the event time of a series may step back before it is flagged. Exchanges send small steps
    back: their servers stamp messages before they order them."""
    clock_tolerance_ms: int = Field(default=1_000, ge=0)
    """How far a time may lie ahead of an exchange's measured clock skew."""
    clock_skew_max_ms: int = Field(default=5_000, ge=0)
    """The largest clock skew that is believed to be one."""

    def without_secrets(self) -> dict[str, Any]:
        """Return the settings that may be sent to workers, which take the others from their environment."""
        return self.model_dump(mode="json", exclude={"catalog_uri", "properties"})

    @field_validator("exchanges", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return split_commas(value)
