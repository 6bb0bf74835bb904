"""Take over a feed from a running process: buffer messages, then continue after its checkpoint."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

import msgspec

from coinstream.feeds.lease import LOOK_EVERY_S, FeedLease
from coinstream.messages import Level1, Message

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
                lease.say_ready()
                is_ready = True
            yield ()
            if stop.is_set():
                return
        else:
            return
        on_held()
        yield beyond(kept, lease.take_note())
    else:
        lease.take_note()
        on_held()
    for batch in batches:
        yield batch
        if lease.is_wanted:
            return


def market_of(message: Message) -> str:
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


def note_of(last: Iterable[Message]) -> dict[str, str]:
    """Return a checkpoint: the identity of the last message of each market."""
    return {market_of(message): identity(message) for message in last}


def beyond(kept: Iterable[Message], note: dict[str, str] | None) -> list[Message]:
    """Return the buffered messages that follow the checkpoint, market by market.

    Delivery is at least once. If the checkpoint's message of a market is not in the buffer, all of the
    market's messages are returned; if it occurs more than once, those after its first occurrence.
    """
    kept = list(kept)
    if not note:
        return kept
    place: dict[str, int] = {}
    for index, message in enumerate(kept):
        market = market_of(message)
        if market in note and market not in place and identity(message) == note[market]:
            place[market] = index
    return [message for index, message in enumerate(kept) if index > place.get(market_of(message), -1)]
