"""Runs a sink as a member of a consumer group."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from coinstream.client import RedpandaClient
from coinstream.consumer import ConsumedMessage, GroupOptions, GroupReport
from coinstream.sinks.base import Sink


def run_sink(
    sink: Sink,
    client: RedpandaClient,
    topics: Sequence[str],
    *,
    group: str,
    options: GroupOptions | None = None,
    stop: threading.Event | None = None,
    idle_s: float | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> GroupReport:
    """Write what the group has not written yet, until `stop` is set; then close the sink.

    Args:
        idle_s: stop when nothing came for so many seconds; None goes on for ever.
        on_progress: told how many messages were handled so far, several times a second.

    Raises:
        CoinstreamError: the group stopped at an error.
    """
    # Partitions are handled concurrently, but a sink has one file or connection.
    lock = threading.Lock()

    def write(batch: list[ConsumedMessage]) -> None:
        with lock:
            sink.write(batch)

    wanted = replace(options or GroupOptions(), batch=True)
    manager = client.create_consumer_group(group, topics, write, wanted)
    watch = _Idle(idle_s)
    try:
        with manager:
            while not manager.wait(0.1) and not (stop is not None and stop.is_set()):
                report = manager.report()
                if on_progress is not None:
                    on_progress(report.handled)
                # Joining the group takes seconds, in which nothing can come.
                if watch.is_over(report.handled, report.partitions > 0):
                    break
    finally:
        sink.close()
    return manager.report()


class _Idle:
    def __init__(self, idle_s: float | None) -> None:
        self._idle_s = idle_s
        self._seen = 0
        self._since = time.monotonic()

    def is_over(self, handled: int, has_partitions: bool) -> bool:
        now = time.monotonic()
        if handled != self._seen or not has_partitions:
            self._seen, self._since = handled, now
        return self._idle_s is not None and now - self._since >= self._idle_s
