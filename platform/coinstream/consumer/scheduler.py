"""Workers: several partitions at once, one worker a partition, and nobody waits for a retry."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence

from confluent_kafka import Message as Record

from coinstream.consumer.partition_state import Lane

Work = Callable[[Lane], float | None]
"""Does one batch of a lane. Gives the seconds after which to come back, or None: as soon as there is work."""


class Scheduler:
    """Hands lanes with work to `threads` workers.

    Attributes:
        backlog: bytes fetched that no worker has taken up.
    """

    def __init__(
        self, work: Work, threads: int, on_crash: Callable[[BaseException], None], name: str
    ) -> None:
        self._work = work
        self._on_crash = on_crash
        lock = threading.Lock()
        self._jobs = threading.Condition(lock)
        self._changed = threading.Condition(lock)
        self._ready: deque[Lane] = deque()
        self._delayed: list[tuple[float, int, Lane]] = []
        self._sequence = itertools.count()
        self._closed = False
        self.backlog = 0
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True)
            for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, runs: Sequence[tuple[Lane, Sequence[Record]]]) -> None:
        """Give lanes more to do."""
        weights = [lane.add(records) for lane, records in runs]
        with self._jobs:
            self.backlog += sum(weights)
            for lane, _ in runs:
                self._enqueue(lane)
            # One is woken, who wakes the next if there is more: all at once would only fight for the GIL.
            if self._ready:
                self._jobs.notify()

    def freed(self, weight: int) -> None:
        """Bytes that a worker has taken up."""
        with self._changed:
            self.backlog -= weight
            self._changed.notify_all()

    def follow(self, old: Lane, new: Lane) -> None:
        """The same partition came back while a worker still has its old lane: the new one waits for it."""
        with self._jobs:
            if old.busy:
                old.successor, new.is_waiting = new, True

    def wait_for_room(self, limit: int, timeout_s: float) -> bool:
        """Wait until the backlog is at most `limit` bytes; whether it is."""
        with self._changed:
            return self._changed.wait_for(lambda: self.backlog <= limit, timeout_s)

    def halt(self, lanes: Collection[Lane], timeout_s: float, *, letters: bool = True) -> bool:
        """Let the messages in work (and dead letters on the way) end, start no more; whether all ended."""
        with self._changed:
            for lane in lanes:
                lane.halted = True
                self.backlog -= lane.drop_pending()
            self._changed.notify_all()
            return self._changed.wait_for(
                lambda: not any(lane.busy or (letters and lane.held) for lane in lanes), timeout_s
            )

    def abandon(self, lanes: Collection[Lane]) -> None:
        """Start nothing more on these, and do not wait."""
        self.halt(lanes, 0)

    def nudge(self) -> None:
        """Something that somebody may wait for has changed."""
        with self._changed:
            self._changed.notify_all()

    def close(self) -> None:
        """Let the workers go when they have ended what they are at. Does not wait."""
        with self._changed:
            self._closed = True
            self._jobs.notify_all()

    def _enqueue(self, lane: Lane) -> None:
        if lane.busy or lane.queued or lane.halted or lane.is_waiting or not lane.has_work:
            return
        lane.queued = True
        self._ready.append(lane)

    def _run(self) -> None:
        while (lane := self._take()) is not None:
            delay = None
            try:
                delay = self._work(lane)
            except BaseException as error:  # noqa: BLE001 - passed on: the group must stop, not lose a worker
                lane.halted = True
                self._on_crash(error)
            self._put_back(lane, delay)

    def _take(self) -> Lane | None:
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                while self._delayed and self._delayed[0][0] <= now:
                    self._ready.append(heapq.heappop(self._delayed)[2])
                if self._ready:
                    lane = self._ready.popleft()
                    lane.queued = False
                    if not lane.halted:
                        lane.busy = True
                        if self._ready:
                            self._jobs.notify()
                        return lane
                else:
                    self._jobs.wait(self._delayed[0][0] - now if self._delayed else None)
        return None

    def _put_back(self, lane: Lane, delay: float | None) -> None:
        with self._changed:
            lane.busy = False
            if delay is None or lane.halted:
                self._enqueue(lane)
            else:
                lane.queued = True
                heapq.heappush(self._delayed, (time.monotonic() + delay, next(self._sequence), lane))
                # Whoever sleeps may sleep too long for this one.
                self._jobs.notify()
            if lane.successor is not None:
                lane.successor.is_waiting = False
                self._enqueue(lane.successor)
                lane.successor = None
            self._changed.notify_all()
