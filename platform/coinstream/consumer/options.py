"""What a consumer group can be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from coinstream.consumer.retry import RetrySchedule
from coinstream.settings import ConsumerSettings
from coinstream.sharding import Shard

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
        shard: handle only the messages whose key belongs to this shard, and skip the others before they
            are decoded. Every shard reads all partitions, as a group of its own: `{group}-2-of-4`. So a key
            is handled by the same process in every topic, whatever its partition there.
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
    shard: Shard | None = None

    def __post_init__(self) -> None:
        for name in ("batch_size", "commit_interval_ms", "backlog_bytes", "partition_backlog_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")

    def schedule(self, settings: ConsumerSettings) -> RetrySchedule:
        """When failed messages are tried again."""
        retries = settings.retries if self.retries is None else self.retries
        return RetrySchedule(retries, self.retry_backoff_ms or settings.retry_backoff_ms)
