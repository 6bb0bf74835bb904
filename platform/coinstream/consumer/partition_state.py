"""The work of one assigned partition: what waits, what is in work, and how far it has come."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence

from confluent_kafka import Message as Record

from coinstream.consumer.consumed_message import (
    BatchDecoder,
    ConsumedMessage,
    UndecodableRecord,
    offset_of,
    weight_of,
)
from coinstream.consumer.offset_tracker import OffsetTracker


class PartitionState:
    """One partition for as long as it is assigned. One worker at a time has it.

    Attributes:
        batch: messages in work; the first `done` of them are handled.
        failures: failed attempts at `batch[done]` (or at the rest of the batch, for batch handlers).
        one_by_one: a batch handler has failed for good on this batch and gets single messages.
        is_waiting: another worker still has an older state of this partition; `successor` waits for this one.
        halted: the partition was revoked or the group stops: start nothing more.
        paused: the broker is not asked for more (written by the polling thread).
        committed: the offset of the last successful commit (written by the polling thread).
        total: messages handled, dead letters not among them.
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
        "halted",
        "is_waiting",
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

    def __init__(self, topic: str, partition: int, decoder: BatchDecoder) -> None:
        self.topic = topic
        self.partition = partition
        self._decoder = decoder
        self._lock = threading.Lock()
        self._queue: deque[tuple[Sequence[Record], int]] = deque()
        self._tracker = OffsetTracker()
        self._end = -1
        self.waiting_bytes = 0
        self.batch: list[ConsumedMessage] = []
        self.done = 0
        self.failures = 0
        self.failed_at = -1
        self.one_by_one = False
        self.halted = False
        self.paused = False
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
        """`topic[partition]`, for messages to people."""
        return f"{self.topic}[{self.partition}]"

    @property
    def has_work(self) -> bool:
        """Whether a worker would find something to do."""
        return bool(self.batch or self._queue)

    @property
    def pending(self) -> int:
        """Dead letters that the cluster has not acknowledged yet."""
        return self._tracker.pending

    def add(self, records: Sequence[Record]) -> int:
        """Records that chain those added before; how many bytes they take."""
        weight = weight_of(records)
        with self._lock:
            if not self.has_work:
                self.progressed = time.monotonic()
            self._queue.append((records, weight))
            self.waiting_bytes += weight
        return weight

    def drop_pending(self) -> int:
        """Forget what nobody has begun; how many bytes that frees."""
        with self._lock:
            freed, self.waiting_bytes = self.waiting_bytes, 0
            self._queue.clear()
        return freed

    def load(self, limit: int) -> tuple[list[UndecodableRecord], int]:
        """Take the next `limit` records into work; give those that are no messages, and the bytes freed."""
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
        """All of the batch is handled or pending."""
        with self._lock:
            self._tracker.advance(self._end)
            self.batch, self.done = [], 0
        self.progressed = time.monotonic()

    def skip(self) -> ConsumedMessage:
        """Hold the message that failed and go on behind it."""
        failed = self.batch[self.done]
        with self._lock:
            self._tracker.mark_pending(failed.offset)
        self.done += 1
        return failed

    def release(self, offset: int) -> None:
        """A pending message is settled."""
        with self._lock:
            self._tracker.release(offset)

    def position(self) -> int | None:
        """The offset to commit now."""
        with self._lock:
            if self.batch and self.done:
                self._tracker.advance(self.batch[self.done - 1].offset + 1)
            return self._tracker.position

    def _next_run(self, limit: int) -> tuple[Sequence[Record], int]:
        """At most `limit` records, and the bytes they take."""
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
