"""Configure librdkafka for the producers: the two profiles, the pool and transactions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from coinstream.kafka import base_config, log
from coinstream.settings import BrokerSettings, KafkaConfig, ProducerSettings

RETRY_UNTIL_TIMEOUT: Final = 2_147_483_647
"""librdkafka's largest number of retries."""

REQUEST_TIMEOUT_MS: Final = 30_000
"""Maximum time to wait for a response, as in Kafka's Java producer (`request.timeout.ms`). librdkafka's
default is a minute, for which messages in flight to a frozen leader wait after a new leader is elected."""

THROUGHPUT_SHARE: Final = 0.75
"""Share of the buffer for the throughput profile if both profiles are used. Its batches fill while a request
is in flight, so a smaller share means smaller batches."""

TRANSACTION_MAX_IN_FLIGHT: Final = 5
"""Default `max.in.flight` of the bare and transactional producers."""

POOL_MAX_IN_FLIGHT: Final = 1
"""Default `max.in.flight` of each producer of the pool."""

_ALL_TOPICS: Final = "*"

_EXPECTED_WARNING: Final = "enable.gapless.guarantee is experimental"


def _is_unexpected(record: logging.LogRecord) -> bool:
    return _EXPECTED_WARNING not in record.getMessage()


# librdkafka logs this warning for every producer that is opened; docs/producer.md explains the option.
log.addFilter(_is_unexpected)


@dataclass(frozen=True)
class Profile:
    """Limits of librdkafka's batches.

    Attributes:
        name: `latency` or `throughput`.
        batch_bytes: largest batch for one partition, in bytes.
        linger_ms: maximum time that the oldest message of a batch waits.
    """

    name: str
    batch_bytes: int
    linger_ms: float


def latency_profile(settings: ProducerSettings) -> Profile:
    """Return the profile for low latency: batches of 16 KiB after at most 5 ms by default."""
    return Profile("latency", settings.batch_bytes, settings.linger_ms)


def throughput_profile(settings: ProducerSettings) -> Profile:
    """Return the profile for high rates: batches of 1 MiB after at most 50 ms by default."""
    return Profile("throughput", settings.throughput_batch_bytes, settings.throughput_linger_ms)


def profile_chooser(settings: ProducerSettings) -> Callable[[str], Profile]:
    """Return a function that chooses the profile of a topic: throughput for `throughput_topics`."""
    latency, throughput = latency_profile(settings), throughput_profile(settings)
    patterns = settings.throughput_topics

    def choose(topic: str) -> Profile:
        is_large = any(fnmatchcase(topic, pattern) for pattern in patterns)
        return throughput if is_large else latency

    return choose


def producer_config(
    brokers: BrokerSettings, settings: ProducerSettings, profile: Profile, name: str
) -> KafkaConfig:
    """Return the configuration of a bare librdkafka producer, the baseline of the benchmarks."""
    return {
        **base_config(brokers, name),
        "acks": settings.acks,
        "compression.type": settings.compression,
        "batch.size": profile.batch_bytes,
        "batch.num.messages": 100_000,
        "linger.ms": profile.linger_ms,
        "max.in.flight.requests.per.connection": settings.max_in_flight or TRANSACTION_MAX_IN_FLIGHT,
        "retries": settings.retries,
        "retry.backoff.ms": settings.retry_backoff_ms,
        "delivery.timeout.ms": settings.delivery_timeout_ms,
        "socket.timeout.ms": REQUEST_TIMEOUT_MS,
        "partitioner": "murmur2_random",
        "queue.buffering.max.kbytes": max(settings.buffer_bytes // 1024, 1),
        # The buffer is bounded in bytes; the number of messages must not be reached first.
        "queue.buffering.max.messages": 10_000_000,
        "allow.auto.create.topics": False,
        "statistics.interval.ms": settings.statistics_interval_ms,
    }


def pooled_config(
    brokers: BrokerSettings, settings: ProducerSettings, profile: Profile, name: str
) -> KafkaConfig:
    """Return the configuration of one idempotent producer of the pool, with its share of the buffer.

    With `enable.gapless.guarantee` an undeliverable message is a fatal error of its producer: librdkafka
    returns the following messages, and the pool sends them again in order. librdkafka's retries are limited
    by the delivery timeout only, because it does not hold back the messages that follow a batch whose retries
    are exhausted. `retries` limits how often the pool sends a refused message again.
    """
    share = int(settings.buffer_bytes * _share(settings, profile)) // settings.pool_size
    return producer_config(brokers, settings, profile, name) | {
        "enable.idempotence": True,
        "enable.gapless.guarantee": True,
        "retries": RETRY_UNTIL_TIMEOUT,
        "max.in.flight.requests.per.connection": settings.max_in_flight or POOL_MAX_IN_FLIGHT,
        "queue.buffering.max.kbytes": max(share // 1024, 1),
    }


def _share(settings: ProducerSettings, profile: Profile) -> float:
    """Return the share of the buffer for all producers of a profile. The shares add up to 1."""
    if not settings.throughput_topics or _ALL_TOPICS in settings.throughput_topics:
        return 1.0  # the other profile is not used
    large = profile == throughput_profile(settings)
    return THROUGHPUT_SHARE if large else 1 - THROUGHPUT_SHARE


def transactional_config(
    brokers: BrokerSettings, settings: ProducerSettings, profile: Profile, transactional_id: str
) -> KafkaConfig:
    """Return the configuration of a transactional producer."""
    return producer_config(brokers, settings, profile, f"coinstream-{transactional_id}") | {
        "transactional.id": transactional_id,
        "transaction.timeout.ms": settings.transaction_timeout_ms,
        # librdkafka refuses timeouts above the transaction's.
        "socket.timeout.ms": min(REQUEST_TIMEOUT_MS, settings.transaction_timeout_ms),
        "delivery.timeout.ms": min(settings.delivery_timeout_ms, settings.transaction_timeout_ms),
    }
