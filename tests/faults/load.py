"""Load on the client under test: numbered prices of a few markets, and a record of what was acknowledged."""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Self

from coinstream.client import RecordMetadata, RedpandaClient
from coinstream.errors import CoinstreamError
from coinstream.messages import Price
from coinstream.settings import BrokerSettings, ProducerSettings
from tests.faults.delivery_check import Sent

EXCHANGE = "faults"
SYMBOLS = tuple(f"M{number}-USDT" for number in range(20))
CHUNK = 100
KEPT = {"retention.ms": "-1"}
"""Topic settings: the messages are dated, and retention would take them for old."""
_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def message(sent: Sent) -> Price:
    """Return the price that stands for a number."""
    return Price(
        exchange_id=EXCHANGE,
        symbol=sent.symbol,
        usd_price=1.0 + sent.number,
        volume_24h=float(sent.number),
        last_updated=_BEGIN + timedelta(milliseconds=sent.number),
    )


def numbered(start: int = 0) -> Sequence[Sent]:
    """Return the `CHUNK` messages from number `start` of the whole stream on; markets take turns."""
    return [Sent(SYMBOLS[n % len(SYMBOLS)], n // len(SYMBOLS)) for n in range(start, start + CHUNK)]


class Load:
    """Publishes in a thread, in calls of 100, until it is stopped. Use as a context manager."""

    def __init__(self, bootstrap: str, topic: str, settings: ProducerSettings | None = None) -> None:
        self.client = RedpandaClient(BrokerSettings(brokers=bootstrap), settings)
        self._topic = topic
        self._taken: list[Sent] = []
        self._stop = threading.Event()
        self._worker = ThreadPoolExecutor(1, "load")
        self._run = self._worker.submit(self._publish)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._worker.shutdown()

    @property
    def acknowledged(self) -> int:
        """Messages that the cluster has acknowledged. Raises what the thread raised, if it ended so."""
        if self._run.done():
            self._run.result()
        return sum(self.client.delivered.values())

    def finish(self, timeout_s: float = 90) -> list[Sent]:
        """Stop, and wait until every message is acknowledged; gives them.

        Raises:
            ProduceError: one was not.
        """
        self._stop.set()
        self._run.result(timeout_s)
        self.client.close(timeout_s)
        return self._taken

    def _publish(self) -> None:
        for start in count(0, CHUNK):
            # A pause, not a rate: the brokers share two cores with the check.
            if self._stop.wait(0.1):
                return
            chunk = numbered(start)
            self.client.produce(self._topic, [message(sent) for sent in chunk])
            self._taken.extend(chunk)


def outcomes(
    futures: dict[Sent, Future[RecordMetadata]], timeout_s: float
) -> tuple[set[Sent], dict[Sent, CoinstreamError]]:
    """Return what was acknowledged, and why the rest was not."""
    acknowledged, refused = set(), {}
    for sent, future in futures.items():
        try:
            future.result(timeout_s)
        except CoinstreamError as error:
            refused[sent] = error
        else:
            acknowledged.add(sent)
    return acknowledged, refused


def main(bootstrap: str, topic: str) -> None:
    """Send until killed, printing each message when it is acknowledged."""
    with RedpandaClient(BrokerSettings(brokers=bootstrap)) as client:
        for start in count(0, CHUNK):
            chunk = numbered(start)
            futures = {sent: client.send(topic, f"{EXCHANGE}-{sent.symbol}", message(sent)) for sent in chunk}
            for sent in outcomes(futures, 60)[0]:
                print(sent.symbol, sent.number, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
