"""What the cluster acknowledged, counted without a call per message.

With errors-only delivery reports librdkafka's wrapper calls nobody for a message that was acknowledged: it
only lets go of the message's callback. The messages of one call share one callback, so when the last
reference to it goes, all of them are settled, and that is the moment in which they are counted.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from coinstream.monitoring.metrics import Metrics
from coinstream.serialization import Writer

if TYPE_CHECKING:
    from coinstream.producer.pooled_producer import Lane

Partition = tuple[str, int]
"""Topic and partition."""

_TOPIC: Final = attrgetter("topic")


class Target:
    """Where the messages of one market go. Compared by identity, so that counting is cheap."""

    __slots__ = ("key", "lane", "partition", "topic", "write")

    def __init__(self, lane: Lane, topic: str, key: bytes, partition: int, write: Writer) -> None:
        self.lane = lane
        self.topic = topic
        self.key = key
        self.partition = partition
        self.write = write


class Receipt(NamedTuple):
    """A call whose messages are all settled.

    Attributes:
        latency_ms: from its start until the last message was settled.
        targets: one entry for each message that librdkafka took.
        lost: the same for those that were given up.
    """

    latency_ms: float
    targets: Sequence[Target]
    lost: Sequence[Target]


class Receipts:
    """Counts acknowledged messages by topic and partition, for the caller and for the metrics. Thread-safe.

    Attributes:
        new: receipts that nobody has counted yet; appending is atomic and needs no lock.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.new: deque[Receipt] = deque()
        self._metrics: Final = metrics
        self._lock = threading.Lock()
        # Whoever asks must not see receipts that another thread has taken up and not yet counted.
        self._counting = threading.Lock()
        self._delivered: Counter[Partition] = Counter()

    def delivered(self) -> Mapping[Partition, int]:
        """Acknowledged messages by topic and partition; exact after a flush."""
        self.count()
        with self._lock:
            return dict(self._delivered)

    def count(self) -> None:
        """Count the new receipts; when this returns, all that were new are counted."""
        with self._counting:
            self._count()

    def _count(self) -> None:
        targets: Counter[Target] = Counter()
        while self.new:
            receipt = self.new.popleft()
            targets.update(receipt.targets)
            topics = Counter(map(_TOPIC, receipt.targets))
            if receipt.lost:
                targets.subtract(receipt.lost)
                topics.subtract(map(_TOPIC, receipt.lost))
            for topic, count in topics.items():
                if count:
                    self._metrics.producer_latency.observe(receipt.latency_ms, topic, count=count)
        partitions: Counter[Partition] = Counter()
        for target, count in targets.items():
            partitions[target.topic, target.partition] += count
        if partitions:
            self.credit(partitions)

    def add(self, topic: str, partition: int, latency_ms: float) -> None:
        """Count one message whose delivery was reported."""
        self._metrics.producer_latency.observe(latency_ms, topic)
        self.credit({(topic, partition): 1})

    def credit(self, partitions: Mapping[Partition, int]) -> None:
        """Count messages that are known to be acknowledged, by topic and partition."""
        with self._lock:
            for place, count in partitions.items():
                self._delivered[place] += count
        for (topic, partition), count in partitions.items():
            self._metrics.messages_produced.labels(topic, str(partition)).inc(count)
