"""The partitions that a member has: given, taken away, lost, paused, and committed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection, Iterable
from typing import Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from coinstream.consumer.partition_state import Lane
from coinstream.consumer.received import RunDecoder
from coinstream.consumer.scheduler import Scheduler
from coinstream.sharding import Shard

log = logging.getLogger("coinstream.consumer")

Place = tuple[str, int]
COMMIT_PATIENCE_S: Final = 30.0
"""An asynchronous commit that was not answered for so long is sent again."""
COMMITTED_PATIENCE_S: Final = 10.0
"""Longest wait for the committed offsets of new partitions."""
COMMITTED_ATTEMPTS: Final = 3
"""How often they are asked for: the polling thread waits, and must be back before the group takes it for dead
(a minute by default)."""


class Assignment:
    """Lanes by partition. Everything but `committed_by` runs in the polling thread.

    Attributes:
        lanes: the partitions that this member has now.
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
        self._decoders: dict[str, RunDecoder] = {}
        self._old: dict[Place, Lane] = {}
        self._lock = threading.Lock()
        self._asked: dict[Place, tuple[Lane, int]] = {}
        self._asked_at = 0.0
        self.lanes: dict[Place, Lane] = {}
        self.lost = 0

    def given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Take partitions on, from their committed offsets."""
        consumer.incremental_assign(from_committed(self._group, consumer, partitions))
        for part in partitions:
            place = (part.topic, part.partition)
            decoder = self._decoders.setdefault(part.topic, RunDecoder(part.topic, self._shard))
            lane = self.lanes[place] = Lane(part.topic, part.partition, decoder)
            old = self._old.pop(place, None)
            if old is not None:
                self._scheduler.follow(old, lane)
        log.info("group %s: given %s", self._group, _names(partitions))

    def revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Give partitions back: end what is in work, within a bound, and commit what is done."""
        lanes = self._remove(partitions)
        if not self._scheduler.halt(lanes, self.drain_timeout_s):
            slow = ", ".join(lane.name for lane in lanes if lane.busy)
            log.warning(
                "group %s: gives up %s with a message still in work after %g s; it will be handled again",
                *(self._group, slow or "partitions with dead letters on the way", self.drain_timeout_s),
            )
        self._keep_busy(lanes)
        self.commit_now(consumer, lanes)
        consumer.incremental_unassign(partitions)
        log.info("group %s: gave back %s", self._group, _names(partitions))

    def taken(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Partitions are lost (the group went on without this member): commit nothing."""
        lanes = self._remove(partitions)
        self._scheduler.abandon(lanes)
        self._keep_busy(lanes)
        self.lost += len(partitions)
        consumer.incremental_unassign(partitions)
        log.warning(
            "group %s: lost %s; uncommitted messages are handled again", self._group, _names(partitions)
        )

    def commit_soon(self, consumer: Consumer) -> None:
        """Commit what is done since the last commit, without waiting. `answered` says how it went."""
        with self._lock:
            if self._asked and time.monotonic() - self._asked_at < COMMIT_PATIENCE_S:
                return
            self._asked = {
                place: (lane, position)
                for place, lane in self.lanes.items()
                if (position := lane.position()) is not None and position != lane.committed
            }
            self._asked_at = time.monotonic()
            offsets = [TopicPartition(*place, position) for place, (_, position) in self._asked.items()]
        if offsets:
            consumer.commit(offsets=offsets, asynchronous=True)

    def answered(self, error: KafkaError | None, partitions: Iterable[TopicPartition]) -> None:
        """The outcome of a commit (librdkafka calls it while the thread polls)."""
        with self._lock:
            asked, self._asked = self._asked, {}
        if error is not None:
            log.warning("group %s: a commit failed and is repeated: %s", self._group, error.str())
            return
        for part in partitions:
            lane, position = asked.get((part.topic, part.partition), (None, -1))
            if part.error is None and lane is not None and position == part.offset:
                lane.committed = position

    def commit_now(self, consumer: Consumer, lanes: Collection[Lane]) -> bool:
        """Commit what is done and wait for the answer; whether all is committed."""
        done = [
            (lane, position)
            for lane in lanes
            if (position := lane.position()) is not None and position != lane.committed
        ]
        if not done:
            return True
        offsets = [TopicPartition(lane.topic, lane.partition, position) for lane, position in done]
        try:
            answers = consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as failed:
            log.warning("group %s: a commit failed: %s", self._group, failed.args[0].str())
            return False
        for lane, position in done:
            lane.committed = position
        return all(answer.error is None for answer in answers)

    def regulate(self, consumer: Consumer, limit: int, *, all_stop: bool) -> None:
        """Pause partitions whose backlog is over the limit (or all), resume those that have worked it off."""
        lanes = self.lanes.values()
        pause = [lane for lane in lanes if not lane.paused and (all_stop or lane.waiting_bytes > limit)]
        resume = [lane for lane in lanes if lane.paused and not all_stop and lane.waiting_bytes <= limit // 2]
        for chosen, change in ((pause, consumer.pause), (resume, consumer.resume)):
            if chosen:
                change([TopicPartition(lane.topic, lane.partition) for lane in chosen])
        for lane in pause:
            lane.paused = True
        for lane in resume:
            lane.paused = False

    def _remove(self, partitions: Iterable[TopicPartition]) -> list[Lane]:
        places = [(part.topic, part.partition) for part in partitions]
        return [self.lanes.pop(place) for place in places if place in self.lanes]

    def _keep_busy(self, lanes: Iterable[Lane]) -> None:
        self._old = {place: lane for place, lane in self._old.items() if lane.busy}
        self._old |= {(lane.topic, lane.partition): lane for lane in lanes if lane.busy}


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
            return consumer.committed(partitions, timeout=COMMITTED_PATIENCE_S)
        except KafkaException as failed:
            log.warning("group %s: asking for committed offsets: %s", group, failed.args[0].str())
    return partitions


def _names(partitions: Iterable[TopicPartition]) -> str:
    return ", ".join(f"{part.topic}[{part.partition}]" for part in partitions) or "no partition"
