"""Queue the records of one assigned partition, and track which of its offsets may be committed."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from confluent_kafka import Message as Record

from coinstream.consumer.handling import BatchDecoder, ConsumedMessage, UndecodableRecord
from coinstream.kafka.records import offset_of, weight_of


class OffsetTracker:
    """Progress of one partition.

    Messages are handled in order, but unacknowledged dead letters are skipped. The position stays before the
    first of them until it is acknowledged.
    """

    __slots__ = ("_next", "_pending")

    def __init__(self) -> None:
        self._next: int | None = None
        self._pending: set[int] = set()

    def advance(self, following: int) -> None:
        """Mark every message before `following` as handled or pending. A lower offset has no effect."""
        if self._next is None or following > self._next:
            self._next = following

    def mark_pending(self, offset: int) -> None:
        """Mark a message as pending. Call this before advancing past it."""
        self._pending.add(offset)

    def release(self, offset: int) -> None:
        """Mark a pending message as settled."""
        self._pending.discard(offset)

    @property
    def pending(self) -> int:
        """Return the number of pending messages."""
        return len(self._pending)

    @property
    def position(self) -> int | None:
        """Return the offset to commit, that of the first unsettled message; None if nothing was handled."""
        if self._next is None:
            return None
        return min(self._next, min(self._pending)) if self._pending else self._next


class PartitionState:
    """State of one assigned partition, used by one worker at a time.

    Attributes:
        next_offset: offset after the last fetched record; None if unknown.
        batch: messages in work; the first `done` of them are handled.
        failures: failed attempts at `batch[done]`, or at the rest of the batch for batch handlers.
        one_by_one: the retries of a batch are exhausted, so its messages are handled one by one.
        is_waiting: a worker still uses an older state of this partition, whose `successor` is this one.
        halted: the partition was revoked or the group stops, so that no more work is started.
        paused: fetching is paused (set by the polling thread).
        fetched: a reply to a fetch has arrived (set by the polling thread when there is no message).
        committed: offset of the last successful commit (set by the polling thread).
        total: number of handled messages, without dead letters.
    """

    __slots__ = (
        "_decoder",
        "_end",
        "_lock",
        "_queue",
        "_tracker",
        "batch",
        "busy",
        "committed",
        "done",
        "failed_at",
        "failures",
        "fetched",
        "halted",
        "is_waiting",
        "next_offset",
        "one_by_one",
        "partition",
        "paused",
        "progressed",
        "queued",
        "reported_at",
        "successor",
        "topic",
        "total",
        "waiting_bytes",
    )

    def __init__(self, topic: str, partition: int, decoder: BatchDecoder, start: int | None = None) -> None:
        self.topic = topic
        self.partition = partition
        self._decoder = decoder
        self._lock = threading.Lock()
        self._queue: deque[tuple[Sequence[Record], int]] = deque()
        self._tracker = OffsetTracker()
        if start is not None:
            self._tracker.advance(start)
        self.next_offset = start
        self._end = -1
        self.waiting_bytes = 0
        self.batch: list[ConsumedMessage] = []
        self.done = 0
        self.failures = 0
        self.failed_at = -1
        self.one_by_one = False
        self.halted = False
        self.paused = False
        self.fetched = False
        self.busy = False
        self.queued = False
        self.is_waiting = False
        self.successor: PartitionState | None = None
        self.committed: int | None = None
        self.total = 0
        self.progressed = time.monotonic()
        self.reported_at = -1

    @property
    def name(self) -> str:
        """Return `topic[partition]`."""
        return f"{self.topic}[{self.partition}]"

    @property
    def has_work(self) -> bool:
        """Return whether there is work for a worker."""
        return bool(self.batch or self._queue)

    @property
    def is_unfinished(self) -> bool:
        """Return whether nothing was fetched yet, or a message is neither handled nor a dead letter."""
        return not self.fetched or self.busy or self.has_work or self.pending > 0

    @property
    def pending(self) -> int:
        """Return the number of unacknowledged dead letters."""
        return self._tracker.pending

    def add(self, records: Sequence[Record]) -> int:
        """Queue records after the earlier ones; return their bytes."""
        weight = weight_of(records)
        with self._lock:
            if not self.has_work:
                self.progressed = time.monotonic()
            self._queue.append((records, weight))
            self.waiting_bytes += weight
            self.next_offset = offset_of(records[-1]) + 1
        return weight

    def skip_to(self, offset: int) -> None:
        """Continue at an offset before which the cluster no longer has records."""
        with self._lock:
            self.next_offset = offset
            if not self.has_work:
                self._tracker.advance(offset)

    def drop_queue(self) -> int:
        """Discard queued records that are not in work; return the released bytes."""
        with self._lock:
            freed, self.waiting_bytes = self.waiting_bytes, 0
            self._queue.clear()
        return freed

    def load(self, limit: int) -> tuple[list[UndecodableRecord], int]:
        """Take the next `limit` records into work.

        Returns:
            The records that cannot be decoded, and the bytes released from the queue.
        """
        with self._lock:
            records, freed = self._next_run(limit)
            self.waiting_bytes -= freed
        good, bad = self._decoder.decode(records)
        with self._lock:
            for record, _ in bad:
                self._tracker.mark_pending(offset_of(record))
            self._end = offset_of(records[-1]) + 1 if records else self._end
        self.batch, self.done, self.failures, self.failed_at, self.one_by_one = good, 0, 0, -1, False
        return bad, freed

    def finish(self) -> None:
        """Mark the whole batch as handled or pending."""
        with self._lock:
            self._tracker.advance(self._end)
            self.batch, self.done = [], 0
        self.progressed = time.monotonic()

    def skip(self) -> ConsumedMessage:
        """Mark the failed message as pending and continue after it."""
        failed = self.batch[self.done]
        with self._lock:
            self._tracker.mark_pending(failed.offset)
        self.done += 1
        return failed

    def release(self, offset: int) -> None:
        """Mark a pending message as settled."""
        with self._lock:
            self._tracker.release(offset)

    def position(self) -> int | None:
        """Return the offset to commit, or None if there is none yet."""
        with self._lock:
            if self.batch and self.done:
                self._tracker.advance(self.batch[self.done - 1].offset + 1)
            return self._tracker.position

    def _next_run(self, limit: int) -> tuple[Sequence[Record], int]:
        """Return at most `limit` queued records and their bytes."""
        queue = self._queue
        if not queue:
            return (), 0
        run, weight = queue.popleft()
        if len(run) > limit:
            taken = run[:limit]
            freed = weight_of(taken)
            queue.appendleft((run[limit:], weight - freed))
            return taken, freed
        if len(run) == limit or not queue:
            return run, weight
        joined = list(run)
        while queue and len(joined) + len(queue[0][0]) <= limit:
            run, more = queue.popleft()
            joined.extend(run)
            weight += more
        return joined, weight
