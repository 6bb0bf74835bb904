"""librdkafka configurations of the producers: the two profiles, the pool's and the transactional ones."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from coinstream.kafka import base_config, log
from coinstream.settings import BrokerSettings, KafkaConfig, ProducerSettings

RETRY_UNTIL_TIMEOUT: Final = 2_147_483_647
"""librdkafka's largest count of retries."""

ANSWER_MS: Final = 30_000
"""Longest wait for the answer to a request, that of Kafka's own producer (`request.timeout.ms`); librdkafka's
is a minute, for which the messages on their way to a frozen leader would wait after another one leads."""

THROUGHPUT_SHARE: Final = 0.75
"""The part of the buffer that the throughput profile has where both are used. Its batches fill while each
producer's one request is on its way, so with less room it sends smaller ones."""
_EVERYTHING: Final = "*"

_EXPECTED_WARNING: Final = "enable.gapless.guarantee is experimental"


def _is_news(record: logging.LogRecord) -> bool:
    return _EXPECTED_WARNING not in record.getMessage()


# librdkafka says it of every producer that is opened; docs/producer.md says it once.
log.addFilter(_is_news)


@dataclass(frozen=True)
class Profile:
    """How long a message waits for company, and how large a batch may become.

    Attributes:
        name: `latency` or `throughput`.
        batch_bytes: largest batch for one partition, in bytes.
        linger_ms: longest wait of the oldest message of a batch.
    """

    name: str
    batch_bytes: int
    linger_ms: float


def latency_profile(settings: ProducerSettings) -> Profile:
    """The specification's defaults: 16 KiB after at most 5 ms."""
    return Profile("latency", settings.batch_bytes, settings.linger_ms)


def throughput_profile(settings: ProducerSettings) -> Profile:
    """Large batches that wait longer: three to four times the rate on the same machine."""
    return Profile("throughput", settings.throughput_batch_bytes, settings.throughput_linger_ms)


def profile_chooser(settings: ProducerSettings) -> Callable[[str], Profile]:
    """A function that gives the profile of a topic: `throughput_topics` match, the rest is latency."""
    soon, large = latency_profile(settings), throughput_profile(settings)
    patterns = settings.throughput_topics

    def choose(topic: str) -> Profile:
        return large if any(fnmatchcase(topic, pattern) for pattern in patterns) else soon

    return choose


def producer_config(
    brokers: BrokerSettings, settings: ProducerSettings, profile: Profile, name: str
) -> KafkaConfig:
    """A bare producer with the specification's settings, as one would write it by hand."""
    return {
        **base_config(brokers, name),
        "acks": settings.acks,
        "compression.type": settings.compression,
        "batch.size": profile.batch_bytes,
        "batch.num.messages": 100_000,
        "linger.ms": profile.linger_ms,
        "max.in.flight.requests.per.connection": settings.max_in_flight,
        "retries": settings.retries,
        "retry.backoff.ms": settings.retry_backoff_ms,
        "delivery.timeout.ms": settings.delivery_timeout_ms,
        "socket.timeout.ms": ANSWER_MS,
        "partitioner": "murmur2_random",
        "queue.buffering.max.kbytes": max(settings.buffer_bytes // 1024, 1),
        # Bytes are the bound that is promised; the count must not bite first.
        "queue.buffering.max.messages": 10_000_000,
        "allow.auto.create.topics": False,
        "statistics.interval.ms": settings.statistics_interval_ms,
    }


def pooled_config(
    brokers: BrokerSettings, settings: ProducerSettings, profile: Profile, name: str
) -> KafkaConfig:
    """One idempotent producer of the pool, with its share of the buffer.

    `enable.gapless.guarantee` makes a message that cannot be delivered a fatal error of its
    producer instead of a hole in the stream: those behind it come back, and are sent again in order.
    Retries are bounded by the delivery timeout alone: librdkafka fails a batch whose retries are used up
    without stopping those behind it, which would pass it. `retries` then bounds the single connections.
    """
    share = int(settings.buffer_bytes * _share(settings, profile)) // settings.pool_size
    return producer_config(brokers, settings, profile, name) | {
        "enable.idempotence": True,
        "enable.gapless.guarantee": True,
        "retries": RETRY_UNTIL_TIMEOUT,
        "acks": "all",
        "max.in.flight.requests.per.connection": settings.pool_max_in_flight,
        "queue.buffering.max.kbytes": max(share // 1024, 1),
    }


def _share(settings: ProducerSettings, profile: Profile) -> float:
    """The part of the buffer that the producers of a profile have together; all parts make one."""
    if not settings.throughput_topics or _EVERYTHING in settings.throughput_topics:
        return 1.0  # the other profile is never used
    large = profile == throughput_profile(settings)
    return THROUGHPUT_SHARE if large else 1 - THROUGHPUT_SHARE


def transactional_config(
    brokers: BrokerSettings, settings: ProducerSettings, profile: Profile, transactional_id: str
) -> KafkaConfig:
    """A producer whose batches are all or nothing."""
    return producer_config(brokers, settings, profile, f"coinstream-{transactional_id}") | {
        "acks": "all",
        "transactional.id": transactional_id,
        "transaction.timeout.ms": settings.transaction_timeout_ms,
        # librdkafka refuses more than the transaction's.
        "socket.timeout.ms": min(ANSWER_MS, settings.transaction_timeout_ms),
        # librdkafka refuses a delivery timeout beyond the transaction's.
        "delivery.timeout.ms": min(settings.delivery_timeout_ms, settings.transaction_timeout_ms),
    }
