"""Run a live feed in a thread, with short timeouts, and collect its messages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

from coinstream.feeds import Feed
from coinstream.feeds.exchanges import adapters
from coinstream.feeds.live import DirectFeed, Timeouts
from coinstream.feeds.simulated import SimulatedExchange
from coinstream.messages import Level1, Message, Price
from tests.support import wait_until

SHORT_TIMEOUTS = Timeouts(
    frozen_after_s=1.0,
    silent_after_s=1.0,
    first_retry_s=0.02,
    longest_retry_s=0.2,
    give_up_after_s=60.0,
    clock_every_s=0.2,
    poll_every_s=0.1,
)


def direct(
    exchange: SimulatedExchange,
    venue: str,
    symbols: Sequence[str],
    types: Sequence[str] = ("level1", "price"),
    timeouts: Timeouts = SHORT_TIMEOUTS,
) -> DirectFeed:
    """Return the direct feed of a simulated exchange."""
    adapter = adapters()[venue](exchange.ws_url(venue), exchange.http_url(venue))
    return DirectFeed(adapter, symbols, f"{venue}-test", types, timeouts)


class Running:
    """A feed that is read for as long as the block lasts."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.messages: list[Message] = []
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(120)
        assert not self._thread.is_alive(), "the feed does not end"

    def _read(self) -> None:
        try:
            for batch in self.feed.messages(self._stop):
                self.messages.extend(batch)
                self.feed.stats.take_faults()
        except Exception as error:  # noqa: BLE001 (it is looked at by the test)
            self.error = error

    def wait(self, condition: Callable[[], Any], what: str, timeout: float = 120.0) -> Any:
        """Wait for a condition while the feed runs."""

        def holds() -> Any:
            assert self.error is None, self.error
            return condition()

        return wait_until(holds, timeout, what)

    def wait_for_more(self, count: int = 1, symbol: str | None = None, timeout: float = 120.0) -> None:
        """Wait for so many further messages."""
        before = self.count(symbol)
        self.wait(lambda: self.count(symbol) >= before + count, f"{count} more messages", timeout)

    def count(self, symbol: str | None = None) -> int:
        """Messages so far, of one symbol or all."""
        if symbol is None:
            return len(self.messages)
        return sum(1 for message in list(self.messages) if getattr(message, "symbol", "") == symbol)

    def quotes(self, symbol: str) -> list[Level1]:
        """Return the quotes of a symbol so far."""
        return [m for m in list(self.messages) if isinstance(m, Level1) and m.symbol == symbol]

    def prices(self, symbol: str) -> list[Price]:
        """Return the prices of a symbol so far."""
        return [m for m in list(self.messages) if isinstance(m, Price) and m.symbol == symbol]

    def numbers(self, symbol: str) -> list[int]:
        """Return the numbers that the simulated exchange put into the sizes."""
        return [int(quote.bid_size) for quote in self.quotes(symbol)]
