"""Define the settings of the home folder and of the tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from coinstream.settings.base import PlatformSettings, split_commas
from coinstream.settings.kafka import SerializationSettings


class HomeSettings(PlatformSettings):
    """State of the platform on this machine."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_", frozen=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".coinstream")
    """Folder of the local broker's data, Dagster's storage and the tables."""
    broker_port: int = Field(default=19092, ge=0, le=65_500)
    """First port of the local broker; further ports follow. 0 takes free ports."""
    broker_java_options: Annotated[tuple[str, ...], NoDecode] = ()
    """Additional Java options of the local broker (`-Xmx2g -XX:+UseZGC`), separated by spaces."""

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


PRIVATE: Final = 0o700


def private_folder(path: Path) -> Path:
    """Create a folder and its missing parents with mode 0700, and return it.

    A folder of the default home (`~/.coinstream`) that an earlier release created with other permissions is
    restricted too. An existing folder chosen by the user keeps its permissions.

    Raises:
        OSError: the folder cannot be created.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(mode=PRIVATE, exist_ok=True)
    default = Path.home() / ".coinstream"
    for folder in (default, path):
        is_ours = folder == default or default in folder.parents
        if is_ours and folder.is_dir() and folder.stat().st_uid == os.geteuid():
            folder.chmod(PRIVATE)
    return path
