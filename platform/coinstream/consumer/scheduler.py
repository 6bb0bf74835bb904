"""Run one worker per partition, count what the workers handle, and detect partitions without progress."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from confluent_kafka import Message as Record
from prometheus_client import Counter

from coinstream.consumer.handling import StuckPartition
from coinstream.consumer.partition_state import PartitionState
from coinstream.monitoring.metrics import METRICS, Metrics

Work = Callable[[PartitionState], float | None]
"""Function that handles one batch of a partition; returns the seconds until the next attempt, or None."""


class Backlog:
    """Bytes fetched but not in work, over all partitions.

    Attributes:
        lock: lock of `changed`, which other conditions may share.
        changed: notified when bytes are released, a worker finishes, or a dead letter is acknowledged.
        size: number of bytes, guarded by `changed`.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.size = 0

    def release_bytes(self, weight: int) -> None:
        """Subtract the bytes of records taken into work."""
        with self.changed:
            self.size -= weight
            self.changed.notify_all()

    def notify(self) -> None:
        """Wake the threads that wait for a change."""
        with self.changed:
            self.changed.notify_all()

    def wait_for_room(self, limit: int, timeout_s: float) -> bool:
        """Wait until the backlog is at most `limit` bytes; return whether it is."""
        with self.changed:
            return self.changed.wait_for(lambda: self.size <= limit, timeout_s)


class Scheduler:
    """Dispatcher of partitions with work to worker threads."""

    def __init__(
        self,
        work: Work,
        threads: int,
        backlog: Backlog,
        on_crash: Callable[[BaseException], None],
        name: str,
    ) -> None:
        self._work = work
        self._on_crash = on_crash
        self._backlog = backlog
        self._changed = backlog.changed
        # Two conditions share one lock.
        self._jobs = threading.Condition(backlog.lock)
        self._ready: deque[PartitionState] = deque()
        self._delayed: list[tuple[float, int, PartitionState]] = []
        self._sequence = itertools.count()
        self._closed = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, runs: Sequence[tuple[PartitionState, Sequence[Record]]]) -> None:
        """Queue records of partitions."""
        weights = [state.add(records) for state, records in runs]
        with self._jobs:
            self._backlog.size += sum(weights)
            for state, _ in runs:
                self._enqueue(state)
            # Wake one worker, which wakes the next if there is more work; all at once would compete for the
            # GIL.
            if self._ready:
                self._jobs.notify()

    def chain(self, old: PartitionState, new: PartitionState) -> None:
        """Make `new` wait while a worker uses `old`, an earlier assignment of the same partition."""
        with self._jobs:
            if old.busy:
                old.successor, new.is_waiting = new, True

    def drain(
        self, states: Collection[PartitionState], timeout_s: float, *, dead_letters: bool = True
    ) -> bool:
        """Stop starting work, and wait for messages in work and optionally for pending dead letters.

        Returns:
            Whether all finished within the timeout.
        """
        with self._changed:
            for state in states:
                state.halted = True
                self._backlog.size -= state.drop_queue()
            self._changed.notify_all()
            return self._changed.wait_for(
                lambda: not any(state.busy or (dead_letters and state.pending) for state in states),
                timeout_s,
            )

    def cancel(self, states: Collection[PartitionState]) -> None:
        """Stop starting work on partitions, without waiting."""
        self.drain(states, 0)

    def close(self) -> None:
        """Stop the workers after their current batch, without waiting."""
        with self._changed:
            self._closed = True
            self._jobs.notify_all()

    def _enqueue(self, state: PartitionState) -> None:
        if state.busy or state.queued or state.halted or state.is_waiting or not state.has_work:
            return
        state.queued = True
        self._ready.append(state)

    def _run(self) -> None:
        while (state := self._take()) is not None:
            delay = None
            try:
                delay = self._work(state)
            except BaseException as error:  # noqa: BLE001 - passed on: the group must stop, not lose a worker
                state.halted = True
                self._on_crash(error)
            self._put_back(state, delay)

    def _take(self) -> PartitionState | None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                while self._delayed and self._delayed[0][0] <= now:
                    self._ready.append(heapq.heappop(self._delayed)[2])
                if self._ready:
                    state = self._ready.popleft()
                    state.queued = False
                    if not state.halted:
                        state.busy = True
                        if self._ready:
                            self._jobs.notify()
                        return state
                else:
                    self._jobs.wait(self._delayed[0][0] - now if self._delayed else None)
        return None

    def _put_back(self, state: PartitionState, delay: float | None) -> None:
        with self._changed:
            state.busy = False
            if delay is None or state.halted:
                self._enqueue(state)
            else:
                state.queued = True
                heapq.heappush(self._delayed, (time.monotonic() + delay, next(self._sequence), state))
                # A sleeping worker may wake up too late for this partition.
                self._jobs.notify()
            if state.successor is not None:
                state.successor.is_waiting = False
                self._enqueue(state.successor)
                state.successor = None
            self._changed.notify_all()


log = logging.getLogger("coinstream.consumer")

SAMPLE: Final = 64
"""Number of messages of a batch per latency sample, which counts for all of them."""


class ConsumerMetrics:
    """Counts of handled messages, and latencies since the record's timestamp."""

    def __init__(self, group: str, metrics: Metrics = METRICS) -> None:
        self._group = group
        self._metrics = metrics
        self._counters: dict[tuple[str, int], Counter] = {}
        self._lock = threading.Lock()
        self._handled = 0

    @property
    def total(self) -> int:
        """Return the number of messages handled since the start."""
        return self._handled

    def handled(self, state: PartitionState, before: int) -> None:
        """Count the messages `state.batch[before:state.done]` as handled now."""
        count = state.done - before
        if count <= 0:
            return
        state.total += count
        state.progressed = time.monotonic()
        counter = self._counters.get((state.topic, state.partition)) or self._counter(state)
        counter.inc(count)
        with self._lock:
            self._handled += count
        self._latencies(state, before, count)

    def error(self, state: PartitionState, kind: str) -> None:
        """Count a failed message of a partition."""
        labels = (state.topic, str(state.partition), self._group, kind)
        self._metrics.consumer_errors.labels(*labels).inc()

    def fetch_error(self, topic: str, partition: str, kind: str) -> None:
        """Count a failed fetch."""
        self._metrics.consumer_errors.labels(topic, partition, self._group, kind).inc()

    def lag(self, source: str, lags: Mapping[tuple[str, int], int]) -> None:
        """Replace the lag of this member's partitions."""
        series: dict[tuple[str, ...], float] = {
            (topic, str(partition), self._group): float(lag) for (topic, partition), lag in lags.items()
        }
        self._metrics.consumer_lag.replace(source, series)

    def _latencies(self, state: PartitionState, before: int, count: int) -> None:
        now_ms = time.time() * 1000
        for at in range(before, state.done, SAMPLE):
            stamp = state.batch[at].timestamp_ms
            if stamp >= 0:
                late = max(now_ms - stamp, 0.0)
                weight = min(SAMPLE, state.done - at)
                self._metrics.consumer_latency.observe(late, state.topic, self._group, count=weight)

    def _counter(self, state: PartitionState) -> Counter:
        labels = (state.topic, str(state.partition), self._group)
        counter = self._metrics.messages_consumed.labels(*labels)
        return self._counters.setdefault((state.topic, state.partition), counter)


class StallDetector:
    """Detector that reports each stuck partition once per message: log, metrics and callback.

    Attributes:
        stuck: stuck partitions of the last check.
    """

    def __init__(
        self,
        group: str,
        metrics: ConsumerMetrics,
        after_s: float,
        on_stuck: Callable[[StuckPartition], None] | None,
    ) -> None:
        self._group = group
        self._metrics = metrics
        self._after_s = after_s
        self._on_stuck = on_stuck
        self.stuck: tuple[StuckPartition, ...] = ()

    def check(self, states: Iterable[PartitionState]) -> None:
        """Check all partitions of the member."""
        now = time.monotonic()
        found: list[StuckPartition] = []
        for state in states:
            seconds = now - state.progressed
            if seconds < self._after_s or not state.has_work:
                continue
            batch, done = state.batch, state.done
            offset = batch[done].offset if done < len(batch) else -1
            found.append(
                StuckPartition(state.topic, state.partition, offset, round(seconds, 1), state.failures)
            )
            if state.reported_at != offset:
                state.reported_at = offset
                self._report(state, found[-1])
        self.stuck = tuple(found)

    def _report(self, state: PartitionState, report: StuckPartition) -> None:
        self._metrics.error(state, "STUCK")
        log.error(
            "group %s: %s makes no progress at offset %d for %.0f s (%d failed attempts)",
            *(self._group, state.name, report.offset, report.seconds, report.failures),
        )
        if self._on_stuck is None:
            return
        try:
            self._on_stuck(report)
        except Exception:
            log.exception("group %s: on_stuck failed", self._group)
