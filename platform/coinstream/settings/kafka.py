"""Settings of the broker, of producers, consumers and message payloads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from coinstream.settings.base import PlatformSettings, split_commas

KafkaConfig = dict[str, Any]
"""A librdkafka configuration, as `confluent_kafka` takes it."""


class BrokerSettings(PlatformSettings):
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


class ProducerSettings(PlatformSettings):
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
        return split_commas(value)


class SerializationSettings(PlatformSettings):
    """How messages are serialized. Environment: `COINSTREAM_SERIALIZATION_STRICT=true`."""

    model_config = SettingsConfigDict(env_prefix="COINSTREAM_SERIALIZATION_", frozen=True)

    strict: bool = False
    """Round every price to 8 decimals. By default a price that this would change by more than one
    millionth of its value keeps seven significant digits, with at most 18 decimals.
    """


class ConsumerSettings(PlatformSettings):
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


def _reveal(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret is not None else None


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None
