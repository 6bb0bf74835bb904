"""The polling thread of one member: fetch, hand out, commit, and keep the membership alive."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka import Message as Record

from coinstream.consumer.assignment import Assignment
from coinstream.consumer.config import member_config
from coinstream.consumer.metrics import ConsumerMetrics
from coinstream.consumer.options import GroupOptions
from coinstream.consumer.partition_state import PartitionState
from coinstream.consumer.scheduler import Scheduler
from coinstream.consumer.stall_detector import StallDetector
from coinstream.dlq.publisher import DeadLetterPublisher
from coinstream.errors import CoinstreamError
from coinstream.kafka import AUTHENTICATION, CONSUME_BATCH, broker_error, error_name
from coinstream.settings import BrokerSettings, ConsumerSettings

log = logging.getLogger("coinstream.consumer")

POLL_S: Final = 0.1
"""Longest wait for a message; also how soon `stop` is noticed."""
BACKLOG_FULL_S: Final = 1.0
"""A backlog that stays full for so long pauses all partitions; shorter ones cost no refetch."""
CHECK_INTERVAL_S: Final = 1.0
"""How often lag is measured and stuck partitions are looked for."""


class Member:
    """Owns the consumer. `run` is the body of the polling thread and returns when told to stop."""

    def __init__(
        self,
        group: str,
        topics: Sequence[str],
        brokers: BrokerSettings,
        settings: ConsumerSettings,
        options: GroupOptions,
        scheduler: Scheduler,
        sink: DeadLetterPublisher | None,
        metrics: ConsumerMetrics,
    ) -> None:
        self._group = group
        self._topics = list(topics)
        self._brokers = brokers
        self._config = member_config(brokers, settings, group, options.instance_id)
        self._options = options
        self._scheduler = scheduler
        self._sink = sink
        self._metrics = metrics
        self._stopping = threading.Event()
        self._full_since = 0.0
        self._next_commit = 0.0
        self._next_look = 0.0
        self.watch = StallDetector(group, metrics, options.stuck_after_s, options.on_stuck)
        self.assignment = Assignment(group, scheduler, options.drain_timeout_s, options.shard)
        self.error: CoinstreamError | None = None
        self.joined = threading.Event()

    def fail(self, error: CoinstreamError) -> None:
        """Keep the first error, and stop."""
        if self.error is None:
            self.error = error
            log.error("group %s stops: %s", self._group, error)
        self._stopping.set()

    def stop(self) -> None:
        """Let `run` end soon."""
        self._stopping.set()

    def run(self, on_end: Callable[[], None]) -> None:
        """Poll until `stop`, then end what is in work, commit and leave the group."""
        try:
            consumer = self._open()
        except KafkaException as failed:
            self.fail(broker_error(failed.args[0], f"joining group {self._group}", self._brokers.brokers))
            on_end()
            return
        try:
            while not self._stopping.is_set():
                self._poll_once(consumer)
        except KafkaException as failed:
            self.fail(broker_error(failed.args[0], f"consuming as {self._group}", self._brokers.brokers))
        finally:
            self._leave(consumer)
            on_end()

    def _open(self) -> Consumer:
        assignment = self.assignment

        def on_assign(consumer: Consumer, partitions: list[Any]) -> None:
            assignment.on_assign(consumer, partitions)
            self.joined.set()

        config = self._config | {"error_cb": self._on_error, "on_commit": assignment.on_commit}
        if self._options.offset_reset is not None:
            config["auto.offset.reset"] = self._options.offset_reset
        consumer = Consumer(config)
        consumer.subscribe(
            self._topics, on_assign=on_assign, on_revoke=assignment.on_revoke, on_lost=assignment.on_lost
        )
        return consumer

    def _poll_once(self, consumer: Consumer) -> None:
        if self._has_room():
            self._dispatch(self._fetch(consumer))
        self.assignment.apply_backpressure(
            consumer, self._options.partition_backlog_bytes, all_stop=self._is_overfull()
        )
        now = time.monotonic()
        if now >= self._next_commit:
            self._next_commit = now + self._options.commit_interval_ms / 1000
            self.assignment.commit_soon(consumer)
        if now >= self._next_look:
            self._next_look = now + CHECK_INTERVAL_S
            self._check(consumer)

    def _has_room(self) -> bool:
        """Whether to fetch now. A full backlog is waited for, but never so long that the group notices."""
        if self._scheduler.wait_for_room(self._options.backlog_bytes, POLL_S):
            self._full_since = 0.0
            return True
        self._full_since = self._full_since or time.monotonic()
        return self._is_overfull()

    def _is_overfull(self) -> bool:
        return self._full_since > 0 and time.monotonic() - self._full_since > BACKLOG_FULL_S

    def _fetch(self, consumer: Consumer) -> list[Record]:
        # `consume` alone would wait for all of its messages or its whole timeout.
        first = consumer.poll(POLL_S)
        if first is None:
            return []
        state = self._lane(first)
        rest = consumer.consume(CONSUME_BATCH, 0)
        # Partitions may move in the meantime; then the record comes again from the committed offset.
        return [first, *rest] if self._lane(first) is state else rest

    def _lane(self, record: Record) -> PartitionState | None:
        partition = record.partition()
        return self.assignment.states.get((record.topic() or "", -1 if partition is None else partition))

    def _dispatch(self, records: list[Record]) -> None:
        if not records:
            return
        if any(map(Record.error, records)):
            records = [record for record in records if not self._is_error(record)]
        runs: list[tuple[PartitionState, list[Record]]] = []
        for _, of_topic in groupby(records, Record.topic):
            for _, of_partition in groupby(of_topic, Record.partition):
                run = list(of_partition)
                state = self._lane(run[0])
                if state is not None:
                    runs.append((state, run))
        self._scheduler.submit(runs)

    def _is_error(self, record: Record) -> bool:
        error = record.error()
        if error is None:
            return False
        where = f"{record.topic()}[{record.partition()}]"
        self._metrics.fetch_error(str(record.topic()), str(record.partition()), error_name(error))
        if error.fatal() or error.code() in AUTHENTICATION or error.code() in _FATAL_ERRORS:
            self.fail(broker_error(error, f"group {self._group} reading {where}", self._brokers.brokers))
        else:
            log.warning("group %s: %s: %s", self._group, where, error.str())
        return True

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal() or error.code() in AUTHENTICATION:
            self.fail(broker_error(error, f"group {self._group}", self._brokers.brokers))
        else:
            log.warning("group %s: %s (%s)", self._group, error.str(), error_name(error))

    def _check(self, consumer: Consumer) -> None:
        if self._sink is not None:
            self._sink.resend()
        self.watch.look(self.assignment.states.values())
        self._metrics.lag(f"member-{id(self)}", self._lags(consumer))

    def _lags(self, consumer: Consumer) -> dict[tuple[str, int], int]:
        lags = {}
        for partition_key, state in self.assignment.states.items():
            low_high = consumer.get_watermark_offsets(TopicPartition(*partition_key), cached=True)
            position = state.position()
            if low_high is not None and position is not None and low_high[1] >= 0:
                lags[partition_key] = max(low_high[1] - position, 0)
        return lags

    def _leave(self, consumer: Consumer) -> None:
        """End what is in work while the membership is kept, commit, close."""
        states = list(self.assignment.states.values())
        deadline = time.monotonic() + self._options.stop_timeout_s
        try:
            self._scheduler.cancel(states)
            self.assignment.apply_backpressure(consumer, 0, all_stop=True)
            # After an error there may be a message that nobody will ever settle.
            letters = self.error is None
            while not self._scheduler.drain(states, POLL_S, letters=letters) and time.monotonic() < deadline:
                consumer.poll(0)
                if self._sink is not None:
                    self._sink.resend()
            if slow := [state.name for state in states if state.busy or state.pending]:
                log.warning(
                    "group %s: stops with messages still in work on %s; they will be handled again",
                    *(self._group, ", ".join(slow)),
                )
            self.assignment.commit_now(consumer, list(self.assignment.states.values()))
        except KafkaException as failed:
            log.warning("group %s: stopping: %s", self._group, failed.args[0].str())
        finally:
            # What is in work has had its time.
            self.assignment.drain_timeout_s = 0.0
            consumer.close()
            self._metrics.lag(f"member-{id(self)}", {})


_FATAL_ERRORS: Final = {KafkaError._AUTO_OFFSET_RESET, KafkaError._UNKNOWN_TOPIC, KafkaError.INVALID_GROUP_ID}
"""Errors of a fetch that only a person can mend."""
