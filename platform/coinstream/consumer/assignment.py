"""Track the partitions that a member owns: assigned, revoked, lost, paused and committed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable
from typing import Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition

from coinstream.consumer.handling import BatchDecoder
from coinstream.consumer.partition_state import PartitionState
from coinstream.consumer.scheduler import Scheduler
from coinstream.consumer.start_offsets import StartOffsets
from coinstream.kafka import is_fatal
from coinstream.kafka.records import PartitionKey

log = logging.getLogger("coinstream.consumer")

COMMIT_TIMEOUT_S: Final = 30.0
"""Time after which an unanswered asynchronous commit is sent again, in seconds."""


class Assignment:
    """States of the assigned partitions. Only `on_commit` runs outside of the polling thread.

    Attributes:
        states: assigned partitions.
        drain_timeout_s: maximum time to wait for messages in work when partitions are revoked.
        lost: number of lost partitions, whose messages in work other members may handle too.
        starts: start offsets of partitions, and gaps.
    """

    def __init__(
        self,
        group: str,
        scheduler: Scheduler,
        starts: StartOffsets,
        drain_timeout_s: float,
    ) -> None:
        self._group = group
        self._scheduler = scheduler
        self._decoders: dict[str, BatchDecoder] = {}
        self._draining: dict[PartitionKey, PartitionState] = {}
        self._lock = threading.Lock()
        self._in_flight: dict[PartitionKey, tuple[PartitionState, int]] = {}
        self._commit_sent_at = 0.0
        self._gaps: set[PartitionKey] = set()
        self.starts = starts
        self.drain_timeout_s = drain_timeout_s
        self.states: dict[PartitionKey, PartitionState] = {}
        self.lost = 0

    def on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Start newly assigned partitions at their start offsets."""
        found = self.starts.find(consumer, partitions)
        consumer.incremental_assign(found)
        for part in found:
            self._add((part.topic, part.partition), part.offset)
        log.info("group %s: assigned %s", self._group, _names(partitions))

    def on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Release revoked partitions: finish messages in work within a timeout, and commit."""
        states = self._remove(partitions)
        if not self._scheduler.drain(states, self.drain_timeout_s):
            slow = ", ".join(state.name for state in states if state.busy)
            log.warning(
                "group %s: gives up %s with a message still in work after %g s; it will be handled again",
                *(self._group, slow or "partitions with unacknowledged dead letters", self.drain_timeout_s),
            )
        self._keep_busy(states)
        self.commit_now(consumer, states)
        consumer.incremental_unassign(partitions)
        log.info("group %s: gave back %s", self._group, _names(partitions))

    def on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Drop partitions that were reassigned without a revocation, without committing."""
        states = self._remove(partitions)
        self._scheduler.cancel(states)
        self._keep_busy(states)
        self.lost += len(partitions)
        consumer.incremental_unassign(partitions)
        log.warning(
            "group %s: lost %s; uncommitted messages are handled again", self._group, _names(partitions)
        )

    def on_gap(self, consumer: Consumer, key: PartitionKey) -> bool:
        """Continue at the earliest available record after a fetch from a deleted offset.

        Returns:
            False if the group must stop, because its offset reset is `error`.
        """
        state = self.states.get(key)
        if state is None:
            return True
        try:
            start = self.starts.after_gap(consumer, key, state.next_offset)
        except KafkaException as failed:
            log.warning("group %s: %s cannot go on yet: %s", self._group, state.name, failed.args[0].str())
            self._gaps.add(key)
            return True
        if start is None:
            return False
        consumer.incremental_unassign([TopicPartition(*key)])
        if state.next_offset is not None and start < state.next_offset:
            self._replace(key, start)
        else:
            state.skip_to(start)
            state.paused = False
        consumer.incremental_assign([TopicPartition(*key, start)])
        return True

    def retry_gaps(self, consumer: Consumer) -> None:
        """Retry `on_gap` for partitions for which the cluster did not answer."""
        waiting, self._gaps = self._gaps, set()
        for key in waiting:
            self.on_gap(consumer, key)

    def restart(self, consumer: Consumer, topic: str) -> None:
        """Read the partitions of a recreated topic from their start."""
        keys = [key for key in self.states if key[0] == topic]
        parts = [TopicPartition(*key, OFFSET_BEGINNING) for key in keys]
        if parts:
            consumer.incremental_unassign(parts)
            for key in keys:
                self._replace(key, OFFSET_BEGINNING)
                self.starts.report_recreated(*key)
            consumer.incremental_assign(parts)

    def commit_soon(self, consumer: Consumer) -> None:
        """Commit new offsets without waiting. `on_commit` receives the result."""
        with self._lock:
            if self._in_flight and time.monotonic() - self._commit_sent_at < COMMIT_TIMEOUT_S:
                return
            self._in_flight = {
                key: (state, position)
                for key, state in self.states.items()
                if (position := state.position()) is not None and position != state.committed
            }
            self._commit_sent_at = time.monotonic()
            offsets = [self._offset(state, position) for state, position in self._in_flight.values()]
        if offsets:
            consumer.commit(offsets=offsets, asynchronous=True)

    def on_commit(self, error: KafkaError | None, partitions: Iterable[TopicPartition]) -> None:
        """Process the result of a commit; called by librdkafka during a poll."""
        with self._lock:
            sent, self._in_flight = self._in_flight, {}
        if error is not None:
            log.warning("group %s: a commit failed and is repeated: %s", self._group, error.str())
            return
        for part in partitions:
            state, position = sent.get((part.topic, part.partition), (None, -1))
            if part.error is None and state is not None and position == part.offset:
                state.committed = position

    def commit_now(self, consumer: Consumer, states: Collection[PartitionState]) -> bool:
        """Commit new offsets and wait for the result; return whether all are committed."""
        done = [
            (state, position)
            for state in states
            if (position := state.position()) is not None and position != state.committed
        ]
        if not done:
            return True
        try:
            answers = consumer.commit(offsets=[self._offset(*each) for each in done], asynchronous=False)
        except KafkaException as failed:
            log.warning("group %s: a commit failed: %s", self._group, failed.args[0].str())
            if is_fatal(failed.args[0]):
                raise
            return False
        for state, position in done:
            state.committed = position
        return all(answer.error is None for answer in answers)

    def apply_backpressure(self, consumer: Consumer, limit: int, *, pause_all: bool) -> None:
        """Pause partitions whose backlog exceeds the limit, or all partitions; resume the others."""
        states = self.states.values()
        pause = [state for state in states if not state.paused and (pause_all or state.waiting_bytes > limit)]
        resume = [
            state for state in states if state.paused and not pause_all and state.waiting_bytes <= limit // 2
        ]
        for chosen, change in ((pause, consumer.pause), (resume, consumer.resume)):
            if chosen:
                change([TopicPartition(state.topic, state.partition) for state in chosen])
        for state in pause:
            state.paused = True
        for state in resume:
            state.paused = False

    def _offset(self, state: PartitionState, position: int) -> TopicPartition:
        return TopicPartition(
            state.topic, state.partition, position, metadata=self.starts.metadata(state.topic)
        )

    def _add(self, key: PartitionKey, offset: int) -> None:
        decoder = self._decoders.setdefault(key[0], BatchDecoder(key[0]))
        state = self.states[key] = PartitionState(*key, decoder, offset if offset >= 0 else None)
        old = self._draining.pop(key, None)
        if old is not None:
            self._scheduler.chain(old, state)

    def _replace(self, key: PartitionKey, offset: int) -> None:
        """Restart a partition at an offset. Work on earlier records ends first and is not counted."""
        old = self.states.pop(key)
        self._scheduler.cancel([old])
        self._keep_busy([old])
        self._add(key, offset)

    def _remove(self, partitions: Iterable[TopicPartition]) -> list[PartitionState]:
        keys = [(part.topic, part.partition) for part in partitions]
        return [self.states.pop(key) for key in keys if key in self.states]

    def _keep_busy(self, states: Iterable[PartitionState]) -> None:
        self._draining = {key: state for key, state in self._draining.items() if state.busy}
        self._draining |= {(state.topic, state.partition): state for state in states if state.busy}


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(f"{part.topic}[{part.partition}]" for part in partitions) or "no partition"
