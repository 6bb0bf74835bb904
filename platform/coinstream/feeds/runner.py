"""Run a feed: publish its messages and dead letters, and return a report."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from coinstream.errors import FeedError
from coinstream.feeds.feed_stats import Anomaly, FaultyFrame, Feed
from coinstream.feeds.handover import checkpoint_key, checkpoint_of, under_lease
from coinstream.feeds.lease import FeedLease
from coinstream.feeds.status import FeedReport, Quantiles, StatusWriter
from coinstream.messages import Level1, Message
from coinstream.monitoring.metrics import METRICS
from coinstream.serialization import MessageSerializer
from coinstream.serialization.precision import PriceRounder
from coinstream.topics.catalogue import FEED_DEAD_LETTERS

__all__ = ["DEAD_LETTER_TOPIC", "FeedReport", "MessagePublisher", "Progress", "Quantiles", "run_feed"]

DEAD_LETTER_TOPIC: Final = FEED_DEAD_LETTERS.name
"""Dead-letter topic of frames that could not be converted to messages; the value is the frame."""
FLUSH_TIMEOUT_S: Final = 10.0
_PROGRESS_EVERY_S: Final = 0.25
_SAMPLES: Final = 20_000


class RoundingStats:
    """Counts of prices changed by rounding, also exported as metrics."""

    def __init__(self, client: object) -> None:
        serializer = getattr(client, "encoder", None)
        self._rounder = serializer.rounder if isinstance(serializer, MessageSerializer) else PriceRounder()
        self._before = Counter(self._rounder.rounded), Counter(self._rounder.lossy)
        self._exported = self._before

    def rounded(self) -> Counter[str]:
        """Return the number of changed prices by `type.field`."""
        return self._rounder.rounded - self._before[0]

    def lossy(self) -> Counter[str]:
        """Return the number of prices changed by more than one millionth, by `type.field`."""
        return self._rounder.lossy - self._before[1]

    def export(self) -> None:
        """Add the counts since the last call to the metrics."""
        now = Counter(self._rounder.rounded), Counter(self._rounder.lossy)
        for is_lossy, count, before in zip((False, True), now, self._exported, strict=True):
            for field_name, more in (count - before).items():
                METRICS.prices_rounded.labels(field_name, str(is_lossy).lower()).inc(more)
        self._exported = now


@dataclass
class Progress:
    """Progress of a feed run."""

    messages: int = 0
    seconds: float = 0.0
    by_type: dict[str, int] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Return the messages per second since the start of the run."""
        return self.messages / self.seconds if self.seconds else 0.0


class MessagePublisher(Protocol):
    """Client methods that a feed run uses."""

    def publish(self, messages: Iterable[Message]) -> int:
        """Route, encode and produce messages; return their number."""
        ...

    def send(self, topic: str, key: bytes | None, value: bytes, headers: Any = None) -> Future[Any]:
        """Produce one record."""
        ...

    def flush(self, timeout_s: float) -> None:
        """Wait until all messages are acknowledged; raise `ProduceError` if they are not in time."""
        ...

    @property
    def held_record_times(self) -> Mapping[str, int]:
        """Return the number of messages per topic whose record time was clamped to the broker's bounds."""
        ...

    @property
    def delivered(self) -> Mapping[tuple[str, int], Any]:
        """Return the acknowledged offsets by topic and partition."""
        ...


def run_feed(
    feed: Feed,
    client: MessagePublisher,
    *,
    duration_s: float | None = None,
    limit: int | None = None,
    stop: threading.Event | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    flush_timeout_s: float = FLUSH_TIMEOUT_S,
    lease: FeedLease | None = None,
    status_folder: Path | None = None,
) -> FeedReport:
    """Publish a feed's messages until it ends, `stop` is set, or `duration_s` or `limit` is reached.

    On exit, also on an interruption, the run flushes its messages within `flush_timeout_s`. With a lease it
    publishes only while it holds the lease, and ends when a successor is ready; `duration_s` then starts
    when the lease is acquired.

    Raises:
        LeaseError: another run holds the lease.
        FeedError: the feed failed, or received nothing because its source was unreachable.
        ProduceError: a message was refused, or messages were unacknowledged at the flush timeout.
    """
    if lease is not None:
        lease.open()
    run = _Run(feed, client, stop or threading.Event(), on_progress, lease)
    run.status = StatusWriter(status_folder, feed.name, feed.exchange, feed.stats)
    batches = feed.messages(run.stop)
    checkpoint: dict[str, str] | None = None
    try:
        run.publish_all(batches, duration_s, limit)
    finally:
        run.stop.set()
        run.status.tick(ended=True)
        try:
            try:
                _close(batches)
            finally:
                run.send_to_dlq(feed.stats.take_faults())
                client.flush(flush_timeout_s)
            checkpoint = checkpoint_of(run.last.values())
        finally:
            # After a failure there is no checkpoint, and the successor publishes its whole buffer.
            if lease is not None:
                lease.release(checkpoint)
    run.settle()
    stats = feed.stats
    if stats.trouble is not None and not stats.frames:
        raise FeedError(f"feed {feed.name}: received nothing; last error: {stats.trouble}")
    return run.report()


def _close(batches: Iterator[Sequence[Message]]) -> None:
    close = getattr(batches, "close", None)
    if close is not None:
        close()


class _Run:
    def __init__(
        self,
        feed: Feed,
        client: MessagePublisher,
        stop: threading.Event,
        on_progress: Callable[[Progress], None] | None,
        lease: FeedLease | None,
    ) -> None:
        self.stop = stop
        self.last: dict[str, Message] = {}
        self.status = StatusWriter(None, feed.name, feed.exchange, feed.stats)
        self._lease = lease
        self._is_waiting = lease is not None
        self._feed = feed
        self._client = client
        self._rounding = RoundingStats(client)
        self._on_progress = on_progress
        self._started = time.monotonic()
        self._told = self._started
        self._progress = Progress()
        self._dead_letters: list[Future[Any]] = []
        self._from_exchange: deque[float] = deque(maxlen=_SAMPLES)
        self._to_produce: deque[float] = deque(maxlen=_SAMPLES)

    def publish_all(
        self, batches: Iterator[Sequence[Message]], duration_s: float | None, limit: int | None
    ) -> None:
        progress = self._progress
        if self._lease is not None:
            batches = under_lease(batches, self._lease, self.stop, self._begin)
        for batch in batches:
            if limit is not None and progress.messages + len(batch) > limit:
                batch = batch[: limit - progress.messages]
            if batch:
                self._publish(batch)
            if self._feed.stats.faults:
                self.send_to_dlq(self._feed.stats.take_faults())
            progress.seconds = time.monotonic() - self._started
            self._tell()
            if limit is not None and progress.messages >= limit:
                return
            if duration_s is not None and progress.seconds >= duration_s and not self._is_waiting:
                return

    def _begin(self) -> None:
        self._is_waiting, self._started = False, time.monotonic()

    def _publish(self, batch: Sequence[Message]) -> None:
        self._client.publish(batch)
        counts = self._progress.by_type
        for kind, count in Counter(map(type, batch)).items():
            name = kind.__name__.lower()
            counts[name] = counts.get(name, 0) + count
        self._progress.messages += len(batch)
        self.status.add(batch)
        if self._lease is not None:
            self.last.update((checkpoint_key(message), message) for message in batch)
        # One sample per batch: its first message waited longest.
        first = batch[0]
        if isinstance(first, Level1):
            self._to_produce.append((time.time() - first.last_updated.timestamp()) * 1000)
            self._from_exchange.append((first.last_updated - first.timestamp).total_seconds() * 1000)

    def send_to_dlq(self, faults: Sequence[FaultyFrame]) -> None:
        for fault in faults:
            headers = {
                "feed": self._feed.name,
                "exchange": fault.exchange,
                "error": f"{fault.reason}: {fault.detail}"[:1000],
                "receivedNs": str(fault.received_ns),
            }
            self._dead_letters.append(
                self._client.send(DEAD_LETTER_TOPIC, fault.exchange.encode(), fault.payload, headers)
            )

    def settle(self) -> None:
        for sent in self._dead_letters:
            error = sent.exception(timeout=0)
            if error is not None:
                raise FeedError(
                    f"feed {self._feed.name}: a dead letter was not acknowledged: {error}"
                ) from error

    def report(self) -> FeedReport:
        self._rounding.export()
        stats, progress = self._feed.stats, self._progress
        seconds = time.monotonic() - self._started
        return FeedReport(
            feed=self._feed.name,
            exchange=self._feed.exchange,
            messages=progress.messages,
            seconds=round(seconds, 3),
            rate=round(progress.messages / seconds, 1) if seconds else 0.0,
            by_type=dict(sorted(progress.by_type.items())),
            frames=stats.frames,
            rejected={str(reason): count for reason, count in stats.rejected.most_common()},
            entries={str(reason): count for reason, count in stats.entries.most_common()},
            flags=self._flags(),
            dead_letters=len(self._dead_letters),
            rounded_prices=dict(self._rounding.rounded()),
            lossy_prices=dict(self._rounding.lossy()),
            lease_token=self._lease.token if self._lease is not None else None,
            clock_ahead_ms=self._clock_ahead_ms(),
            exchange_to_receipt=Quantiles.of(self._from_exchange),
            receipt_to_produce=Quantiles.of(self._to_produce),
            offsets={
                f"{topic}[{part}]": done for (topic, part), done in sorted(self._client.delivered.items())
            },
            notes=tuple(stats.notes),
        )

    def _flags(self) -> dict[str, int]:
        flags = {str(flag): count for flag, count in self._feed.stats.flags.most_common()}
        if held := sum(self._client.held_record_times.values()):
            flags[Anomaly.RECORD_TIME_HELD] = held
        return flags

    def _clock_ahead_ms(self) -> float | None:
        told = self._feed.stats.clock_ahead_ms
        ahead = -min(self._from_exchange, default=0.0)
        return told if told is not None else (round(ahead, 1) if ahead > 0 else None)

    def _tell(self) -> None:
        now = time.monotonic()
        if now - self._told < _PROGRESS_EVERY_S:
            return
        self._told = now
        self._rounding.export()
        self.status.tick()
        if self._on_progress is not None:
            self._on_progress(self._progress)
