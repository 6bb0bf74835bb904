"""What a worker does with a lane: decode, handle, and deal with what failed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from confluent_kafka import Message as Record

from coinstream.consumer.handlers import Call
from coinstream.consumer.metrics import Meter
from coinstream.consumer.partition_state import Lane
from coinstream.consumer.received import offset_of
from coinstream.consumer.retry import RetrySchedule
from coinstream.dlq.entry import dead_letter
from coinstream.dlq.publisher import DeadLetterSink
from coinstream.errors import ConsumeError, RejectedError

log = logging.getLogger("coinstream.consumer")

MOST_HELD: Final = 10_000
"""So many unacknowledged dead letters of one partition are enough; it waits for them then."""
HELD_PAUSE_S: Final = 0.05


class Worker:
    """Handles batches of lanes. One object serves all worker threads."""

    def __init__(
        self,
        group: str,
        call: Call,
        schedule: RetrySchedule,
        batch_size: int,
        sink: DeadLetterSink | None,
        meter: Meter,
    ) -> None:
        self._group = group
        self._call = call
        self._schedule = schedule
        self._batch_size = batch_size
        self._sink = sink
        self._meter = meter
        self.freed: Callable[[int], None] = lambda _: None
        self.nudge: Callable[[], None] = lambda: None

    def work(self, lane: Lane) -> float | None:
        """Handle a batch; the seconds until the lane should be taken up again, None: at once.

        Raises:
            ConsumeError: a message cannot be handled and there are no dead letters for it.
        """
        if not lane.batch:
            if lane.held > MOST_HELD:
                return HELD_PAUSE_S
            self._load(lane)
        before = lane.done
        try:
            self._call.run(lane)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything: it is counted and retried
            self._meter.handled(lane, before)
            return self._failed(lane, error)
        self._meter.handled(lane, before)
        if lane.done == len(lane.batch):
            lane.finish()
        return None

    def _load(self, lane: Lane) -> None:
        bad, freed = lane.load(self._batch_size)
        self.freed(freed)
        for record, error in bad:
            self._bury(lane, record, error, attempts=0)

    def _failed(self, lane: Lane, error: Exception) -> float | None:
        if lane.done != lane.failed_at:
            lane.failed_at = lane.done
            # A message of a batch that has used up its retries gets one attempt alone.
            lane.failures = lane.failures if lane.one_by_one else 0
        lane.failures += 1
        rejected = isinstance(error, RejectedError)
        delay = None if rejected else self._schedule.delay_s(lane.failures)
        failed = lane.batch[lane.done]
        log.warning(
            "%s: %s offset %d failed (attempt %d): %s: %s",
            *(self._group, lane.name, failed.offset, lane.failures, type(error).__name__, error),
        )
        if delay is not None:
            self._meter.error(lane, "HANDLER")
            return delay
        if self._is_batch(lane):
            # Which of them it is shows when each is tried alone.
            lane.one_by_one = True
            lane.failures = max(lane.failures, self._schedule.retries + 1)
            return 0.0
        lane.set_aside()
        self._bury(lane, failed.record, error, lane.failures)
        return None

    def _is_batch(self, lane: Lane) -> bool:
        return self._call.takes_batches and not lane.one_by_one and len(lane.batch) - lane.done > 1

    def _bury(self, lane: Lane, record: Record, error: Exception, attempts: int) -> None:
        self._meter.error(lane, type(error).__name__)
        offset = offset_of(record)
        if self._sink is None:
            raise ConsumeError(
                f"group {self._group} stops at {lane.name} offset {offset}, which it could not handle "
                f"in {attempts} attempt(s): {type(error).__name__}: {error}. Dead letters are switched off."
            )

        def settled() -> None:
            lane.release(offset)
            self.nudge()

        self._sink.put(dead_letter(record, error, attempts, self._group), settled)
