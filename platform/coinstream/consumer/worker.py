"""Handle the batches of a partition: decode, call the handler, retry, and send to the dead-letter queue."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from confluent_kafka import Message as Record

from coinstream.consumer.consumed_message import offset_of
from coinstream.consumer.handlers import HandlerCall
from coinstream.consumer.metrics import ConsumerMetrics
from coinstream.consumer.partition_state import PartitionState
from coinstream.consumer.retry import RetrySchedule
from coinstream.dlq.entry import dead_letter
from coinstream.dlq.publisher import DeadLetterPublisher
from coinstream.errors import ConsumeError, NonRetryableError

log = logging.getLogger("coinstream.consumer")

MAX_PENDING_DEAD_LETTERS: Final = 10_000
"""So many unacknowledged dead letters of one partition are enough; it waits for them then."""
PENDING_PAUSE_S: Final = 0.05


class Worker:
    """Handles batches of states. One object serves all worker threads."""

    def __init__(
        self,
        group: str,
        call: HandlerCall,
        schedule: RetrySchedule,
        batch_size: int,
        sink: DeadLetterPublisher | None,
        metrics: ConsumerMetrics,
    ) -> None:
        self._group = group
        self._call = call
        self._schedule = schedule
        self._batch_size = batch_size
        self._sink = sink
        self._metrics = metrics
        self.release_bytes: Callable[[int], None] = lambda _: None
        self.notify: Callable[[], None] = lambda: None

    def work(self, state: PartitionState) -> float | None:
        """Handle a batch; the seconds until the state should be taken up again, None: at once.

        Raises:
            ConsumeError: a message cannot be handled and there are no dead letters for it.
        """
        if not state.batch:
            if state.pending > MAX_PENDING_DEAD_LETTERS:
                return PENDING_PAUSE_S
            self._load(state)
        before = state.done
        try:
            self._call.run(state)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything: it is counted and retried
            self._metrics.handled(state, before)
            return self._failed(state, error)
        self._metrics.handled(state, before)
        if state.done == len(state.batch):
            state.finish()
        return None

    def _load(self, state: PartitionState) -> None:
        bad, freed = state.load(self._batch_size)
        self.release_bytes(freed)
        for record, error in bad:
            self._send_to_dlq(state, record, error, attempts=0)

    def _failed(self, state: PartitionState, error: Exception) -> float | None:
        if state.done != state.failed_at:
            state.failed_at = state.done
            # A message of a batch that has used up its retries gets one attempt alone.
            state.failures = state.failures if state.one_by_one else 0
        state.failures += 1
        rejected = isinstance(error, NonRetryableError)
        delay = None if rejected else self._schedule.delay_s(state.failures)
        failed = state.batch[state.done]
        log.warning(
            "%s: %s offset %d failed (attempt %d): %s: %s",
            *(self._group, state.name, failed.offset, state.failures, type(error).__name__, error),
        )
        if delay is not None:
            self._metrics.error(state, "HANDLER")
            return delay
        if self._is_batch(state):
            # Which of them it is shows when each is tried alone.
            state.one_by_one = True
            state.failures = max(state.failures, self._schedule.retries + 1)
            return 0.0
        state.skip()
        self._send_to_dlq(state, failed.record, error, state.failures)
        return None

    def _is_batch(self, state: PartitionState) -> bool:
        return self._call.takes_batches and not state.one_by_one and len(state.batch) - state.done > 1

    def _send_to_dlq(self, state: PartitionState, record: Record, error: Exception, attempts: int) -> None:
        self._metrics.error(state, type(error).__name__)
        offset = offset_of(record)
        if self._sink is None:
            raise ConsumeError(
                f"group {self._group} stops at {state.name} offset {offset}, which it could not handle "
                f"in {attempts} attempt(s): {type(error).__name__}: {error}. Dead letters are switched off."
            )

        def settled() -> None:
            state.release(offset)
            self.notify()

        self._sink.send_to_dlq(dead_letter(record, error, attempts, self._group), settled)
