"""librdkafka configurations of the consumers."""

from __future__ import annotations

from typing import Final

from coinstream.kafka import FETCH_QUEUE_BACKOFF_MS, base_config
from coinstream.settings import BrokerSettings, ConsumerSettings, KafkaConfig

PREFETCH_KBYTES: Final = 16_384
"""What librdkafka fetches ahead over all partitions. More was not faster, and is memory."""
METADATA_REFRESH_MS: Final = 5_000


def reader_config(brokers: BrokerSettings, settings: ConsumerSettings, group: str) -> KafkaConfig:
    """Return the settings of a bare consumer that commits nothing, with the specification's defaults."""
    return {
        **base_config(brokers, f"coinstream-{group}"),
        "group.id": group,
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": settings.offset_reset,
        "session.timeout.ms": settings.session_timeout_ms,
        # librdkafka refuses a poll interval below the session's.
        "max.poll.interval.ms": max(settings.max_poll_interval_ms, settings.session_timeout_ms),
        "heartbeat.interval.ms": settings.heartbeat_interval_ms,
        # A member that lost its session rejoins when its last commit is answered or given up, not before.
        "socket.timeout.ms": max(settings.session_timeout_ms, brokers.request_timeout_ms),
        "fetch.min.bytes": settings.fetch_min_bytes,
        "fetch.max.bytes": settings.fetch_max_bytes,
        "message.max.bytes": min(settings.fetch_max_bytes, 1_000_000_000),
        "max.partition.fetch.bytes": settings.partition_fetch_bytes,
        "fetch.wait.max.ms": settings.fetch_wait_ms,
        "queued.max.messages.kbytes": PREFETCH_KBYTES,
        "fetch.queue.backoff.ms": FETCH_QUEUE_BACKOFF_MS,
        "allow.auto.create.topics": False,
    }


def member_config(
    brokers: BrokerSettings, settings: ConsumerSettings, group: str, instance_id: str | None = None
) -> KafkaConfig:
    """Return the settings of a group member with cooperative rebalancing."""
    config = reader_config(brokers, settings, group)
    config["partition.assignment.strategy"] = "cooperative-sticky"
    # `start_offsets` decides where to begin, also when a fetched offset is gone.
    config["auto.offset.reset"] = "error"
    # So soon are added partitions found; the default is five minutes.
    config["topic.metadata.refresh.interval.ms"] = METADATA_REFRESH_MS
    if instance_id is not None:
        config["group.instance.id"] = instance_id
    return config
