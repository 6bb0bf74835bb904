"""A processor that hangs with an open transaction: `BOOTSTRAP SOURCE TARGET GROUP ID FILE`."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from pathlib import Path

from confluent_kafka import Producer

from coinstream.consumer import ConsumedMessage
from coinstream.consumer.transactions import Output, TransactionalProcessor
from coinstream.settings import BrokerSettings, ConsumerSettings


def run(bootstrap: str, source: str, target: str, group: str, name: str, file: Path) -> None:
    rounds = 0

    def transform(received: list[ConsumedMessage]) -> Iterable[Output]:
        nonlocal rounds
        rounds += 1
        return [Output(target, each.key, each.message) for each in received]

    class Hangs(TransactionalProcessor):
        """Sends all of its third round, tells so, and never commits it."""

        def _send(self, producer: Producer, *words: object) -> None:
            super()._send(producer, *words)  # type: ignore[arg-type]
            if rounds == 3:
                producer.flush()
                file.touch()
                threading.Event().wait()

    settings = ConsumerSettings(offset_reset="earliest", session_timeout_ms=6000, max_poll_interval_ms=10_000)
    Hangs(
        group, [source], transform, name, BrokerSettings(brokers=bootstrap), settings, max_messages=500
    ).run(threading.Event())


if __name__ == "__main__":
    bootstrap, source, target, group, name, file = sys.argv[1:]
    run(bootstrap, source, target, group, name, Path(file))
