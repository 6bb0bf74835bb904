"""What a feed is."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import Protocol

from coinstream.feeds.feed_stats import FeedStats
from coinstream.messages import Message


class Feed(Protocol):
    """A source of market messages.

    Attributes:
        name: how it is called in `feeds.yaml` and on the command line.
        exchange: the `exchangeId` of its messages, or of most of them.
        stats: what became of everything it received.
    """

    name: str
    exchange: str
    stats: FeedStats

    def messages(self, stop: threading.Event) -> Iterator[Sequence[Message]]:
        """Yield batches until the source ends or `stop` is set.

        A batch may be empty: a feed that waits yields one at least every quarter of a second, so
        that its caller can look at the clock. Closing the iterator closes every connection.

        Raises:
            FeedError: the source cannot be read at all. Names the feed.
        """
        ...
