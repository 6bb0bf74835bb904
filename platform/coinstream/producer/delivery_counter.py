"""Count acknowledged messages without a call per message.

librdkafka reports only failures (`delivery.report.only.error`), because a report for each success costs a
third of the throughput. When a message is acknowledged, its Python wrapper releases its reference to the
delivery callback without a call. All messages of a chunk share one callback, which owns an `Unsettled`.
CPython's reference counting runs `Unsettled.__del__` when the last message of the chunk is settled, and the
chunk is then counted.

Only librdkafka may keep references to the callback. The exception is a failed message, which keeps one
until it is sent again or given up. A callback must never be part of a reference cycle. No other code counts
or frees anything in `__del__`: the one in `kafka/__init__.py` only delays freeing a client.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from prometheus_client import Counter as Metric

from coinstream.monitoring.metrics import LATENCY_BUCKETS_MS, Metrics
from coinstream.routing import partition_of_key

Partition = tuple[str, int]
"""Topic and partition."""


class CountedPartition:
    """A partition in which messages are counted; compared by identity, which is cheap.

    Attributes:
        topic: name of the topic.
        partition: number of the partition.
        partitions: number of the topic's partitions.
    """

    __slots__ = ("partition", "partitions", "topic")

    def __init__(self, topic: str, partition: int, partitions: int) -> None:
        self.topic = topic
        self.partition = partition
        self.partitions = partitions

    def holds(self, topic: str, key: bytes) -> bool:
        """Return whether the messages of a key are counted in this partition."""
        return self.topic == topic and self.partition == partition_of_key(key, self.partitions)


class SettledChunk(NamedTuple):
    """A chunk whose messages were all acknowledged or given up.

    Attributes:
        latency_ms: time from the start of the chunk until its last message was settled.
        sent: partition of each message that librdkafka accepted.
        lost: partition of each message that was given up.
    """

    latency_ms: float
    sent: Sequence[CountedPartition]
    lost: Sequence[CountedPartition]


class Unsettled:
    """Add a `SettledChunk` to a queue when the last reference to this object is released.

    Attributes:
        sent: partition of each message that librdkafka accepted.
        lost: partition of each message that was given up.
    """

    __slots__ = ("_queue", "_since", "lost", "sent")

    def __init__(self, queue: deque[SettledChunk]) -> None:
        self.sent: list[CountedPartition] = []
        self.lost: list[CountedPartition] = []
        self._queue = queue
        self._since = time.perf_counter()

    def __del__(self) -> None:
        """Add the chunk to the queue, without taking a lock: the running thread may hold any."""
        latency = (time.perf_counter() - self._since) * 1000
        self._queue.append(SettledChunk(latency, self.sent, self.lost))


class DeliveryCounter:
    """Count acknowledged messages by topic and partition, for the caller and for the metrics. Thread-safe.

    Attributes:
        settled: chunks that are not counted yet; appending is atomic and needs no lock.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.settled: deque[SettledChunk] = deque()
        self._metrics: Final = metrics
        self._lock = threading.Lock()
        # A caller of `delivered` must not miss chunks that another thread took from the queue.
        self._counting = threading.Lock()
        self._delivered: Counter[Partition] = Counter()
        self._metrics_of: dict[Partition, Metric] = {}

    def delivered(self) -> Mapping[Partition, int]:
        """Return the number of acknowledged messages by topic and partition; exact after a flush."""
        self.count()
        with self._lock:
            return dict(self._delivered)

    def count(self) -> None:
        """Count all settled chunks in the queue."""
        with self._counting:
            self._count()

    def _count(self) -> None:
        # One bucket per chunk, and one call per topic and bucket for all chunks: a call per chunk and topic
        # would cost more than all other counting when there are many topics.
        buckets: defaultdict[int, _Bucket] = defaultdict(_Bucket)
        while self.settled:
            chunk = self.settled.popleft()
            buckets[bisect_left(LATENCY_BUCKETS_MS, chunk.latency_ms)].add(chunk)
        partitions: Counter[CountedPartition] = Counter()
        for bucket in buckets.values():
            partitions.update(bucket.counts)
            topics: Counter[str] = Counter()
            for counted, count in bucket.counts.items():
                topics[counted.topic] += count
            for topic, count in topics.items():
                if count:
                    self._metrics.producer_latency.observe(bucket.mean_ms, topic, count=count)
        if partitions:
            credited: Counter[Partition] = Counter()
            for counted, count in partitions.items():
                credited[counted.topic, counted.partition] += count
            self.credit(credited)

    def add(self, topic: str, partition: int, latency_ms: float) -> None:
        """Count one message with a delivery report."""
        self._metrics.producer_latency.observe(latency_ms, topic)
        self.credit({(topic, partition): 1})

    def credit(self, partitions: Mapping[Partition, int]) -> None:
        """Count acknowledged messages by topic and partition."""
        with self._lock:
            for partition, count in partitions.items():
                self._delivered[partition] += count
        for partition, count in partitions.items():
            self._metric(partition).inc(count)

    def _metric(self, partition: Partition) -> Metric:
        found = self._metrics_of.get(partition)
        if found is None:
            topic, number = partition
            found = self._metrics.messages_produced.labels(topic, str(number))
            self._metrics_of[partition] = found
        return found


class _Bucket:
    """Chunks of one count whose latencies are in the same histogram bucket."""

    def __init__(self) -> None:
        self.counts: Counter[CountedPartition] = Counter()
        self._messages = 0
        self._total_ms = 0.0

    @property
    def mean_ms(self) -> float:
        """Return the mean latency of the messages, which is in the same bucket."""
        return self._total_ms / self._messages if self._messages else 0.0

    def add(self, chunk: SettledChunk) -> None:
        """Add a settled chunk."""
        self.counts.update(chunk.sent)
        if chunk.lost:
            self.counts.subtract(chunk.lost)
        self._messages += len(chunk.sent)
        self._total_ms += chunk.latency_ms * len(chunk.sent)
