"""Define the options of a consumer group and its retry schedule."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

from coinstream.partition_reader import reader_config
from coinstream.settings import BrokerSettings, ConsumerSettings, KafkaConfig

JITTER = 0.2
"""A delay is up to this part shorter or longer, so that failures do not come back in step."""


@dataclass(frozen=True)
class RetrySchedule:
    """Delays that double: 100 ms, 200 ms, … each with jitter.

    Attributes:
        retries: how often to try again after the first attempt.
        initial_ms: the delay before the first retry, in milliseconds.
        max_delay_ms: no delay is longer than this, before jitter.
    """

    retries: int = 8
    initial_ms: float = 100.0
    max_delay_ms: float = 30_000.0
    rng: random.Random = field(default_factory=random.Random, repr=False, compare=False)

    def delay_s(self, failures: int) -> float | None:
        """Seconds until the next attempt after so many failed ones; None: give up."""
        if failures > self.retries:
            return None
        # Doubling stops mattering long before a float would overflow.
        delay = min(self.initial_ms * 2.0 ** min(failures - 1, 60), self.max_delay_ms)
        return delay * self.rng.uniform(1 - JITTER, 1 + JITTER) / 1000


METADATA_REFRESH_MS: Final = 5_000
_MIB = 1_048_576


@dataclass(frozen=True)
class StuckPartition:
    """A partition on which the handler makes no progress while others may go on.

    Attributes:
        offset: the message that is being handled.
        seconds: for how long nothing was finished.
        failures: failed attempts at that message so far.
    """

    topic: str
    partition: int
    offset: int
    seconds: float
    failures: int


@dataclass(frozen=True)
class GroupOptions:
    """Options of one consumer group. What is None comes from `ConsumerSettings`.

    Attributes:
        batch: the handler takes a list of messages of one partition instead of one message.
        batch_size: most messages in such a list.
        concurrent_partitions: partitions handled at the same time.
        retries: how often a failed message is tried again.
        retry_backoff_ms: delay before the first retry; it doubles from there.
        offset_reset: where to begin when the group has no offset: `latest`, `earliest`, or `error`.
        dead_letters: send what cannot be handled to `{topic}.dlq`. Without, the group stops at it.
        commit_interval_ms: how often offsets are committed.
        drain_timeout_s: longest wait for messages in work when partitions are revoked.
        stop_timeout_s: longest wait for messages in work when the group is stopped.
        stuck_after_s: a partition without progress for this long is reported.
        on_stuck: is told of such a partition, besides the log and the metrics.
        backlog_bytes: most bytes fetched and not yet handled, over all partitions.
        partition_backlog_bytes: the same for one partition; more pauses it.
        instance_id: static membership (`group.instance.id`): a restart does not rebalance.
    """

    batch: bool = False
    batch_size: int = 1000
    concurrent_partitions: int | None = None
    retries: int | None = None
    retry_backoff_ms: int | None = None
    offset_reset: Literal["latest", "earliest", "error"] | None = None
    dead_letters: bool = True
    commit_interval_ms: int = 1000
    drain_timeout_s: float = 10.0
    stop_timeout_s: float = 30.0
    stuck_after_s: float = 60.0
    on_stuck: Callable[[StuckPartition], None] | None = None
    backlog_bytes: int = 16 * _MIB
    partition_backlog_bytes: int = 4 * _MIB
    instance_id: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "commit_interval_ms", "backlog_bytes", "partition_backlog_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")

    def schedule(self, settings: ConsumerSettings) -> RetrySchedule:
        """When failed messages are tried again."""
        retries = settings.retries if self.retries is None else self.retries
        return RetrySchedule(retries, self.retry_backoff_ms or settings.retry_backoff_ms)


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
