"""Provide quotes on a topic and a recording handler to the consumer tests."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage
from coinstream.messages import Level1

# Recent: the broker deletes messages by their own time, and old ones within a minute.
START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)


def quote(number: int, symbol: str, exchange: str = "binance") -> Level1:
    """Return a book top whose bid is its number: what shows order and identity."""
    at = START + timedelta(milliseconds=number)
    return Level1(exchange, symbol, float(number), number + 0.5, 1.0, 1.0, at, at)


def fill(client: RedpandaClient, topic: str, count: int, symbols: int = 20) -> None:
    """Quotes 0 … count-1; quote n is of symbol n % symbols."""
    client.produce(topic, [quote(n, f"S{n % symbols}/USDT") for n in range(count)])
    client.flush()


class Memory:
    """A handler that remembers what it was given, by symbol and in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.by_symbol: dict[str, list[int]] = defaultdict(list)
        self.batches: list[int] = []

    def one(self, received: ConsumedMessage) -> None:
        with self._lock:
            self._note(received)

    def many(self, received: list[ConsumedMessage]) -> None:
        with self._lock:
            self.batches.append(len(received))
            for each in received:
                self._note(each)

    async def one_async(self, received: ConsumedMessage) -> None:
        self.one(received)

    async def many_async(self, received: list[ConsumedMessage]) -> None:
        self.many(received)

    @property
    def numbers(self) -> Counter[int]:
        with self._lock:
            return Counter(number for numbers in self.by_symbol.values() for number in numbers)

    @property
    def total(self) -> int:
        with self._lock:
            return sum(map(len, self.by_symbol.values()))

    def in_order(self) -> bool:
        with self._lock:
            return all(numbers == sorted(numbers) for numbers in self.by_symbol.values())

    def _note(self, received: ConsumedMessage) -> None:
        assert isinstance(received.message, Level1)
        self.by_symbol[received.message.symbol].append(int(received.message.best_bid))
