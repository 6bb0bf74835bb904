"""Run the polling thread of one member: fetch, dispatch, commit, and keep the membership alive."""

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
from coinstream.consumer.handling import GroupOptions, member_config
from coinstream.consumer.partition_state import PartitionState
from coinstream.consumer.scheduler import Backlog, ConsumerMetrics, Scheduler, StallDetector
from coinstream.consumer.start_offsets import StartOffsets
from coinstream.dlq.publisher import DeadLetterPublisher
from coinstream.errors import CoinstreamError, ConsumeError
from coinstream.kafka import AUTHENTICATION, CONSUME_BATCH, broker_error, error_name, is_fatal
from coinstream.kafka.records import partition_of
from coinstream.settings import BrokerSettings, ConsumerSettings

log = logging.getLogger("coinstream.consumer")


class StopSignal:
    """Signal that stops the polling thread and keeps the first error.

    Attributes:
        error: error that stopped the member; None if it was stopped on request.
    """

    def __init__(self, group: str) -> None:
        self._group = group
        self._event = threading.Event()
        self._lock = threading.Lock()
        self.error: CoinstreamError | None = None

    def is_set(self) -> bool:
        """Return whether the member should stop."""
        return self._event.is_set()

    def set(self) -> None:
        """Request the member to stop."""
        self._event.set()

    def fail(self, error: CoinstreamError) -> None:
        """Stop with an error; an earlier one is kept."""
        with self._lock:
            is_first, self.error = self.error is None, self.error or error
        if is_first:
            log.error("group %s stops: %s", self._group, error)
        self._event.set()

    def crash(self, error: BaseException) -> None:
        """Stop with the exception of a worker thread."""
        if not isinstance(error, CoinstreamError):
            error = ConsumeError(f"group {self._group} stops: {type(error).__name__}: {error}")
        self.fail(error)


POLL_S: Final = 0.1
"""Maximum time of a poll, and maximum delay of `stop`, in seconds."""
BACKLOG_FULL_S: Final = 1.0
"""Time after which a full backlog pauses all partitions, in seconds; pausing discards prefetched records."""
CHECK_INTERVAL_S: Final = 1.0
"""Interval of lag measurements and checks for stuck partitions, in seconds."""
TOPIC_CHECK_S: Final = 2.5
"""Interval of checks for recreated topics, whose id has changed, in seconds."""


class Member:
    """Owner of the consumer. `run` is the body of the polling thread and returns when the signal is set.

    Attributes:
        assignment: assigned partitions.
        stalls: detector of partitions without progress.
        joined: set at the first assignment, which may be empty.
    """

    def __init__(
        self,
        group: str,
        topics: Sequence[str],
        brokers: BrokerSettings,
        settings: ConsumerSettings,
        options: GroupOptions,
        scheduler: Scheduler,
        backlog: Backlog,
        publisher: DeadLetterPublisher | None,
        metrics: ConsumerMetrics,
        signal: StopSignal,
    ) -> None:
        self._group = group
        self._topics = list(topics)
        self._brokers = brokers
        self._config = member_config(brokers, settings, group, options.instance_id)
        self._options = options
        self._scheduler = scheduler
        self._backlog = backlog
        self._publisher = publisher
        self._metrics = metrics
        self._signal = signal
        self._full_since = 0.0
        self._next_commit = 0.0
        self._next_check = 0.0
        self._next_topic_check = time.monotonic() + TOPIC_CHECK_S
        starts = StartOffsets(group, brokers, options.offset_reset or settings.offset_reset)
        self.assignment = Assignment(group, scheduler, starts, options.drain_timeout_s)
        self.stalls = StallDetector(group, metrics, options.stuck_after_s, options.on_stuck)
        self.joined = threading.Event()

    def run(self, on_end: Callable[[], None]) -> None:
        """Poll until the signal is set, then finish messages in work, commit and leave the group."""
        try:
            consumer = self._open()
        except KafkaException as failed:
            self._signal.fail(
                broker_error(failed.args[0], f"joining group {self._group}", self._brokers.brokers)
            )
            on_end()
            return
        try:
            while not self._signal.is_set():
                self._poll_once(consumer)
        except KafkaException as failed:
            self._signal.fail(
                broker_error(failed.args[0], f"consuming as {self._group}", self._brokers.brokers)
            )
        finally:
            self._leave(consumer)
            on_end()

    def _open(self) -> Consumer:
        assignment = self.assignment

        def on_assign(consumer: Consumer, partitions: list[Any]) -> None:
            assignment.on_assign(consumer, partitions)
            self.joined.set()

        config = self._config | {"error_cb": self._on_error, "on_commit": assignment.on_commit}
        consumer = Consumer(config)
        consumer.subscribe(
            self._topics, on_assign=on_assign, on_revoke=assignment.on_revoke, on_lost=assignment.on_lost
        )
        return consumer

    def _poll_once(self, consumer: Consumer) -> None:
        if self._has_room():
            self._dispatch(consumer, self._fetch(consumer))
        self.assignment.apply_backpressure(
            consumer, self._options.partition_backlog_bytes, pause_all=self._is_overfull()
        )
        now = time.monotonic()
        if now >= self._next_commit:
            self._next_commit = now + self._options.commit_interval_ms / 1000
            self.assignment.commit_soon(consumer)
        if now >= self._next_check:
            self._next_check = now + CHECK_INTERVAL_S
            self._check(consumer)
        if now >= self._next_topic_check:
            self._next_topic_check = now + TOPIC_CHECK_S
            topics = {topic for topic, _ in self.assignment.states}
            for topic in self.assignment.starts.check_topics(topics):
                self.assignment.restart(consumer, topic)

    def _has_room(self) -> bool:
        """Return whether to fetch now, after waiting for room for less than the poll interval."""
        if self._backlog.wait_for_room(self._options.backlog_bytes, POLL_S):
            self._full_since = 0.0
            return True
        self._full_since = self._full_since or time.monotonic()
        return self._is_overfull()

    def _is_overfull(self) -> bool:
        return self._full_since > 0 and time.monotonic() - self._full_since > BACKLOG_FULL_S

    def _fetch(self, consumer: Consumer) -> list[Record]:
        # `consume` alone waits for the full number of messages or its timeout.
        first = consumer.poll(POLL_S)
        if first is None:
            self._mark_fetched(consumer)
            return []
        state = self._state(first)
        rest = consumer.consume(CONSUME_BATCH, 0)
        # If the partition is reassigned meanwhile, the record is read again from the committed offset.
        return [first, *rest] if self._state(first) is state else rest

    def _mark_fetched(self, consumer: Consumer) -> None:
        """Mark the partitions of which a reply has arrived: it carries the watermarks."""
        for key, state in self.assignment.states.items():
            if not state.fetched:
                _, high = consumer.get_watermark_offsets(TopicPartition(*key), cached=True)
                state.fetched = high >= 0

    def _state(self, record: Record) -> PartitionState | None:
        return self.assignment.states.get(partition_of(record))

    def _dispatch(self, consumer: Consumer, records: list[Record]) -> None:
        if not records:
            return
        if any(map(Record.error, records)):
            records = [record for record in records if not self._is_error(consumer, record)]
        runs: list[tuple[PartitionState, list[Record]]] = []
        for _, of_topic in groupby(records, Record.topic):
            for _, of_partition in groupby(of_topic, Record.partition):
                run = list(of_partition)
                state = self._state(run[0])
                if state is not None:
                    runs.append((state, run))
        self._scheduler.submit(runs)

    def _is_error(self, consumer: Consumer, record: Record) -> bool:
        error = record.error()
        if error is None:
            return False
        key = partition_of(record)
        where = f"{key[0]}[{key[1]}]"
        self._metrics.fetch_error(str(record.topic()), str(record.partition()), error_name(error))
        if error.code() == KafkaError._AUTO_OFFSET_RESET and self.assignment.on_gap(consumer, key):
            return True
        if is_fatal(error) or error.code() in AUTHENTICATION or error.code() in _FATAL_ERRORS:
            doing = f"group {self._group} reading {where}"
            self._signal.fail(broker_error(error, doing, self._brokers.brokers))
        else:
            log.warning("group %s: %s: %s", self._group, where, error.str())
        return True

    def _on_error(self, error: KafkaError) -> None:
        if is_fatal(error) or error.code() in AUTHENTICATION:
            self._signal.fail(broker_error(error, f"group {self._group}", self._brokers.brokers))
        else:
            log.warning("group %s: %s (%s)", self._group, error.str(), error_name(error))

    def _check(self, consumer: Consumer) -> None:
        if self._publisher is not None:
            self._publisher.resend()
        self.assignment.retry_gaps(consumer)
        self.stalls.check(self.assignment.states.values())
        self._metrics.lag(f"member-{id(self)}", self._lags(consumer))

    def _lags(self, consumer: Consumer) -> dict[tuple[str, int], int]:
        lags = {}
        for key, state in self.assignment.states.items():
            low_high = consumer.get_watermark_offsets(TopicPartition(*key), cached=True)
            position = state.position()
            if low_high is not None and position is not None and low_high[1] >= 0:
                lags[key] = max(low_high[1] - position, 0)
        return lags

    def _leave(self, consumer: Consumer) -> None:
        """Finish messages in work while polling continues, then commit and close."""
        states = list(self.assignment.states.values())
        deadline = time.monotonic() + self._options.stop_timeout_s
        try:
            self._scheduler.cancel(states)
            self.assignment.apply_backpressure(consumer, 0, pause_all=True)
            # After an error a dead letter may never be acknowledged.
            is_well = self._signal.error is None
            while time.monotonic() < deadline:
                if self._scheduler.drain(states, POLL_S, dead_letters=is_well):
                    break
                consumer.poll(0)
                if self._publisher is not None:
                    self._publisher.resend()
            if slow := [state.name for state in states if state.busy or state.pending]:
                log.warning(
                    "group %s: stops with messages still in work on %s; they will be handled again",
                    *(self._group, ", ".join(slow)),
                )
            self.assignment.commit_now(consumer, list(self.assignment.states.values()))
        except KafkaException as failed:
            if is_fatal(failed.args[0]):
                doing = f"group {self._group} committing"
                self._signal.fail(broker_error(failed.args[0], doing, self._brokers.brokers))
            log.warning("group %s: stopping: %s", self._group, failed.args[0].str())
        finally:
            # The messages in work have had their time.
            self.assignment.drain_timeout_s = 0.0
            consumer.close()
            self._metrics.lag(f"member-{id(self)}", {})


_FATAL_ERRORS: Final = {KafkaError._AUTO_OFFSET_RESET, KafkaError.INVALID_GROUP_ID}
"""Permanent errors of a fetch."""
