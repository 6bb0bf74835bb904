"""Define the interface of a feed, and read what its messages have in common."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Final, Protocol

from coinstream.feeds.feed_stats import FeedStats
from coinstream.messages import Message

_SYMBOL: Final = attrgetter("symbol")


class Feed(Protocol):
    """A source of market messages.

    Attributes:
        name: name in `feeds.yaml` and on the command line.
        exchange: `exchangeId` of its messages, or of most of them.
        stats: counts of received frames by outcome.
    """

    name: str
    exchange: str
    stats: FeedStats

    def messages(self, stop: threading.Event) -> Iterator[Sequence[Message]]:
        """Yield batches until the source ends or `stop` is set.

        A batch may be empty: a waiting feed yields one at least every 250 ms, so that the caller can check
        its deadline. Closing the iterator closes every connection.

        Raises:
            FeedError: the source cannot be read; the message names the feed.
        """
        ...


def symbols_of(messages: Sequence[Message]) -> Iterable[str]:
    """Return the symbol of each message, empty text for a type without symbols."""
    if all(hasattr(kind, "symbol") for kind in set(map(type, messages))):
        return map(_SYMBOL, messages)
    return (getattr(message, "symbol", "") for message in messages)
