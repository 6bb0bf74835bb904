"""A member of a group in a process of its own: `BOOTSTRAP TOPIC GROUP FILE`. SIGTERM ends it in good order.

Every batch is one write of lines `nanoseconds partition offset number symbol`, so that a SIGKILL
loses nothing of what was handled.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions
from coinstream.messages import Level1
from coinstream.settings import BrokerSettings, ConsumerSettings


def run(bootstrap: str, topic: str, group: str, file: Path) -> None:
    out = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(batch: list[ConsumedMessage]) -> None:
        lines = []
        for each in batch:
            assert isinstance(each.message, Level1)
            number, symbol = int(each.message.best_bid), each.message.symbol
            lines.append(f"{time.monotonic_ns()} {each.partition} {each.offset} {number} {symbol}\n")
        os.write(out, "".join(lines).encode())
        # Work that takes time, so that there is always something uncommitted.
        time.sleep(0.002)

    settings = ConsumerSettings(
        offset_reset="earliest",
        session_timeout_ms=6000,
        heartbeat_interval_ms=500,
        max_poll_interval_ms=10_000,
    )
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    options = GroupOptions(batch=True, batch_size=100, commit_interval_ms=500)
    with RedpandaClient(BrokerSettings(brokers=bootstrap), consumer=settings) as client:
        client.consume([topic], note, group=group, options=options, stop=stop)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]))
