"""Pool idempotent producers and assign each key to one of them."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Final

import mmh3
import msgspec

from coinstream.monitoring.metrics import Metrics
from coinstream.producer.config import Profile, pooled_config, profile_chooser, throughput_profile
from coinstream.producer.delivery import DeliveryReports, DeliveryTracker
from coinstream.producer.pooled_producer import PooledProducer
from coinstream.producer.topic_cache import RecordTimes
from coinstream.settings import BrokerSettings, ProducerSettings

BUSY_S: Final = 0.004
"""Pause of the poll thread while messages are outstanding, in seconds."""
IDLE_S: Final = 0.1
"""Pause of the poll thread while no message is outstanding, in seconds."""
COUNT_S: Final = 0.25
"""Interval at which acknowledged messages are counted for the metrics, in seconds; counting many chunks at
once is cheaper."""


TOPICS_PER_PRODUCER: Final = 64
"""Topics of the throughput profile that share a producer. Producers send one request at a time, so batches
of many topics fill while a request is in flight: fewer producers mean fewer and larger requests."""


class ProducerPool:
    """Pool of `pool_size` idempotent producers per profile, each opened at first use.

    Order is guaranteed per key: a key of a topic always uses the same producer and profile, also after the
    producer is replaced. By default all keys of a topic share a producer, which keeps batches large and
    threads few. In the latency profile mmh3 of the topic's name chooses it. In the throughput profile each
    64 topics share one, in the order of first use. `affinity="key"` chooses by mmh3 of the key instead.
    """

    def __init__(
        self,
        brokers: BrokerSettings,
        settings: ProducerSettings,
        tracker: DeliveryTracker,
        times: RecordTimes | None = None,
    ) -> None:
        self._brokers = brokers
        self._settings = settings
        self._tracker = tracker
        self._times = times or RecordTimes(metrics=tracker.metrics)
        self._by_key = settings.affinity == "key"
        self.profile_of = profile_chooser(settings)
        self._throughput = throughput_profile(settings)
        self._shared: dict[str, int] = {}
        self._producers: dict[tuple[str, int], PooledProducer] = {}
        self._lock = threading.Lock()
        self._turn = itertools.count()
        self._serving = threading.RLock()  # a future's callback may flush
        self._stopping = threading.Event()
        self._polled = 0.0
        self._poll_thread = threading.Thread(target=self._run, name="coinstream-producers", daemon=True)
        self._poll_thread.start()

    def __len__(self) -> int:
        """Return the number of messages that are not acknowledged yet."""
        return sum(len(producer) for producer in self.producers)

    @property
    def producers(self) -> tuple[PooledProducer, ...]:
        """Return the open producers."""
        return tuple(self._producers.values())

    def find(self, topic: str, key: bytes) -> PooledProducer:
        """Return the producer of a key."""
        profile = self.profile_of(topic)
        if not self._by_key and profile == self._throughput:
            return self._producer(profile, self._shared_number(topic))
        number = mmh3.hash(key if self._by_key else topic, signed=False) % self._settings.pool_size
        return self._producer(profile, number)

    def reports_of(self, topic: str, key: bytes) -> DeliveryReports:
        """Return the delivery reports of the producer of a key."""
        return self.find(topic, key).reports

    def get_producer(self, topic: str = "") -> PooledProducer:
        """Return the next producer, round-robin, for messages without a key, whose order is undefined."""
        return self._producer(self.profile_of(topic), next(self._turn) % self._settings.pool_size)

    def poll(self) -> None:
        """Poll all producers once without waiting, unless they were just polled."""
        now = time.monotonic()
        if now - self._polled < BUSY_S / 2:
            return
        self._polled = now
        for producer in self.producers:
            producer.poll()

    def flush(self, timeout_s: float) -> int:
        """Wait until all messages are acknowledged or given up, at most `timeout_s` seconds.

        Returns:
            The number of outstanding messages.
        """
        deadline = time.monotonic() + timeout_s
        while (waiting := self._flush_once(deadline)) and time.monotonic() < deadline:
            pass
        self._tracker.counter.count()
        return waiting

    def _flush_once(self, deadline: float) -> int:
        """Flush until nothing is outstanding or the time is over; return what is outstanding then."""
        while len(self) and (left := deadline - time.monotonic()) > 0:
            for producer in self.producers:
                producer.flush(min(left, 0.2))
        # The poll thread may have taken reports that it has not handled: they count as served, and their
        # messages as outstanding only when it sends them again.
        if self._serving.acquire(timeout=max(deadline - time.monotonic(), 0.0)):
            self._serving.release()
        return len(self)

    def close(self) -> None:
        """Close all producers. Outstanding messages are given up, so flush before."""
        self._stopping.set()
        self._poll_thread.join()
        for producer in self.producers:
            producer.close()

    def _shared_number(self, topic: str) -> int:
        found = self._shared.get(topic)
        if found is not None:
            return found
        with self._lock:
            number = len(self._shared) // TOPICS_PER_PRODUCER % self._settings.pool_size
            return self._shared.setdefault(topic, number)

    def _producer(self, profile: Profile, number: int) -> PooledProducer:
        producer = self._producers.get((profile.name, number))
        if producer is not None:
            return producer
        with self._lock:
            producer = self._producers.get((profile.name, number))
            if producer is None:
                producer = self._producers[profile.name, number] = self._open(profile, number)
            return producer

    def _open(self, profile: Profile, number: int) -> PooledProducer:
        settings = self._settings
        return PooledProducer(
            pooled_config(self._brokers, settings, profile, f"coinstream-{profile.name}-{number}"),
            self._tracker,
            self._times,
            max_block_ms=settings.max_block_ms,
            delivery_timeout_ms=settings.delivery_timeout_ms,
            retries=settings.retries,
            retry_backoff_ms=settings.retry_backoff_ms,
            on_statistics=BatchSizes(self._tracker.metrics),
        )

    def _run(self) -> None:
        # A caller that publishes also polls: two threads that serve reports compete for the GIL.
        next_count = 0.0
        for pause in self._pauses():
            self._stopping.wait(pause)
            now = time.monotonic()
            if now - self._polled > BUSY_S:
                with self._serving:
                    for producer in self.producers:
                        producer.poll()
            if now >= next_count:
                next_count = now + COUNT_S
                self._tracker.counter.count()

    def _pauses(self) -> Iterator[float]:
        while not self._stopping.is_set():
            yield BUSY_S if len(self) else IDLE_S


class _Window(msgspec.Struct):
    """Number of batches since the last report, and quantiles of their sizes."""

    cnt: int = 0
    p50: int = 0
    p75: int = 0
    p90: int = 0
    p95: int = 0
    p99: int = 0
    max: int = 0


class _Topic(msgspec.Struct):
    batchcnt: _Window = msgspec.field(default_factory=_Window)


class _Report(msgspec.Struct):
    topics: dict[str, _Topic] = msgspec.field(default_factory=dict)


_SHARES: Final = (("p50", 0.50), ("p75", 0.25), ("p90", 0.15), ("p95", 0.05), ("p99", 0.04), ("max", 0.01))
"""Share of the batches counted at each quantile: those between the next lower quantile and itself."""

_read: Final = msgspec.json.Decoder(_Report).decode


class BatchSizes:
    """Statistics callback of librdkafka that counts batch sizes without work per message."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def __call__(self, report: str) -> None:
        """Count the batches of one window, each at the next quantile at or above its size."""
        for topic, found in _read(report).topics.items():
            window, left = found.batchcnt, found.batchcnt.cnt
            counts = [(getattr(window, name), round(window.cnt * share)) for name, share in _SHARES]
            for size, count in reversed(counts):
                count = min(count, left)
                left -= count
                if count:
                    self._metrics.batch_size.observe(size, topic, count=count)
            if left:
                self._metrics.batch_size.observe(window.p50, topic, count=left)
