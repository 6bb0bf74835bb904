"""Count acknowledged messages without a call per message.

librdkafka reports failures only (`delivery.report.only.error`): a report for each success costs a third of
the rate. For an acknowledged message its Python wrapper calls nothing and drops its reference to the
delivery callback. All messages of a chunk share one callback, which owns an `Unsettled`. CPython's
reference counting runs `Unsettled.__del__` as soon as the last message of the chunk is settled, and the
chunk is counted then.

This is the only place of the package that relies on `__del__`. It holds as long as nothing else keeps a
reference to the callback: a failed message keeps it until the message was sent again or given up, and a
callback must never be part of a reference cycle.
"""

from __future__ import annotations

import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Final, NamedTuple

from prometheus_client import Counter as Metric

from coinstream.monitoring.metrics import LATENCY_BUCKETS_MS, Metrics

Partition = tuple[str, int]
"""Topic and partition."""

_COUNTED: Final = attrgetter("counted")


class CountedPartition:
    """A partition in which messages are counted; compared by identity, which is cheap."""

    __slots__ = ("partition", "topic")

    def __init__(self, topic: str, partition: int) -> None:
        self.topic = topic
        self.partition = partition


class Destination:
    """Topic, key and partition of the messages of one market. Markets of one partition share `counted`."""

    __slots__ = ("counted", "key", "topic")

    def __init__(self, topic: str, key: bytes, counted: CountedPartition) -> None:
        self.topic = topic
        self.key = key
        self.counted = counted


class SettledChunk(NamedTuple):
    """A chunk of which each message was acknowledged or given up.

    Attributes:
        latency_ms: from the start of the chunk until its last message was settled.
        sent: the destination of each message that librdkafka accepted.
        lost: the destination of each message that was given up.
    """

    latency_ms: float
    sent: Sequence[Destination]
    lost: Sequence[Destination]


class Unsettled:
    """Add a `SettledChunk` to a queue when the last reference to this object is dropped.

    Attributes:
        sent: the destination of each message that librdkafka accepted.
        lost: the destination of each message that was given up.
    """

    __slots__ = ("_queue", "_since", "lost", "sent")

    def __init__(self, queue: deque[SettledChunk]) -> None:
        self.sent: list[Destination] = []
        self.lost: list[Destination] = []
        self._queue = queue
        self._since = time.perf_counter()

    def __del__(self) -> None:
        """Add the chunk to the queue and nothing more: any lock may be held where this runs."""
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
        """Return the acknowledged messages by topic and partition; exact after a flush."""
        self.count()
        with self._lock:
            return dict(self._delivered)

    def count(self) -> None:
        """Count all settled chunks that are in the queue at the time of the call."""
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
        """Count one message whose success was reported."""
        self._metrics.producer_latency.observe(latency_ms, topic)
        self.credit({(topic, partition): 1})

    def credit(self, partitions: Mapping[Partition, int]) -> None:
        """Count messages that are known to be acknowledged, by topic and partition."""
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
    """The chunks of one count whose latencies share a bucket of the histogram."""

    def __init__(self) -> None:
        self.counts: Counter[CountedPartition] = Counter()
        self._messages = 0
        self._total_ms = 0.0

    @property
    def mean_ms(self) -> float:
        """The mean latency of the messages, which lies in the same bucket."""
        return self._total_ms / self._messages if self._messages else 0.0

    def add(self, chunk: SettledChunk) -> None:
        """Add a settled chunk."""
        self.counts.update(map(_COUNTED, chunk.sent))
        if chunk.lost:
            self.counts.subtract(map(_COUNTED, chunk.lost))
        self._messages += len(chunk.sent)
        self._total_ms += chunk.latency_ms * len(chunk.sent)
