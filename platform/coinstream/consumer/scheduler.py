"""Run worker threads that handle several partitions concurrently, with one worker per partition."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence

from confluent_kafka import Message as Record

from coinstream.consumer.partition_state import PartitionState

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
