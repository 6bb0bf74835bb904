"""Every default of the platform, typed, and overridable by environment.

Each class reads its own prefix: `REDPANDA_PRODUCER_LINGER_MS=20` sets `ProducerSettings.linger_ms`.
Times are in milliseconds and sizes in bytes where the name says `_ms` or `_bytes`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableError

from coinstream.errors import SettingsError

log = logging.getLogger("coinstream.settings")

KafkaConfig = dict[str, Any]
"""A librdkafka configuration, as `confluent_kafka` takes it."""


class _Settings(BaseSettings):
    # The text under a field is its description, also in Dagster's launchpad.
    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    renamed: ClassVar[Mapping[str, str]] = {}
    """Old names of fields, accepted for one release, and their new names."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**self._with_new_names(values))
        except ValidationError as error:
            raise SettingsError(_explain(self.model_config.get("env_prefix", ""), error)) from None
        except UnreadableError as error:
            # Names the field and nothing of its value.
            prefix = self.model_config.get("env_prefix", "")
            raise SettingsError(f"bad setting of {prefix}…: {error}; it must be JSON") from None

    @classmethod
    def _with_new_names(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Move values given under an old name, in the call or in the environment, to the new name."""
        found = dict(values)
        prefix = str(cls.model_config.get("env_prefix", "")).lower()
        environment = (
            {name.lower(): (name, value) for name, value in os.environ.items()} if cls.renamed else {}
        )
        for old, new in cls.renamed.items():
            name, value = environment.get(prefix + old, ("", None))
            if old in found:
                name, value = old, found.pop(old)
            if name and new not in found and (name == old or prefix + new not in environment):
                log.warning(
                    "the setting %s is now named %s", name, new if name == old else (prefix + new).upper()
                )
                found[new] = value
        return found


def _explain(prefix: str, error: ValidationError) -> str:
    # The offending value is left out: it may be a secret.
    faults = (
        f"{prefix}{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
        for item in error.errors(include_input=False)
    )
    return "bad setting " + "; ".join(faults)


class HomeSettings(_Settings):
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
        return _split_commas(value)

    @field_validator("broker_java_options", mode="before")
    @classmethod
    def _split_words(cls, value: object) -> object:
        return tuple(value.split()) if isinstance(value, str) else value

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        return value.expanduser().absolute()


class BrokerSettings(_Settings):
    """Which cluster to talk to, and how to be let in. Without `brokers` the local broker is used."""

    model_config = SettingsConfigDict(env_prefix="REDPANDA_", frozen=True)

    brokers: str = ""
    """Bootstrap servers, `host:port` separated by commas. Empty: the local broker."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Whether the connection is encrypted (SSL) and signed in (SASL)."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    """How to sign in, with `SASL_PLAINTEXT` and `SASL_SSL`."""
    sasl_username: str | None = None
    """User for PLAIN and SCRAM."""
    sasl_password: SecretStr | None = None
    """Password for PLAIN and SCRAM."""
    oauth_token_url: str | None = None
    """Token endpoint for OAUTHBEARER with the OIDC client-credentials grant."""
    oauth_client_id: str | None = None
    """Client that asks the token endpoint."""
    oauth_client_secret: SecretStr | None = None
    """That client's secret."""
    oauth_scope: str | None = None
    """Scope of the token, if the endpoint wants one."""
    ssl_ca_location: Path | None = None
    """File with the certificates that may sign a broker's. None: the system's."""
    ssl_certificate_location: Path | None = None
    """The client's own certificate, where the cluster wants one (mTLS)."""
    ssl_key_location: Path | None = None
    """Private key of the client's certificate."""
    ssl_key_password: SecretStr | None = None
    """Password of that key."""
    admin_url: str | None = None
    """Redpanda's Admin API, e.g. `http://host:9644`. Absent on other brokers."""
    request_timeout_ms: int = Field(default=10_000, ge=100)
    """How long an administrative request may take."""

    def kafka_config(self) -> KafkaConfig:
        """Return the connection part of a librdkafka configuration (bootstrap, security)."""
        wanted = {
            "bootstrap.servers": self.brokers,
            "security.protocol": self.security_protocol,
            "sasl.mechanism": self.sasl_mechanism,
            "sasl.username": self.sasl_username,
            "sasl.password": _reveal(self.sasl_password),
            "ssl.ca.location": _text(self.ssl_ca_location),
            "ssl.certificate.location": _text(self.ssl_certificate_location),
            "ssl.key.location": _text(self.ssl_key_location),
            "ssl.key.password": _reveal(self.ssl_key_password),
            **self._oauth_config(),
        }
        return {key: value for key, value in wanted.items() if value is not None}

    def _oauth_config(self) -> KafkaConfig:
        if self.sasl_mechanism != "OAUTHBEARER":
            return {}
        return {
            "sasl.oauthbearer.method": "oidc",
            "sasl.oauthbearer.token.endpoint.url": self.oauth_token_url,
            "sasl.oauthbearer.client.id": self.oauth_client_id,
            "sasl.oauthbearer.client.secret": _reveal(self.oauth_client_secret),
            "sasl.oauthbearer.scope": self.oauth_scope,
        }


class ProducerSettings(_Settings):
    """Sending messages. The defaults are a profile for low latency."""

    model_config = SettingsConfigDict(env_prefix="REDPANDA_PRODUCER_", frozen=True)

    max_in_flight: int | None = Field(default=None, ge=1, le=5)
    """Requests in flight to a broker, at most 5 with idempotence. Default: 1 for each producer of the pool,
    which keeps batches large; 5 for transactional producers."""
    batch_bytes: int = Field(default=16_384, ge=1)
    """Largest batch of the latency profile."""
    linger_ms: float = Field(default=5.0, ge=0)
    """Longest wait of a batch for more messages, latency profile."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    """Compression of batches."""
    acks: Literal["all"] = "all"
    """Replicas that must have a message before it is acknowledged. Only `all` is accepted, since every
    producer is idempotent and idempotence needs it."""
    retries: int = Field(default=3, ge=0)
    """How often a message that the broker refused, or whose producer failed, is sent again. Network errors
    and new leaders are retried until the delivery timeout: a bound would break the order of keys."""
    retry_backoff_ms: int = Field(default=100, ge=1)
    """Pause before a request, or a message of a failed producer, is sent again."""
    buffer_bytes: int = Field(default=33_554_432, ge=1024)
    """Memory for messages that are not acknowledged yet, for the whole pool."""
    max_block_ms: int = Field(default=60_000, ge=0)
    """Longest wait of `produce` for room in the buffer."""
    pool_size: int = Field(default=5, ge=1)
    """Producers in the pool. A key always goes through the same one."""
    affinity: Literal["topic", "key"] = "topic"
    """What chooses a message's producer: mmh3 of its topic, so that batches are large, or mmh3 of its key."""
    transaction_timeout_ms: int = Field(default=30_000, ge=1000)
    """Age at which the cluster aborts an open transaction."""
    delivery_timeout_ms: int = Field(default=120_000, ge=1)
    """Longest wait of a message for its acknowledgement, including retries; then it is reported as lost."""
    throughput_topics: Annotated[tuple[str, ...], NoDecode] = ()
    """Topics sent with the throughput profile: shell patterns, comma-separated in the environment."""
    throughput_batch_bytes: int = Field(default=1_048_576, ge=1)
    """Largest batch of the throughput profile."""
    throughput_linger_ms: float = Field(default=50.0, ge=0)
    """Longest wait of a batch for more messages, throughput profile."""
    statistics_interval_ms: int = Field(default=1_000, ge=0)
    """Interval of librdkafka's statistics, which give the batch sizes in the metrics. 0: none."""

    renamed: ClassVar[Mapping[str, str]] = {"spread": "affinity", "pool_max_in_flight": "max_in_flight"}

    @field_validator("acks", mode="before")
    @classmethod
    def _only_all(cls, value: object) -> object:
        if value in ("0", "1", 0, 1):
            raise ValueError(
                f"acks={value} is not possible: every producer is idempotent, and idempotence needs acks=all"
            )
        return "all" if value in ("-1", -1) else value

    @field_validator("throughput_topics", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return _split_commas(value)


class SerializationSettings(_Settings):
    """How messages are serialized. Environment: `COINSTREAM_SERIALIZATION_STRICT=true`."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_SERIALIZATION_", frozen=True)

    strict: bool = False
    """Round every price to 8 decimals. By default a price that this would change by more than one
    millionth of its value keeps seven significant digits, with at most 18 decimals.
    """


class ConsumerSettings(_Settings):
    """How messages are read."""

    model_config = SettingsConfigDict(env_prefix="REDPANDA_CONSUMER_", frozen=True)

    session_timeout_ms: int = Field(default=30_000, ge=1000)
    """A member not heard of for so long is dead, and its partitions go to others."""
    max_poll_interval_ms: int = Field(default=60_000, ge=1000)
    """Longest pause between two polls. A slow handler does not cause one: polling goes on beside it."""
    heartbeat_interval_ms: int = Field(default=3_000, ge=100)
    """How often a member says that it lives."""
    fetch_min_bytes: int = Field(default=1, ge=1)
    """A fetch is answered as soon as there is so much."""
    fetch_max_bytes: int = Field(default=10_485_760, ge=1)
    """Largest fetch in all (10 MiB)."""
    partition_fetch_bytes: int = Field(default=1_048_576, ge=1)
    """Largest fetch per partition (1 MiB)."""
    fetch_wait_ms: int = Field(default=100, ge=0)
    """Longest wait of the broker for that much."""
    concurrent_partitions: int = Field(default=4, ge=1)
    """Partitions handled at the same time, each in order."""
    offset_reset: Literal["latest", "earliest", "error"] = "latest"
    """Where a group without a committed offset begins."""
    retries: int = Field(default=8, ge=0)
    """How often a message whose handler failed is tried again, before it is a dead letter."""
    retry_backoff_ms: int = Field(default=100, ge=1)
    """Wait before the first retry; it doubles from there."""


class LagSettings(_Settings):
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
        return _split_commas(value)

    def is_advanced_by_jobs(self, group: str) -> bool:
        """Return whether jobs advance the group now and then: one of `batch_groups`, or the landing group."""
        return group in self.batch_groups or group == LakeSettings().landing_group


def _catalog_alias(name: str) -> AliasChoices:
    """Return the names of a catalog setting, with the spelling of earlier releases."""
    names = f"catalog_{name}", f"catalogue_{name}"
    return AliasChoices(*names, *(f"COINSTREAM_LAKE_{each}".upper() for each in names))


class LakeSettings(_Settings):
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
        return _split_commas(value)


class AlertSettings(_Settings):
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


class MetricsSettings(_Settings):
    """Where processes that produce or consume serve their own metrics."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_METRICS_", frozen=True)

    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets other machines scrape."""
    advertised: str = ""
    """Under which name Prometheus reaches this machine or container. Empty: `host`."""


class WatchSettings(_Settings):
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
        return _split_commas(value)


def _split_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None
