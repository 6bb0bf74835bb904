"""Consume messages in groups: partitions concurrently, in order within each, at least once."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from coinstream.consumer.handling import ConsumedMessage, GroupOptions, StuckPartition
from coinstream.consumer.member import Member, StopSignal
from coinstream.consumer.scheduler import Backlog, ConsumerMetrics, Scheduler
from coinstream.consumer.start_offsets import OffsetGap
from coinstream.consumer.worker import AnyHandler, EventLoopThread, Worker, handler_call
from coinstream.dlq.publisher import DeadLetterPublisher, Send
from coinstream.errors import ConsumeError
from coinstream.settings import BrokerSettings, ConsumerSettings

__all__ = [
    "ConsumedMessage",
    "ConsumerGroupManager",
    "GroupOptions",
    "GroupReport",
    "OffsetGap",
    "StuckPartition",
]

LEAVE_TIMEOUT_S = 15.0
"""Maximum time to leave the group after messages in work have finished, in seconds."""


@dataclass(frozen=True)
class GroupReport:
    """Progress of a member.

    Attributes:
        handled: messages handled without an error.
        dead_letters: acknowledged dead letters.
        partitions: assigned partitions.
        lost: partitions lost without a revocation.
        backlog_bytes: bytes fetched but not in work.
        unfinished: partitions that were not fetched yet, or have messages that are neither handled nor
            acknowledged as dead letters.
        stuck: partitions without progress.
        gaps: offsets deleted before they were handled, and topics that were recreated.
    """

    handled: int
    dead_letters: int
    partitions: int
    lost: int
    backlog_bytes: int
    unfinished: int
    stuck: tuple[StuckPartition, ...]
    gaps: tuple[OffsetGap, ...] = ()


class ConsumerGroupManager:
    """Member of a consumer group. Use it as a context manager, or call `start` and `stop`.

    Partitions are handled concurrently, each in order. An offset is committed when all messages before it are
    handled or acknowledged as dead letters, so every message is handled at least once.
    """

    def __init__(
        self,
        group: str,
        topics: Sequence[str],
        handler: AnyHandler,
        options: GroupOptions,
        brokers: BrokerSettings,
        settings: ConsumerSettings,
        send: Send,
    ) -> None:
        if not group or not topics:
            raise ConsumeError(f"a consumer group needs a name and topics; got {group!r} and {list(topics)}")
        self.group = group
        self.topics = tuple(topics)
        self._stop_timeout_s = options.stop_timeout_s
        self._signal = StopSignal(group)
        self._metrics = ConsumerMetrics(group)
        self._loop = EventLoopThread(f"coinstream-{group}-handlers")
        self._publisher = (
            DeadLetterPublisher(send, brokers, self._signal.fail) if options.dead_letters else None
        )
        self._backlog = Backlog()
        self._scheduler = self._new_scheduler(handler, options, settings)
        self._member = Member(
            group,
            topics,
            brokers,
            settings,
            options,
            self._scheduler,
            self._backlog,
            self._publisher,
            self._metrics,
            self._signal,
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(
            target=self._member.run, args=(self._ended.set,), name=f"coinstream-{group}-poll", daemon=True
        )

    def _new_scheduler(
        self, handler: AnyHandler, options: GroupOptions, settings: ConsumerSettings
    ) -> Scheduler:
        worker = Worker(
            self.group,
            handler_call(handler, batch=options.batch, loop=self._loop),
            options.schedule(settings),
            options.batch_size,
            self._publisher,
            self._metrics,
            self._backlog,
        )
        return Scheduler(
            worker.work,
            options.concurrent_partitions or settings.concurrent_partitions,
            self._backlog,
            self._signal.crash,
            f"coinstream-{self.group}",
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self._halt()

    def start(self) -> Self:
        """Join the group and start consuming."""
        self._thread.start()
        return self

    def wait_joined(self, timeout_s: float = 60.0) -> None:
        """Wait until the member has its first assignment, which may be empty.

        Raises:
            ConsumeError: there was no assignment within `timeout_s`.
            CoinstreamError: the error that stopped the group.
        """
        joined = self._member.joined.wait(timeout_s)
        self.raise_error()
        if not joined:
            raise ConsumeError(
                f"group {self.group} got no partition of {', '.join(self.topics)} within {timeout_s:g} s"
            )

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until the group has stopped; return whether it has.

        Raises:
            CoinstreamError: the error that stopped the group.
        """
        ended = self._ended.wait(timeout_s)
        self.raise_error()
        return ended

    def stop(self) -> None:
        """Finish messages in work, commit and leave the group. Further calls have no effect.

        Raises:
            CoinstreamError: the error that stopped the group.
            ConsumeError: the group did not stop within the timeout of its options.
        """
        self._halt()
        self.raise_error()

    def raise_error(self) -> None:
        """Raise the error that stopped the group, if any."""
        if self._signal.error is not None:
            raise self._signal.error

    @property
    def is_running(self) -> bool:
        """Return whether the member is running."""
        return self._thread.is_alive()

    def report(self) -> GroupReport:
        """Return the progress so far."""
        states = tuple(self._member.assignment.states.values())
        return GroupReport(
            handled=self._metrics.total,
            dead_letters=self._publisher.acknowledged if self._publisher else 0,
            partitions=len(states),
            lost=self._member.assignment.lost,
            backlog_bytes=self._backlog.size,
            unfinished=sum(state.is_unfinished for state in states),
            stuck=self._member.stalls.stuck,
            gaps=tuple(self._member.assignment.starts.gaps),
        )

    def _halt(self) -> None:
        self._signal.set()
        if self._thread.is_alive():
            self._thread.join(self._stop_timeout_s + LEAVE_TIMEOUT_S)
        self._scheduler.close()
        if self._thread.is_alive():
            raise ConsumeError(
                f"group {self.group} did not leave within {self._stop_timeout_s + LEAVE_TIMEOUT_S:g} s. "
                "Is the broker running?"
            )
        self._loop.close()
