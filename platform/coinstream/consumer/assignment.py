"""Track the partitions that a member owns: assigned, revoked, lost, paused and committed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from coinstream.consumer.consumed_message import BatchDecoder
from coinstream.consumer.partition_state import PartitionState
from coinstream.consumer.scheduler import Scheduler
from coinstream.sharding import Shard

log = logging.getLogger("coinstream.consumer")

PartitionKey = tuple[str, int]
COMMIT_TIMEOUT_S: Final = 30.0
"""An asynchronous commit that was not answered for so long is sent again."""
COMMITTED_TIMEOUT_S: Final = 10.0
"""Longest wait for the committed offsets of new partitions."""
COMMITTED_ATTEMPTS: Final = 3
"""How often they are asked for: the polling thread waits, and must be back before the group takes it for dead
(a minute by default)."""


class Assignment:
    """Lanes by partition. Everything but `committed_by` runs in the polling thread.

    Attributes:
        states: the partitions that this member has now.
        drain_timeout_s: longest wait for what is in work when partitions are given back.
        lost: how often partitions were lost: others may already handle what was in work here.
    """

    def __init__(
        self, group: str, scheduler: Scheduler, drain_timeout_s: float, shard: Shard | None = None
    ) -> None:
        self._group = group
        self._shard = shard
        self._scheduler = scheduler
        self.drain_timeout_s = drain_timeout_s
        self._decoders: dict[str, BatchDecoder] = {}
        self._draining: dict[PartitionKey, PartitionState] = {}
        self._lock = threading.Lock()
        self._in_flight: dict[PartitionKey, tuple[PartitionState, int]] = {}
        self._commit_sent_at = 0.0
        self.states: dict[PartitionKey, PartitionState] = {}
        self.lost = 0

    def on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Take partitions on, from their committed offsets."""
        consumer.incremental_assign(from_committed(self._group, consumer, partitions))
        for part in partitions:
            partition_key = (part.topic, part.partition)
            decoder = self._decoders.setdefault(part.topic, BatchDecoder(part.topic, self._shard))
            state = self.states[partition_key] = PartitionState(part.topic, part.partition, decoder)
            old = self._draining.pop(partition_key, None)
            if old is not None:
                self._scheduler.chain(old, state)
        log.info("group %s: assigned %s", self._group, _names(partitions))

    def on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Give partitions back: end what is in work, within a bound, and commit what is done."""
        states = self._remove(partitions)
        if not self._scheduler.drain(states, self.drain_timeout_s):
            slow = ", ".join(state.name for state in states if state.busy)
            log.warning(
                "group %s: gives up %s with a message still in work after %g s; it will be handled again",
                *(self._group, slow or "partitions with dead letters on the way", self.drain_timeout_s),
            )
        self._keep_busy(states)
        self.commit_now(consumer, states)
        consumer.incremental_unassign(partitions)
        log.info("group %s: gave back %s", self._group, _names(partitions))

    def on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Partitions are lost (the group went on without this member): commit nothing."""
        states = self._remove(partitions)
        self._scheduler.cancel(states)
        self._keep_busy(states)
        self.lost += len(partitions)
        consumer.incremental_unassign(partitions)
        log.warning(
            "group %s: lost %s; uncommitted messages are handled again", self._group, _names(partitions)
        )

    def commit_soon(self, consumer: Consumer) -> None:
        """Commit what is done since the last commit, without waiting. `on_commit` says how it went."""
        with self._lock:
            if self._in_flight and time.monotonic() - self._commit_sent_at < COMMIT_TIMEOUT_S:
                return
            self._in_flight = {
                partition_key: (state, position)
                for partition_key, state in self.states.items()
                if (position := state.position()) is not None and position != state.committed
            }
            self._commit_sent_at = time.monotonic()
            offsets = [
                TopicPartition(*partition_key, position)
                for partition_key, (_, position) in self._in_flight.items()
            ]
        if offsets:
            consumer.commit(offsets=offsets, asynchronous=True)

    def on_commit(self, error: KafkaError | None, partitions: Iterable[TopicPartition]) -> None:
        """The outcome of a commit (librdkafka calls it while the thread polls)."""
        with self._lock:
            asked, self._in_flight = self._in_flight, {}
        if error is not None:
            log.warning("group %s: a commit failed and is repeated: %s", self._group, error.str())
            return
        for part in partitions:
            state, position = asked.get((part.topic, part.partition), (None, -1))
            if part.error is None and state is not None and position == part.offset:
                state.committed = position

    def commit_now(self, consumer: Consumer, states: Collection[PartitionState]) -> bool:
        """Commit what is done and wait for the answer; whether all is committed."""
        done = [
            (state, position)
            for state in states
            if (position := state.position()) is not None and position != state.committed
        ]
        if not done:
            return True
        offsets = [TopicPartition(state.topic, state.partition, position) for state, position in done]
        try:
            answers = consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as failed:
            log.warning("group %s: a commit failed: %s", self._group, failed.args[0].str())
            return False
        for state, position in done:
            state.committed = position
        return all(answer.error is None for answer in answers)

    def apply_backpressure(self, consumer: Consumer, limit: int, *, all_stop: bool) -> None:
        """Pause partitions whose backlog is over the limit (or all), resume those that have worked it off."""
        states = self.states.values()
        pause = [state for state in states if not state.paused and (all_stop or state.waiting_bytes > limit)]
        resume = [
            state for state in states if state.paused and not all_stop and state.waiting_bytes <= limit // 2
        ]
        for chosen, change in ((pause, consumer.pause), (resume, consumer.resume)):
            if chosen:
                change([TopicPartition(state.topic, state.partition) for state in chosen])
        for state in pause:
            state.paused = True
        for state in resume:
            state.paused = False

    def _remove(self, partitions: Iterable[TopicPartition]) -> list[PartitionState]:
        partition_keys = [(part.topic, part.partition) for part in partitions]
        return [
            self.states.pop(partition_key) for partition_key in partition_keys if partition_key in self.states
        ]

    def _keep_busy(self, states: Iterable[PartitionState]) -> None:
        self._draining = {
            partition_key: state for partition_key, state in self._draining.items() if state.busy
        }
        self._draining |= {(state.topic, state.partition): state for state in states if state.busy}


def from_committed(group: str, consumer: Consumer, partitions: list[TopicPartition]) -> list[TopicPartition]:
    """The partitions with the offsets to begin from; as they are when the coordinator does not answer.

    librdkafka would ask by itself, but only once: the answer of a broker that is not (or not yet) the
    coordinator leaves the partitions without a fetcher for good (its issue 5586).
    """
    if not partitions:
        # A rebalance that moves none to this member asks nobody, and waits for nobody.
        return partitions
    for _ in range(COMMITTED_ATTEMPTS):
        try:
            return consumer.committed(partitions, timeout=COMMITTED_TIMEOUT_S)
        except KafkaException as failed:
            log.warning("group %s: asking for committed offsets: %s", group, failed.args[0].str())
    return partitions


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(f"{part.topic}[{part.partition}]" for part in partitions) or "no partition"
