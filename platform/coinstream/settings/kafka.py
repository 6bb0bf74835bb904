"""Provide the base of all settings, and those of the broker, producers, consumers and serialization."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableError

from coinstream.errors import SettingsError

log = logging.getLogger("coinstream.settings")


class PlatformSettings(BaseSettings):
    """Base of all settings classes. Subclasses set `env_prefix` in their `model_config`."""

    # The docstring of a field is its description, also in Dagster's launchpad.
    model_config = SettingsConfigDict(use_attribute_docstrings=True)

    renamed: ClassVar[Mapping[str, str]] = {}
    """Deprecated names of fields, accepted for one release, and their new names."""

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**self._with_new_names(values))
        except ValidationError as error:
            raise SettingsError(_explain(self.model_config.get("env_prefix", ""), error)) from None
        except UnreadableError as error:
            # The message names the field but contains nothing of its value.
            prefix = self.model_config.get("env_prefix", "")
            raise SettingsError(f"bad setting of {prefix}…: {error}; it must be JSON") from None

    @classmethod
    def _with_new_names(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Move values of deprecated names, from arguments or the environment, to the new names."""
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
    # The invalid value is omitted because it may be a secret.
    faults = (
        f"{prefix}{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
        for item in error.errors(include_input=False)
    )
    return "bad setting " + "; ".join(faults)


def split_commas(value: object) -> object:
    """Split text at commas; return other values unchanged."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


KafkaConfig = dict[str, Any]
"""A librdkafka configuration as a mapping for `confluent_kafka`."""


class BrokerSettings(PlatformSettings):
    """Connection to the Kafka cluster. Without `brokers` the local broker is used."""

    model_config = SettingsConfigDict(env_prefix="REDPANDA_", frozen=True)

    brokers: str = ""
    """Bootstrap servers, `host:port` separated by commas. Empty uses the local broker."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Encryption (SSL) and authentication (SASL) of the connection."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    """Authentication mechanism of `SASL_PLAINTEXT` and `SASL_SSL`."""
    sasl_username: str | None = None
    """User for PLAIN and SCRAM."""
    sasl_password: SecretStr | None = None
    """Password for PLAIN and SCRAM."""
    oauth_token_url: str | None = None
    """Token endpoint for OAUTHBEARER with the OIDC client-credentials grant."""
    oauth_client_id: str | None = None
    """Client id for the token endpoint."""
    oauth_client_secret: SecretStr | None = None
    """Client secret for the token endpoint."""
    oauth_scope: str | None = None
    """Scope of the token, if the endpoint requires one."""
    ssl_ca_location: Path | None = None
    """File of trusted certificate authorities (PEM). None uses those of the system."""
    ssl_certificate_location: Path | None = None
    """Client certificate, if the cluster requires one (mTLS)."""
    ssl_key_location: Path | None = None
    """Private key of the client certificate."""
    ssl_key_password: SecretStr | None = None
    """Password of the private key."""
    admin_url: str | None = None
    """URL of Redpanda's Admin API, for example `http://host:9644`. Other brokers have none."""
    request_timeout_ms: int = Field(default=10_000, ge=100)
    """Timeout of administrative requests."""

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


class ProducerSettings(PlatformSettings):
    """Producers. The defaults are a low-latency profile."""

    model_config = SettingsConfigDict(env_prefix="REDPANDA_PRODUCER_", frozen=True)

    max_in_flight: int | None = Field(default=None, ge=1, le=5)
    """In-flight requests per broker, at most 5 with idempotence. The default is 1 for producers of the pool,
    which keeps batches large, and 5 for transactional producers."""
    batch_bytes: int = Field(default=16_384, ge=1)
    """Maximum batch size of the latency profile."""
    linger_ms: float = Field(default=5.0, ge=0)
    """Linger time of batches of the latency profile."""
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    """Compression of batches."""
    acks: Literal["all"] = "all"
    """Replicas that must acknowledge a message. Only `all` is accepted, because every producer is idempotent
    and idempotence requires it."""
    retries: int = Field(default=3, ge=0)
    """Number of retries of a message that the broker refused or whose producer failed. Network errors and
    leader elections are retried until the delivery timeout; a limit would break the order per key."""
    retry_backoff_ms: int = Field(default=100, ge=1)
    """Backoff before a retry of a request or of a message of a failed producer."""
    buffer_bytes: int = Field(default=33_554_432, ge=1024)
    """Memory for unacknowledged messages, for the whole pool."""
    max_block_ms: int = Field(default=60_000, ge=0)
    """Maximum time that `produce` waits for room in the buffer."""
    pool_size: int = Field(default=5, ge=1)
    """Number of producers in the pool. A key always uses the same one."""
    affinity: Literal["topic", "key"] = "topic"
    """Choice of a message's producer: by its topic, which keeps batches large, or by mmh3 of its key."""
    transaction_timeout_ms: int = Field(default=30_000, ge=1000)
    """Timeout after which the cluster aborts an open transaction."""
    delivery_timeout_ms: int = Field(default=120_000, ge=1)
    """Maximum time until a message is acknowledged, including retries; then it is reported as failed."""
    throughput_topics: Annotated[tuple[str, ...], NoDecode] = ()
    """Topics that use the throughput profile: shell patterns, comma-separated in the environment."""
    throughput_batch_bytes: int = Field(default=1_048_576, ge=1)
    """Maximum batch size of the throughput profile."""
    throughput_linger_ms: float = Field(default=50.0, ge=0)
    """Linger time of batches of the throughput profile."""
    statistics_interval_ms: int = Field(default=1_000, ge=0)
    """Interval of librdkafka's statistics, the source of batch-size metrics. 0 disables them."""

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
        return split_commas(value)


class SerializationSettings(PlatformSettings):
    """Serialization of messages. Environment: `COINSTREAM_SERIALIZATION_STRICT=true`."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_SERIALIZATION_", frozen=True)

    strict: bool = False
    """Round every price to 8 decimals. By default a price that this would change by more than one millionth
    of its value keeps seven significant digits, with at most 18 decimals.
    """


class ConsumerSettings(PlatformSettings):
    """Consumers."""

    model_config = SettingsConfigDict(env_prefix="REDPANDA_CONSUMER_", frozen=True)

    session_timeout_ms: int = Field(default=30_000, ge=1000)
    """Session timeout: without heartbeats for this time a member is removed and its partitions reassigned."""
    max_poll_interval_ms: int = Field(default=60_000, ge=1000)
    """Maximum time between two polls. A slow handler does not delay polls, which run in another thread."""
    heartbeat_interval_ms: int = Field(default=3_000, ge=100)
    """Heartbeat interval of a group member."""
    fetch_min_bytes: int = Field(default=1, ge=1)
    """Minimum bytes of a fetch response."""
    fetch_max_bytes: int = Field(default=10_485_760, ge=1)
    """Maximum bytes of a fetch response."""
    partition_fetch_bytes: int = Field(default=1_048_576, ge=1)
    """Maximum bytes of a fetch response per partition."""
    fetch_wait_ms: int = Field(default=100, ge=0)
    """Maximum time that the broker waits for `fetch_min_bytes`."""
    concurrent_partitions: int = Field(default=4, ge=1)
    """Partitions handled concurrently, each in order."""
    offset_reset: Literal["latest", "earliest", "error"] = "latest"
    """Start of a group without committed offsets."""
    retries: int = Field(default=8, ge=0)
    """Number of retries of a message whose handler failed, before it becomes a dead letter."""
    retry_backoff_ms: int = Field(default=100, ge=1)
    """Backoff before the first retry; it doubles with each retry."""


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None
