"""Decide when a supervised feed needs a new run, and let it take over from the running one without a gap.

A run lasts `run_s` seconds. Its successor is launched `handover_s` before it ends; the feed's lease decides
which of the two publishes. A crashed feed is restarted after a backoff that doubles with each consecutive
crash.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from coinstream.backoff import Backoff
from coinstream.feeds.lease import LOOK_EVERY_S, FeedLease
from coinstream.messages import Level1, Message


@dataclass(frozen=True)
class Timing:
    """Run length, handover time and backoff, in seconds."""

    run_s: float
    handover_s: float
    backoff_s: float
    backoff_max_s: float


@dataclass(frozen=True)
class FeedRun:
    """A supervised run of a feed that has not ended. `started` is when it was launched."""

    run_id: str
    started: float


@dataclass(frozen=True)
class Failures:
    """Number of consecutive crashes and the time of the last one."""

    count: int = 0
    at: float = 0.0

    def wait(self, timing: Timing) -> float:
        """Return the backoff after the last crash, in seconds."""
        if not self.count:
            return 0.0
        return Backoff(timing.backoff_s, timing.backoff_max_s).after_s(self.count)

    def dump(self) -> list[Any]:
        """Return the values as a list for JSON."""
        return [self.count, self.at]


def needs_run(alive: Sequence[FeedRun], failures: Failures, now: float, timing: Timing) -> bool:
    """Return whether a run should be launched now."""
    if now < failures.at + failures.wait(timing):
        return False
    if not alive:
        return True
    # One run and its successor are enough, however long the handover takes.
    newest = max(run.started for run in alive)
    return len(alive) == 1 and now >= newest + timing.run_s - timing.handover_s


def counted(failures: Failures, ended: Sequence[tuple[float, bool]], lasted_well: bool) -> Failures:
    """Return the failures after runs have ended.

    Args:
        failures: failures so far.
        ended: `(time, failed)` of each ended run, oldest first. A success resets the count.
        lasted_well: whether a run has been alive long enough to reset the count.
    """
    for at, failed in ended:
        failures = Failures(failures.count + 1, at) if failed else Failures()
    return Failures() if lasted_well else failures


MAX_KEPT: Final = 200_000
"""Maximum messages in a successor's buffer. Older ones are dropped: the lease holder publishes them."""
OVERLAP_S: Final = 1.0
"""Seconds that a successor receives messages before it signals that it is ready."""


def under_lease(
    batches: Iterator[Sequence[Message]],
    lease: FeedLease,
    stop: threading.Event,
    on_held: Callable[[], None],
    overlap_s: float = OVERLAP_S,
) -> Iterator[Sequence[Message]]:
    """Yield the batches that this run may publish.

    Batches are buffered, and empty ones yielded, until the run holds the lease. The iterator ends when a
    successor is ready.
    """
    if not lease.is_held:
        kept: deque[Message] = deque(maxlen=MAX_KEPT)
        since: float | None = None
        is_ready, looked = False, 0.0
        for batch in batches:
            kept.extend(batch)
            now = time.monotonic()
            if now - looked >= LOOK_EVERY_S:
                looked = now
                if lease.try_acquire():
                    break
            if batch and since is None:
                since = now
            if since is not None and not is_ready and now - since >= overlap_s:
                lease.signal_ready()
                is_ready = True
            yield ()
            if stop.is_set():
                return
        else:
            return
        on_held()
        yield after(kept, lease.read_checkpoint())
    else:
        lease.read_checkpoint()
        on_held()
    for batch in batches:
        yield batch
        if lease.has_successor:
            return


def checkpoint_key(message: Message) -> str:
    """Return the checkpoint key of a message: its type, exchange and symbol."""
    return f"{type(message).__name__}|{message.exchange_id}|{getattr(message, 'symbol', '')}"


def identity(message: Message) -> str:
    """Return the fields of a message that do not depend on the run: all but the receipt time."""
    fields = msgspec.structs.asdict(message)
    if isinstance(message, Level1):
        received = fields.pop("last_updated")
        if fields["timestamp"] == received:
            del fields["timestamp"]
    return msgspec.json.encode(fields).decode()


def checkpoint_of(last: Iterable[Message]) -> dict[str, str]:
    """Return a checkpoint: the identity of the last message of each market."""
    return {checkpoint_key(message): identity(message) for message in last}


def after(kept: Iterable[Message], checkpoint: dict[str, str] | None) -> list[Message]:
    """Return the buffered messages that follow the checkpoint, market by market.

    Delivery is at least once. If the checkpoint's message of a market is not in the buffer, all of the
    market's messages are returned; if it occurs more than once, those after its first occurrence.
    """
    kept = list(kept)
    if not checkpoint:
        return kept
    position: dict[str, int] = {}
    for index, message in enumerate(kept):
        market = checkpoint_key(message)
        if market in checkpoint and market not in position and identity(message) == checkpoint[market]:
            position[market] = index
    return [
        message for index, message in enumerate(kept) if index > position.get(checkpoint_key(message), -1)
    ]
