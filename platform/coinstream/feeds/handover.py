"""How a run takes a feed over: keep what comes, then go on where the run before has stopped."""

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
"""Messages a successor keeps. Older ones are let go: whoever holds the lease is publishing them."""
OVERLAP_S: Final = 1.0
"""How long a successor has received before it says that it is ready."""


def under_lease(
    batches: Iterator[Sequence[Message]],
    lease: FeedLease,
    stop: threading.Event,
    on_held: Callable[[], None],
    overlap_s: float = OVERLAP_S,
) -> Iterator[Sequence[Message]]:
    """The batches that this run may publish: from when it holds the lease until a successor is ready."""
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
    """What a note goes by: the kind of message, the exchange and the symbol."""
    return f"{type(message).__name__}|{message.exchange_id}|{getattr(message, 'symbol', '')}"


def identity(message: Message) -> str:
    """What two runs see alike in the same message: all but the moment at which each received it."""
    fields = msgspec.structs.asdict(message)
    if isinstance(message, Level1):
        received = fields.pop("last_updated")
        if fields["timestamp"] == received:
            del fields["timestamp"]
    return msgspec.json.encode(fields).decode()


def note_of(last: Iterable[Message]) -> dict[str, str]:
    """The note that a holder leaves."""
    return {market_of(message): identity(message) for message in last}


def beyond(kept: Iterable[Message], note: dict[str, str] | None) -> list[Message]:
    """What was kept, from after the message that the note names, for each market by itself.

    A market whose noted message is not among them is published whole, and one that quoted the same twice from
    after the first time: rather a message twice than one missing.
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
